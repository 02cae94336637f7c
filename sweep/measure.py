"""`python -m sweep.measure FILE.tflite`: every metric of a file from anywhere. See `--help`.

`main` reads the file's own arguments and composes the rest, and `run` opens the file, measures it, and writes what was found.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli import command, supervisor
from sweep.cli.arguments import CommandLine
from sweep.config import compose

if TYPE_CHECKING:
    from omegaconf import DictConfig

_KEYS = ("dataset", "target", "threads", "output", "sweep.name")
_EPILOG = """\
KEY=VALUE: as of python -m sweep.main, of dataset, target, threads, output and sweep.name, and Hydra's own.
It goes to OUTPUT/measured/NAME/: metrics.json, file.json (which file, on what data, with what scaling)."""


def main() -> int:
    """The command. Returns the exit code: 0; 1 for work that failed; 2 for input that cannot be used."""
    parser = CommandLine(
        prog="python -m sweep.measure",
        description="Every metric of a .tflite file, whoever made it.",
        usage="python -m sweep.measure FILE.tflite [dataset=CHOICE] [target=CHOICE] [KEY=VALUE ...] [--range LOW HIGH]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="a .tflite file with one image as its input, scores as its output"
    )
    parser.add_argument(
        "--range",
        metavar=("LOW", "HIGH"),
        type=float,
        nargs=2,
        help="the values that black and white enter as, instead of what the file tells; a float input tells nothing: 0 1",
    )
    options, words = parser.parse_known_args()
    given = None if options.range is None else (options.range[0], options.range[1])
    with command.Command() as ended:
        place = "hydra.run.dir=${output}/measured/${sweep.name}"
        compose.run(partial(run, path=options.file, value_range=given), [place, *words], sweeps=False)
    return ended.code


def run(config: DictConfig, path: Path, value_range: tuple[float, float] | None) -> None:
    """One file on one data set."""
    with command.invoked() as invocation:
        from sweep.cli.progress import Terminal
        from sweep.config import build
        from sweep.core.metrics import METRICS
        from sweep.pipeline import foreign
        from sweep.pipeline.verification import require_budgets

        build.require_keys(invocation.overrides, _KEYS, "sweep.measure")
        build.sweep_name(config)
        store, threads = build.output(config) / "cache", build.threads(config)
        target, data = build.target(config), build.images(config)
        file = foreign.opened(path, data, value_range)
        with Terminal(invocation.folder) as terminal:
            terminal.say(file.scaling)
            metrics = foreign.record(file, data, target, invocation.folder, store=store, threads=threads, progress=terminal)
        for name, value in metrics.items():
            print(f"{name:<24}{METRICS[name].text(value):<16}{value}")
        print(f"{invocation.folder}/metrics.json")
        require_budgets(target, metrics)


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
