"""Global against local magnitude pruning, and filters of convolutions against units of dense layers: a LeNet-5 on MNIST.

    python bench/prunings.py                             the 42 trials of conf/experiment/prunings.yaml and channels.yaml
    python bench/prunings.py dataset.path=mnist.npz      the same with a local copy of the data: words are handed on
    python bench/prunings.py --table-only                the tables alone, from the trials that are there

Accuracy, sizes, zeros and the number of values in a weight tensor are counted once more in every file, where filters go their
number in each layer, parameters and multiply-accumulates too: by tests/independent.py and without any code of the project. They
must be those reported and those asked for. Prints the tables and writes docs/prunings.md; ends with 1, and writes nothing, if a
trial is missing or failed or a file is not as reported.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import (
    INDEPENDENT,
    Row,
    arguments,
    command,
    compared,
    composed,
    differing,
    markdown,
    mean,
    paired,
    points,
    recount,
    recounted,
    seeds,
    size,
    spread,
    trial,
    trials,
    write,
)

Point = tuple[str, ...]

WEIGHTS, CHANNELS = ("prune", "prune.sparsity"), ("prune.layers", "prune.sparsity")
SPARSITIES = ("0.5", "0.8", "0.9")
FRACTIONS = ("0.25", "0.5", "0.75")
LAYERS = {"conv": "convolutions", "dense": "dense layers"}
POINTS: dict[str, tuple[Point, list[Point]]] = {
    "prunings": (WEIGHTS, [("none", ""), *itertools.product(("global", "local"), SPARSITIES)]),
    "channels": (CHANNELS, [("", ""), *itertools.product(LAYERS, FRACTIONS)]),
}
# LeNet-5 by layer, in the file's order: filters, of what kind, and how many positions of an image each filter looks at.
LENET = ((6, "conv", 28 * 28), (16, "conv", 14 * 14), (120, "dense", 1), (84, "dense", 1), (10, "logits", 1))

HEAD = """# Prunings of a LeNet-5 on MNIST

{trained} epochs, {finetune} more while weights or after filters go, seeds {seeds}, float32 files. The network that was not
pruned has had the first {trained} only. Mean ± sample standard deviation over the seeds; differences are paired: for each seed
all prunings begin with the same trained network. It is a grid: nothing is chosen on a result.

{commands}

Made by `python bench/prunings.py`, which runs these and counts accuracy, bytes, zeros and values a second time in each file,
and where filters go these, parameters and multiply-accumulates too, {reader}.
All {count} files were as reported and as asked for.
"""


def main() -> int:
    options = arguments(__doc__)
    found: dict[str, dict[Point, list[Row]]] = {}
    folders: dict[str, Path] = {}
    reader = ""
    for name, (keys, wanted) in POINTS.items():
        folder, rows, faults = trials(name, options, keys, wanted)
        if not faults:
            faults, reader = recount(folder, rows, differences)
        if faults:
            print(f"{name}:", *faults, sep="\n")
            return 1
        folders[name] = folder
        found[name] = {point: [row for row in rows if tuple(row[key] for key in keys) == point] for point in wanted}
    config = composed(trial(folders["prunings"], found["prunings"]["global", SPARSITIES[0]][0]))
    rows = [row for by_point in found.values() for same in by_point.values() for row in same]
    head = HEAD.format(
        trained=config["train"]["epochs"],
        finetune=config["prune"]["finetune"],
        seeds=", ".join(filter(None, seeds(rows))) or config["seed"],
        commands="\n".join(f"    {command(folder)}" for folder in folders.values()),
        reader=reader,
        count=len(rows),
    )
    page = [head, *weights_table(found["prunings"]), *channels_table(found["channels"])]
    write(options.docs, "prunings.md", "\n".join(page))
    return 0


def differences(row: Row, folder: Path, images: Any, labels: Any) -> Iterator[str]:
    """What is not as the row says, or not as it was asked for."""
    content = (folder / "model.tflite").read_bytes()
    kernels = INDEPENDENT["weights"](content)
    found = recounted(content, kernels, images, labels)
    asked, layers = float(row["prune.sparsity"] or 0), row.get("prune.layers")
    if layers:
        expected = [count - round(asked * count) * (kind == layers) for count, kind, _ in LENET]
        left = [kernel["shape"][0] for kernel in kernels]
        if left != expected:
            yield f"filters {expected} asked for, {left} found"
            return
        found["sparsity"] = 1 - left_of(left, layers) / left_of([count for count, _, _ in LENET], layers)
        found["parameters"] = sum(map(size, kernels)) + sum(left)
        found["macs"] = sum(size(kernel) * places for kernel, (_, _, places) in zip(kernels, LENET, strict=True))
    elif abs(found["sparsity"] - asked) > 1e-4:
        yield f"a sparsity of {asked} asked for, {found['sparsity']} found"
    yield from differing(row, found)


def left_of(counts: Sequence[int], layers: str) -> int:
    """The filters of the layers of a kind."""
    return sum(count for count, (_, kind, _) in zip(counts, LENET, strict=True) if kind == layers)


def weights_table(rows: Mapping[Point, Sequence[Row]]) -> Iterator[str]:
    """Global and local side by side: pruning and sparsity to the trials."""
    yield "## Weights: one threshold over all layers, or the same fraction of each?\n"
    yield f"Test accuracy in per cent; bytes gzipped. Not pruned: {spread(points(rows['none', '']))} %.\n"
    header = ["sparsity", "`global`", "`local`", "`global` less `local`", "`global`, bytes", "`local`, bytes"]
    both = ((sparsity, [rows[pruning, sparsity] for pruning in ("global", "local")]) for sparsity in SPARSITIES)
    yield markdown(
        header,
        (
            [
                f"{100 * float(sparsity):.0f} %",
                *(spread(points(same)) for same in pair),
                compared(paired(*pair)),
                *(f"{mean(same, 'gzip_bytes'):,.0f}" for same in pair),
            ]
            for sparsity, pair in both
        ),
    )


def channels_table(rows: Mapping[Point, Sequence[Row]]) -> Iterator[str]:
    """What goes with the filters of each kind of layer: layers and fraction to the trials."""
    yield "## Filters: those of the convolutions, or units of the dense layers?\n"
    yield "Of each layer that part, rounded to whole filters; what a filter fed goes with it, and the logits stay.\n"
    header = ["removed", "test accuracy, %", "parameters", "multiply-accumulates", "bytes", "gzipped"]
    counted = ("parameters", "macs", "size_bytes", "gzip_bytes")
    yield markdown(
        header,
        (
            [
                f"{100 * float(fraction):.0f} % of the {LAYERS[layers]}" if layers else "nothing",
                spread(points(same)),
                *(f"{mean(same, name):,.0f}" for name in counted),
            ]
            for (layers, fraction), same in rows.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
