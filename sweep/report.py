"""`python -m sweep.report NAME`: rebuilds a sweep's tables, plots and report from its records."""

from __future__ import annotations

import sys

from sweep.cli import sweep_arguments
from sweep.core.errors import ConfigError
from sweep.reporting.report import write
from sweep.results import reader


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0; 1 where nothing can be written; 2 for input that cannot be used."""
    parser = sweep_arguments.CommandLine(
        "python -m sweep.report", "Rebuild the tables, plots and report of a sweep from its records."
    )
    options = parser.parse_args(arguments)
    try:
        report = write(reader.find(options.output, options.name))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not report.front:
        print("note: no complete trial keeps the constraints, so there is no front", file=sys.stderr)
    for path in report.paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
