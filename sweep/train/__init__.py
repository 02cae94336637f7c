"""The training loop, its goals, recipes and constraints."""
