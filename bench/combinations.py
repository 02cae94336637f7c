"""Every pruning with every quantisation, on three kinds of network: does the file run, and is it what was asked for?

    python bench/combinations.py                 the 306 trials of conf/experiment/combinations.yaml, then the table
    python bench/combinations.py --table-only    the table alone, from the trials that are there

Accuracy, sizes, zeros, filters and the number of values in a weight tensor are counted once more in every file, by
tests/independent.py and without any code of the project, and must be those reported. Writes docs/combinations.md; ends with 1
if anything differs or is missing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tables import (
    INDEPENDENT,
    Kernels,
    Row,
    arguments,
    differing,
    markdown,
    read,
    recounted,
    run,
    size,
    targets,
    trial,
    write,
)

PRUNINGS = ("none", "global", "local", "channels_global", "channels_local", "n_m")
QUANTISATIONS = ("none", "float16", "dynamic", *(f"{kind} {bits}" for kind in ("ptq", "qat") for bits in range(2, 9)))
NETWORKS = {
    "resnet8": "Residual: `resnet8`",
    "mobilenet": "Depthwise: `mobilenet`",
    "khan_student": "Plain: `khan_student`",
}

HEAD = """# Every pruning with every quantisation

Half the width of three networks, on scikit-learn's digits (64 pixels; a fifth of the training images for validation), one
seed: 15 epochs, 3 after pruning to a half, 2 of quantisation-aware training. So this shows what works and what it weighs;
accuracies of networks so small, on 360 test images, are orders of magnitude. Made by `python bench/combinations.py` on two
cores, which counts accuracy, bytes, zeros, filters and values a second time in each file, without any code of this project:
{right} of {count} files were as reported.

A cell: test accuracy in per cent; bytes of the file, and gzipped; milliseconds an image; bytes of RAM under TensorFlow Lite for
Microcontrollers, where that runs the file.
"""


def main() -> int:
    options = arguments(__doc__)
    if not options.table_only:
        run("combinations", options)
    folder = options.output / "sweeps" / "combinations"
    rows = read(folder)
    expected = len(NETWORKS) * len(PRUNINGS) * len(QUANTISATIONS)
    if len(rows) != expected:
        print(f"expected {expected} trials, found {len(rows)}: run it again to go on")
        return 1
    whole = {
        row["model"]: filters(INDEPENDENT["weights"]((trial(folder, row) / "model.tflite").read_bytes()))
        for row in rows
        if row["prune"] == "none" and row["quant"] == "none" and row["state"] == "COMPLETE"
    }
    faults = [f"{row['number']}: {fault}" for row in rows for fault in differences(row, trial(folder, row), whole)]
    wrong = {fault.partition(":")[0] for fault in faults}
    head = HEAD.format(right=len(rows) - len(wrong), count=len(rows))
    write(options.docs, "combinations.md", "\n".join([head, *tables(rows)]))
    print("\n".join(faults) or "every file is as reported")
    return 1 if faults else 0


def form(row: Row) -> str:
    """The quantisation of a row, with its bits."""
    return f"{row['quant']} {row['quant.bits']}".strip()


def filters(kernels: Kernels) -> int:
    """How many filters the full convolutions and dense layers have, but for the ten of the logits."""
    return sum(kernel["shape"][0] for kernel in targets(kernels)) - 10


def differences(row: Row, folder: Path, whole: dict[str, int]) -> Iterator[str]:
    """What is not as the row says, or not as it was asked for."""
    if row["state"] != "COMPLETE":
        yield f"{row['state']} {row['error']}"
        return
    content = (folder / "model.tflite").read_bytes()
    kernels = INDEPENDENT["weights"](content)
    found = recounted(content, kernels, *INDEPENDENT["digits"]())
    if row["prune"].startswith("channels"):
        found["sparsity"] = 1 - filters(kernels) / whole[row["model"]]
    yield from differing(row, found)
    if row["quant.bits"]:
        bits = int(row["quant.bits"])
        kind, most = "INT4" if bits <= 4 else "INT8", found["distinct_weight_levels"]
        if {kernel["type"] for kernel in kernels} != {kind} or most > 2**bits - 1:
            yield f"{bits} bits asked for, {Counter(kernel['type'] for kernel in kernels)} and {most} values found"
    # 2 of 4 along the input channels, which lie last; the rest of a row keeps half, rounded up.
    pruned = targets(kernels)
    zeros = sum(kernel["zeros"] for kernel in pruned)
    least = sum(size(kernel) // kernel["shape"][-1] * rest(kernel["shape"][-1]) for kernel in pruned)
    if row["prune"] == "n_m" and zeros < least:
        yield f"{least} zeros asked for, {zeros} found"
    if row["prune"] not in ("none", "n_m") and found["sparsity"] < 0.47:
        yield f"half of all weights or filters asked for, {found['sparsity']} found"


def rest(channels: int) -> int:
    """How many weights of a row of so many go, of 4 two."""
    last = channels % 4
    return channels // 4 * 2 + last - -(-last * 2 // 4)


def tables(rows: list[Row]) -> Iterator[str]:
    """A table a network: quantisations down, prunings across."""
    cells = {(row["model"], row["prune"], form(row)): cell(row) for row in rows}
    for network, title in NETWORKS.items():
        yield f"## {title}\n"
        header = ["`quant`, bits", *(f"`{pruning}`" for pruning in PRUNINGS)]
        lines = (
            [quantisation, *(cells.get((network, pruning, quantisation), "") for pruning in PRUNINGS)]
            for quantisation in QUANTISATIONS
        )
        yield markdown(header, lines)


def cell(row: Row) -> str:
    if row["state"] != "COMPLETE":
        return "fails"
    accuracy, stored, packed = 100 * float(row["test_accuracy"]), int(row["size_bytes"]), int(row["gzip_bytes"])
    memory = f"; {float(row['arena_bytes']):,.0f}" if row.get("arena_bytes") else ""
    return f"{accuracy:.1f}; {stored:,} ({packed:,}); {float(row['latency_ms']):.3f}{memory}"


if __name__ == "__main__":
    sys.exit(main())
