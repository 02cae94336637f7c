"""Pruning. Each choice of the `prune` group has its module: `magnitude`, `random`, `patterns` and `filters`.

`weight_pruning` has the masks and the fine-tuning that weight pruning shares, `schedules` the sparsity schedules, and
`dependency_graph` the removal of channels.
"""
