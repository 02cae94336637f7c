"""The study of arXiv 2305.08075 on MNIST: which of distillation, pruning and quantisation help, and in which order.

    python bench/khan_mnist.py                             the 54 trials of conf/experiment/khan_mnist.yaml, then the tables
    python bench/khan_mnist.py dataset.path=mnist.npz      the same with a local copy of the data: words are handed on
    python bench/khan_mnist.py --table-only                the tables alone, from the trials that are there

Accuracy, sizes, zeros and the number of values in a weight tensor are counted once more in every file, by tests/independent.py
and without any code of the project, and must be those reported. Prints the tables and writes docs/khan_mnist.md; ends with 1,
and writes nothing, if a trial is missing or failed or a file is not as reported.
"""

from __future__ import annotations

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
    spread,
    trial,
    trials,
    verdict,
    write,
)

CASE = "+experiment/khan"
CASES = {
    "baseline": "the student alone",
    "d": "distilled",
    "p": "pruned",
    "q": "int8 weights",
    "qat": "QAT",
    "d_p": "distilled, then pruned",
    "p_d": "pruned, then distilled",
    "d_q": "distilled, int8 weights",
    "d_qat": "distilled, QAT",
    "p_q": "pruned, int8 weights",
    "p_qat": "pruned, QAT",
    "d_p_q": "distilled, then pruned; int8 weights",
    "p_d_q": "pruned, then distilled; int8 weights",
    "d_p_qat": "distilled, then pruned; QAT",
    "p_d_qat": "pruned, then distilled; QAT",
    "taught": "distilled, pruned, QAT, the teacher throughout",
    "teacher": "the teacher",
    "teacher_p": "the teacher, pruned",
}
# Test accuracy in per cent and bytes, as the study's released notebooks print them.
STUDY = {
    "teacher": ("97.74", "6,210,224"),
    "d_q": ("97.62", "24,464"),
    "d_qat": ("97.55", "25,504"),
    "teacher_p": ("98.67", ""),
}
ORDERS = {"float32": ("d_p", "p_d"), "int8 weights": ("d_p_q", "p_d_q"), "QAT": ("d_p_qat", "p_d_qat")}
ALONE = ("d", "p", "q", "qat")

HEAD = """# The study of arXiv 2305.08075, on MNIST

Its student of 20,490 parameters, alone and with distillation, pruning (80 % of all weights go) and quantisation: with each,
with each two of them, and with all three in both orders. Every student learns for ten epochs in all, however they are divided
(`conf/experiment/khan` says how; the table has the epochs stage by stage); the teacher of 1,551,958 parameters for six, once
a seed. Of MNIST's 60,000 training images {trained:,} are trained on; the 10,000 test images are for the finished files only.
Seeds {seeds}. Int8 weights are dynamic-range quantisation, QAT makes full-integer files on 8 bits, all others are float32.
It is a grid: nothing is chosen on a result.

    {command}

Made by `python bench/khan_mnist.py`, which runs this and counts accuracy, bytes, zeros and values a second time in each file,
{reader}. All {count} files were as reported.

Mean ± sample standard deviation over the seeds; bytes are means. Efficiency is test accuracy in per cent per KiB of the file.
The study's numbers are those in its released notebooks, one run each with a training of its own: a neighbour, not a yardstick.
"""

ORDER_NOTE = """
Differences of test accuracy in points of a per cent, paired over the seeds; yes where all are above zero, no where none is. The
two orders share out the ten epochs differently: distilling first, the teacher has its word in more of them.
"""


def main() -> int:
    options = arguments(__doc__)
    folder, rows, faults = trials("khan_mnist", options, (CASE,), [(case,) for case in CASES])
    reader = ""
    if not faults:
        faults, reader = recount(folder, rows, differences)
    if faults:
        print("\n".join(faults))
        return 1
    by_case = {case: [row for row in rows if row[CASE] == case] for case in CASES}
    configs = {case: composed(trial(folder, found[0])) for case, found in by_case.items()}
    head = HEAD.format(
        trained=trained(configs["baseline"]["dataset"]),
        seeds=", ".join(filter(None, seeds(rows))) or configs["baseline"]["seed"],
        command=command(folder),
        reader=reader,
        count=len(rows),
    )
    epochs = {case: epochs_of(config) for case, config in configs.items()}
    write(options.docs, "khan_mnist.md", "\n".join([head, *tables(by_case, epochs)]))
    return 0


def differences(row: Row, folder: Path, images: Any, labels: Any) -> Iterator[str]:
    """What is not as the row says, or not as it was asked for."""
    content, config = (folder / "model.tflite").read_bytes(), composed(folder)
    kernels = INDEPENDENT["weights"](content)
    found = recounted(content, kernels, images, labels)
    yield from differing(row, found)
    asked = config["prune"].get("sparsity", 0)
    if found["sparsity"] < asked - 1e-4:
        yield f"a sparsity of {asked} asked for, {found['sparsity']} found"
    kinds = {kernel["type"] for kernel in kernels}
    floats = config["quant"]["_target_"].endswith(".Float32")
    if (kinds != {"FLOAT32"}) if floats else ("INT8" not in kinds):
        yield f"{'FLOAT32' if floats else 'INT8'} asked for, {', '.join(sorted(kinds))} found"


def trained(dataset: Mapping[str, Any]) -> int:
    """How many of MNIST's training images a trial learns from."""
    return int(dataset["limit"] or 60_000 - round(60_000 * dataset["validation"]))


def epochs_of(config: Mapping[str, Any]) -> str:
    """The epochs of each stage that trains, in the order of the pipeline."""
    found = [config["train"]["epochs"]]
    for stage in config["pipeline"]["order"][1:]:
        key = "epochs" if stage == "distill" else "finetune"
        found.append(config.get(stage, {}).get(key, 0))
    return " + ".join(str(epochs) for epochs in found if epochs)


def tables(rows: Mapping[str, Sequence[Row]], epochs: Mapping[str, str]) -> Iterator[str]:
    """The cases, the answers, and the accuracies seed by seed.

    Args:
        rows: case to its complete trials, one a seed.
        epochs: case to the epochs of its stages.
    """
    header = ["case", "epochs", "test accuracy, %", "bytes", "gzipped", "efficiency", "study: accuracy, %", "study: bytes"]
    yield markdown(
        header, ([CASES[case], epochs[case], *cells(found), *STUDY.get(case, ("", ""))] for case, found in rows.items())
    )
    yield "## Is distilling first better than pruning first?"
    yield ORDER_NOTE
    for name, (first, second) in ORDERS.items():
        gains = paired(rows[first], rows[second])
        yield f"- {name}: {verdict(gains)} ({compared(gains)})."
    yield "\n## Does each of the three help alone?\n"
    yield "Against the student alone: test accuracy as above, and the size that is left.\n"
    for case in ALONE:
        gains = paired(rows[case], rows["baseline"])
        stored, packed = (mean(rows[case], name) / mean(rows["baseline"], name) for name in ("size_bytes", "gzip_bytes"))
        left = f"{stored:.2f} of the bytes, {packed:.2f} of the gzipped ones"
        yield f"- {CASES[case]}: {verdict(gains)} ({compared(gains)}); {left}."
    yield "\n## Seed by seed\n\nTest accuracy in per cent.\n"
    order = seeds(row for found in rows.values() for row in found)
    by_seed = {case: {row.get("seed", ""): row for row in found} for case, found in rows.items()}
    accuracies = ([CASES[case], *(f"{value:.2f}" for value in points(by_seed[case][seed] for seed in order))] for case in rows)
    yield markdown(["case", *(f"seed {seed}".strip() for seed in order)], accuracies)


def cells(found: Sequence[Row]) -> tuple[str, ...]:
    """Accuracy, bytes, bytes gzipped and efficiency of a case."""
    small = mean(found, "efficiency")
    return (
        spread(points(found)),
        f"{mean(found, 'size_bytes'):,.0f}",
        f"{mean(found, 'gzip_bytes'):,.0f}",
        f"{small:.2f}" if small >= 0.1 else f"{small:.4f}",
    )


if __name__ == "__main__":
    sys.exit(main())
