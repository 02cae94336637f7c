"""The default sweeper: `hydra/sweeper=pareto`."""
