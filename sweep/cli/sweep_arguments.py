"""The arguments of the commands that work on a finished sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from sweep.cli import arguments


class CommandLine(arguments.CommandLine):
    """The command line of what works on a sweep: its NAME, and `--output`."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("name", metavar="NAME", help="the sweep: the name of its folder under OUTPUT/sweeps/")
        self.add_argument("--output", type=Path, default=Path("mlruns"), help="the folder that runs write to (mlruns)")
