"""The records of a sweep, its Pareto front, and the choice of a model."""
