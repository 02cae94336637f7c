"""One trial. Start in `trial.execute`, which runs the stages, writes the files and logs the run.

`plan` is the validated configuration. `graph.stage_nodes` orders the stages, `executor` and `runner` apply them through
`cache`. `conversion` makes the file, `verification` checks it, and `measurement` measures it.
"""
