"""The command-line parser of the commands that read a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from sweep.cli import arguments


class CommandLine(arguments.CommandLine):
    """A parser with the arguments NAME and `--output`."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("name", metavar="NAME", help="the sweep: the name of its folder under OUTPUT/sweeps/")
        self.add_argument("--output", type=Path, default=Path("mlruns"), help="the folder that runs write to (mlruns)")
