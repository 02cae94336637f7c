"""What the measured tables share: run a sweep, read its trials, count their files a second time, and write Markdown.

    from tables import arguments, trials      in a script of this folder

Scope: rows are those of `trials.csv`, as text. What is counted again is counted by tests/independent.py, without any code of
the project. Which trials a table has, and what it says of them, is the business of each script.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import runpy
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
INDEPENDENT = runpy.run_path(str(ROOT / "tests" / "independent.py"))
PLACES = ("output=", "sweep.name=", "dataset.path=")

Row = dict[str, str]
Kernels = list[dict[str, Any]]
Differences = Callable[[Row, Path, Any, Any], Iterable[str]]
"""What is not as it was reported or asked for, from a row, its folder, the test images and their labels."""


def arguments(description: str | None) -> argparse.Namespace:
    """The command line: output, docs, table_only and words, the overrides that the sweep is given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "mlruns", help="where the runs go (mlruns)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes (docs)")
    parser.add_argument("--table-only", action="store_true", help="no run: the trials that are there")
    parser.add_argument("words", nargs="*", metavar="override", help="handed on to the sweep: dataset.path=FILE.npz")
    return parser.parse_intermixed_args()


def trials(
    experiment: str, options: argparse.Namespace, keys: Sequence[str], wanted: Iterable[tuple[str, ...]]
) -> tuple[Path, list[Row], list[str]]:
    """Run the experiment as the sweep of its name, or go on with it.

    Args:
        experiment: its name.
        options: see `arguments`.
        keys: what tells the trials apart, but for their seed.
        wanted: what stands under the keys, of every trial that the table needs.

    Returns:
        The sweep's folder, its rows, and what is missing of it: of a table that has all its trials nothing.
    """
    folder = options.output / "sweeps" / experiment
    code = 0 if options.table_only else run(experiment, options)
    rows = read(folder)
    if not rows:
        return folder, rows, [f"{folder} has no trials.csv: the sweep has not come to its end"]
    faults = list(lacking(rows, (*keys, "seed"), [(*point, seed) for point in wanted for seed in seeds(rows)]))
    return folder, rows, faults or ([f"the sweep ended with {code}"] if code else [])


def run(experiment: str, options: argparse.Namespace) -> int:
    """Run the experiment as the sweep of its name, or go on with it. Returns the exit code."""
    command = [sys.executable, "-m", "sweep.main", "-m", f"+experiment={experiment}", f"sweep.name={experiment}"]
    output = f"output={options.output.absolute()}"
    return subprocess.run([*command, output, *options.words], cwd=ROOT, check=False).returncode


def read(folder: Path) -> list[Row]:
    """The rows of a sweep's folder; none where it has not come to its end."""
    path = folder / "trials.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lacking(rows: Sequence[Row], keys: Sequence[str], wanted: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Which of the wanted trials, each by what it has under the keys, are not there or not complete."""
    found = {tuple(row.get(key, "") for key in keys): row for row in rows}
    for point in wanted:
        name = " ".join(f"{key}={value}" for key, value in zip(keys, point, strict=True) if value)
        if point not in found:
            yield f"{name}: no such trial"
        elif found[point]["state"] != "COMPLETE":
            yield f"{name}: trial {found[point]['number']} {found[point]['state']} {found[point]['error']}".rstrip()


def seeds(rows: Iterable[Row]) -> list[str]:
    """The seeds that occur, in order; "" where no seed was swept."""
    return sorted({row.get("seed", "") for row in rows}, key=lambda seed: (len(seed), seed))


def trial(folder: Path, row: Row) -> Path:
    """The folder of a row."""
    return folder / f"trial-{int(row['number']):03d}"


def composed(folder: Path) -> dict[str, Any]:
    """The configuration in a trial's folder."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config


def command(folder: Path) -> str:
    """What made the sweep in a folder, without the words that only name places."""
    words = shlex.split(json.loads((folder / "sweep.json").read_text())["command"])
    return shlex.join(word for word in words if not word.startswith(PLACES))


def test_images(config: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """The test split of a trial's data set, and who has read it.

    Returns:
        Images uint8 (n, height, width, channels), labels (n,), and the words that say by what code they were read.
    """
    path = config["dataset"].get("path")
    if path and Path(path).suffix == ".npz":
        with np.load(ROOT / Path(path).expanduser(), allow_pickle=False) as data:
            images, labels = data["x_test"], data["y_test"].ravel()
        return images if images.ndim == 4 else images[..., None], labels, "without any code of this project"
    from hydra.utils import instantiate

    split = instantiate(config["dataset"]).load().test
    return split.images, split.labels, "without any code of this project but what reads the images"


def targets(kernels: Kernels) -> Kernels:
    """The kernels that can be pruned: of full convolutions and dense layers."""
    return [kernel for kernel in kernels if kernel["operator"] != "DEPTHWISE_CONV_2D"]


def size(kernel: Mapping[str, Any]) -> int:
    """How many weights a kernel has."""
    return math.prod(kernel["shape"])


def recounted(content: bytes, kernels: Kernels, images: Any, labels: Any) -> dict[str, float]:
    """Metrics of a file, counted once more; `sparsity` is that of the weights."""
    accuracy = INDEPENDENT["accuracy"](content, images, labels)
    pruned = targets(kernels)
    return {
        "test_accuracy": accuracy,
        "size_bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, 9, mtime=0)),
        "efficiency": 100 * accuracy / (len(content) / 1024),
        "distinct_weight_levels": max(kernel["values"] for kernel in kernels),
        "sparsity": sum(kernel["zeros"] for kernel in pruned) / sum(map(size, pruned)),
    }


def recount(folder: Path, rows: Sequence[Row], differences: Differences) -> tuple[list[str], str]:
    """What is found otherwise in the trials' files, each with the trial's number; and by what code the images were read."""
    images, labels, reader = test_images(composed(trial(folder, rows[0])))
    found = ((row, differences(row, trial(folder, row), images, labels)) for row in rows)
    return [f"{row['number']}: {fault}" for row, faults in found for fault in faults], reader


def differing(row: Row, found: Mapping[str, float]) -> Iterator[str]:
    """What a row reports otherwise than it was found."""
    for name, value in found.items():
        if abs(value - float(row[name])) > 1e-9:
            yield f"{name} {row[name]} reported, {value} found"


def mean(rows: Iterable[Row], name: str) -> float:
    """Of a metric over rows."""
    return statistics.fmean(float(row[name]) for row in rows)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean ± sample standard deviation; of a single value, the value."""
    shown = format(statistics.fmean(values), form)
    return f"{shown} ± {statistics.stdev(values):.2f}" if len(values) > 1 else shown


def points(rows: Iterable[Row]) -> list[float]:
    """Their test accuracies in per cent."""
    return [100 * float(row["test_accuracy"]) for row in rows]


def paired(ones: Sequence[Row], others: Sequence[Row]) -> list[float]:
    """Test accuracy of the ones less that of the others, seed by seed, in points of a per cent.

    Raises:
        ValueError: for rows that have not the same seeds, each once.
    """
    by_seed = [{row.get("seed", ""): row for row in rows} for rows in (ones, others)]
    if by_seed[0].keys() != by_seed[1].keys() or not len(by_seed[0]) == len(ones) == len(others):
        raise ValueError(f"expected the same seeds; received {seeds(ones)} and {seeds(others)}")
    order = seeds(ones)
    return [one - other for one, other in zip(*(points(rows[seed] for seed in order) for rows in by_seed), strict=True)]


def compared(differences: Sequence[float]) -> str:
    """Mean ± sample standard deviation of paired differences, and how many are above zero."""
    above = sum(difference > 0 for difference in differences)
    return f"{spread(differences, '+.2f')} points, above with {above} of {len(differences)} seeds"


def verdict(differences: Sequence[float]) -> str:
    """`yes` where every difference is above zero, `no` where none is; otherwise the seeds do not agree."""
    above = [difference > 0 for difference in differences]
    return "yes" if all(above) else "the seeds do not agree" if any(above) else "no"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write(docs: Path, name: str, text: str) -> None:
    """Print a page and write it."""
    print(text)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / name).write_text(text)
