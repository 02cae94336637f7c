"""A finished sweep. Start in `reader`, which reads its records into the dataclasses of `sweeps`.

`pareto` has dominance, hypervolume and the knee in numpy, `ranking` applies them to a sweep, `budget` chooses a model, and
`constraints` parses bounds on metrics.
"""
