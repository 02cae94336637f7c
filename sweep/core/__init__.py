"""What every package may use.

`types` has the data that packages exchange, `stage` the contract of a stage, `metrics` the table of metrics, and `errors` the
error for invalid input.
"""
