"""The search of a sweep. Start in `sweeper`, which has the order of a sweep, then `loop`, which runs its trials.

`axes`, `conditions` and `space` define the search space, `study` proposes points, `pool` and `batches` run trials in processes,
`recorder` writes the records, and `parent_run` logs the sweep to MLflow.
"""
