"""What the commands share. Start in `command`: start-up, exit codes, and one line for each error.

`supervisor` runs a command in a child process and reports its crash, `progress` draws the progress bar, and `arguments` and
`sweep_arguments` parse the command lines without Hydra.
"""
