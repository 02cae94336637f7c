"""The default launcher: `hydra/launcher=workers`."""
