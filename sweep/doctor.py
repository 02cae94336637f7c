"""`python -m sweep.doctor`: whether this machine has what a run needs, a line for each thing. See `--help`."""

from __future__ import annotations

import sys
from pathlib import Path

from sweep.cli.arguments import CommandLine
from sweep.cli.diagnosis import Level, findings


def main(arguments: list[str] | None = None) -> int:
    """The command.

    Returns:
        The exit code: 0; 1 where something is bad; 2 for input that cannot be used.
    """
    parser = CommandLine(
        prog="python -m sweep.doctor",
        description="Whether this machine has what a run needs: good, warning or bad, and the mend.",
    )
    parser.add_argument("--output", type=Path, default=Path("mlruns"), help="the folder of results (mlruns)")
    parser.add_argument("--tracking-uri", metavar="URI", help="the tracking store (sqlite:///OUTPUT/mlflow.db)")
    options = parser.parse_args(arguments)
    uri = options.tracking_uri or f"sqlite:///{options.output}/mlflow.db"
    bad = 0
    for finding in findings(options.output, uri):
        bad += finding.level is Level.BAD
        mend = f"\n{'':<25}-> {finding.mend}" if finding.mend else ""
        print(f"{finding.level.value:<9}{finding.subject:<16}{finding.text}{mend}", flush=True)
    print("something is bad: see above" if bad else "nothing is bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
