"""Configuration: from a command line to validated objects. Start in `compose.run`, then `build.job`.

`guard` and `places` refuse configurations that Hydra must not act on, `targets` checks each `_target_`, `membership` reads a
trial's place in its sweep, and `explain` turns an error into one line.
"""
