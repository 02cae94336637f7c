"""One trial: its plan, its graph of stages, the stage cache, and the files that it leaves."""
