"""`python -m sweep.best NAME`: exports the best model of a sweep within a budget."""

from __future__ import annotations

import sys
from pathlib import Path

from sweep.cli import sweep_arguments
from sweep.core.errors import ConfigError
from sweep.core.metric import Kind, Prominence
from sweep.core.metrics import METRICS, of_kind, seen_in
from sweep.reporting.export import export
from sweep.results import reader
from sweep.results.budget import Budget, NoneFits, choose, known, overrides_text


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0; 1 where nothing keeps the budget; 2 for input that cannot be used."""
    parser = sweep_arguments.CommandLine(
        "python -m sweep.best", "Export the best model of a sweep: .tflite, C and C++ source to flash, model card."
    )
    parser.add_argument("--max-kib", type=float, metavar="N", help="at most so many KiB: then the most accurate")
    parser.add_argument(
        "--min-accuracy",
        type=float,
        metavar="A",
        help="at least this validation accuracy (0.97); without --max-kib, the smallest",
    )
    parser.add_argument(
        "--max-ram-kib", type=float, metavar="N", help="at most so many KiB of RAM: arena_bytes, on an Ethos-U npu_sram_bytes"
    )
    parser.add_argument(
        "--max-ms",
        "--max-latency-ms",
        type=float,
        metavar="T",
        help="at most so many milliseconds an image: latency_ms, on an Ethos-U npu_ms",
    )
    parser.add_argument("--target", metavar="TARGET", help="only files that run there: litert, tflm, ethos_u55_128, …")
    parser.add_argument(
        "--metric", choices=of_kind(Kind.FILE_SIZE), default=Budget.metric, help="which size counts (size_bytes)"
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the export goes (OUTPUT/sweeps/NAME/best)")
    options = parser.parse_args(arguments)
    try:
        budget = Budget(
            max_kib=options.max_kib,
            min_accuracy=options.min_accuracy,
            max_ms=options.max_ms,
            metric=options.metric,
            max_ram_kib=options.max_ram_kib,
            target=options.target,
        )
        sweep = reader.read(reader.find(options.output, options.name))
        trial = choose(sweep, budget)
        folder = sweep.folder / "best" if options.to is None else options.to
        export(sweep, trial, folder, budget)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NoneFits, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    headline = dict.fromkeys([*seen_in(Prominence.HEADLINE), *budget.order, *budget.limits])
    values = ", ".join(f"{name} {METRICS[name].in_line(trial.metrics[name])}" for name in headline if known(trial, name))
    print(f"trial {trial.number} ({overrides_text(trial)}): {values}\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
