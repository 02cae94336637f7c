"""A trial. Start in `trial.execute`: the executor runs the stages, then the files are written and logged.

`plan` has the validated configuration, `graph.stage_nodes` orders the stages, `executor` and `runner` apply them through
`cache`, and `conversion`, `verification` and `measurement` make the file, check it and measure it.
"""
