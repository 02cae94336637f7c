"""Does pruning or clustering shrink anything on a device? A ResNet-8 and a MobileNet in float32, int8 and int4.

    python bench/devices.py                              the 36 trials of conf/experiment/devices.yaml, then the tables
    python bench/devices.py dataset.path=cifar10.npz     the same with a local copy of the data: words are handed on
    python bench/devices.py --table-only                 the tables alone, from the trials that are there

Accuracy, sizes, zeros and the number of values in a weight tensor are counted once more in every file, by tests/independent.py
and without any code of the project, and must be those reported and those asked for. Then every file is stored sparsely, and
compiled by Vela for the NPU of conf/target/ethos_u55_128.yaml. The answers of the page are computed from the numbers. Prints
the page and writes docs/pruning_on_devices.md; ends with 1, and writes nothing, if a trial is missing or failed, or a file is
not as reported or as asked for.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tables import (
    INDEPENDENT,
    ROOT,
    Kernels,
    Row,
    arguments,
    command,
    composed,
    differing,
    markdown,
    mean,
    points,
    recount,
    recounted,
    seeds,
    spread,
    targets,
    test_images,
    trial,
    trials,
    write,
)

from sweep.tflite import vela
from sweep.tflite.minimize.smallest import smallest

NETWORKS = {"resnet8": "ResNet-8", "mobilenet": "MobileNet"}
FORMS = {"float32": ("none", ""), "int8": ("ptq", "8"), "int4": ("ptq", "4")}
PRUNINGS = {"0": ("none", ""), "0.5": ("global", "0.5"), "0.8": ("global", "0.8")}
CLUSTERINGS = {"": "none", "16": "kmeans"}
KEYS = ("model", "quant", "quant.bits", "prune", "prune.sparsity", "cluster")
NPU_NUMBERS = ("npu_bytes", "npu_ms", "npu_sram_bytes")
ON_THE_NPU, SPARSE = "int8", ("float32", "int8")  # the forms that Vela compiles, and that can be stored sparsely
ASKED = {
    "50 % zeros": ("0.5", ""),
    "80 % zeros": ("0.8", ""),
    "16 clusters": ("0", "16"),
    "80 % zeros in 16 clusters": ("0.8", "16"),
}
DEVICES = {
    "microcontroller (TFLM): flash": "size_bytes",
    "microcontroller (TFLM): RAM": "arena_bytes",
    "Ethos-U: flash": "npu_bytes",
    "Ethos-U: SRAM": "npu_sram_bytes",
    "Ethos-U: time of an image": "npu_ms",
    "download: file, gzipped": "gzip_bytes",
    "LiteRT: file with `quant.sparse=true`": "sparse_bytes",
}
COMPARED = 32  # test images on which a file that is stored sparsely must answer as before
SAME = 0.01  # files or arenas that differ by less count as equal


@dataclass(frozen=True, order=True)
class Variant:
    """A network in a form, pruned or not, clustered or not.

    Attributes:
        network: its choice in the group `model`.
        form: what the file stores: a key of `FORMS`.
        zeros: the sparsity asked for, "0" for a network that was not pruned.
        clusters: how many values a kernel may have, "" for any number.
    """

    network: str
    form: str
    zeros: str = "0"
    clusters: str = ""

    @property
    def point(self) -> tuple[str, ...]:
        """What its trial has under `KEYS`."""
        return (self.network, *FORMS[self.form], *PRUNINGS[self.zeros], CLUSTERINGS[self.clusters])


VARIANTS = [Variant(*names) for names in itertools.product(NETWORKS, FORMS, PRUNINGS, CLUSTERINGS)]
BY_POINT = {variant.point: variant for variant in VARIANTS}
Files = Mapping[Variant, Sequence[Row]]
"""The trials of each variant, one a seed, with `sparse_bytes` and what Vela estimates; an absent number is ""."""

HEAD = """# Does pruning shrink anything on my device?

{answers}

## What was measured

CIFAR-10, {trained:,} training images, {epochs} epochs, {pruned} more under pruning (one threshold for all layers),
{clustered} more under clustering, full-integer files by post-training quantisation, {seeds}. These are short trainings: sizes,
RAM and time are the subject, accuracies are orders of magnitude, and a pruned or clustered network has trained longer.

    {command}

Made by `python bench/devices.py`, which runs this, counts accuracy, bytes, zeros and values a second time in each file,
{reader}, and compiles each for an Ethos-U.
All {count} files were as reported and as asked for.

- asked for: the zeros, and the most values of a kernel of a convolution or dense layer (depthwise kernels are neither pruned
  nor clustered). In a float32 file each filter has values of its own, since batch normalisation is folded into the kernel. A
  4-bit kernel has at most 15 values anyway, and all filters of a clustered kernel share a scale.
- zeros found: in the file. Rounding to few bits makes zeros too.
- bytes: of the file, as small as it is stored with the same outputs ([docs/files.md](files.md)). On a microcontroller, flash.
- gzipped: an update over the air, say. It is unpacked before it runs, so flash does not shrink.
- sparse: of the file with `quant.sparse=true`, which LiteRT runs by restoring the kernels. A dash: its operator for that,
  DENSIFY, takes no INT4.
- arena: RAM under TensorFlow Lite for Microcontrollers (TFLM), its reference kernels on 64 bits (`arena_bytes`).
- Ethos-U: bytes of the file that Vela compiles for {accelerator} (`{system_config}`, `{memory_mode}`), and its estimate
  of the time of an image.{reasons}
"""


def main() -> int:
    options = arguments(__doc__)
    folder, rows, faults = trials("devices", options, KEYS, [variant.point for variant in VARIANTS])
    rows = [row for row in rows if point_of(row) in BY_POINT]
    reader, reasons = "", dict[str, str]()
    files: Files = {}
    if not faults:
        faults, reader = recount(folder, rows, differences)
    if not faults:
        files, reasons, faults = measured(folder, rows)
    if faults:
        print("\n".join(faults))
        return 1
    config = composed(trial(folder, files[Variant("resnet8", "int8", "0.8", "16")][0]))
    head = HEAD.format(
        answers="\n".join(answers(files)),
        trained=config["dataset"]["limit"],
        epochs=config["train"]["epochs"],
        pruned=config["prune"]["finetune"],
        clustered=config["cluster"]["finetune"],
        seeds=f"seed {', '.join(filter(None, seeds(rows))) or config['seed']}",
        command=command(folder),
        reader=reader,
        count=len(rows),
        **npu(),
        reasons="".join(f"\n  A dash for {form}: {reason}." for form, reason in reasons.items()),
    )
    write(options.docs, "pruning_on_devices.md", "\n".join([head, *tables(files)]))
    return 0


def point_of(row: Row) -> tuple[str, ...]:
    """What a trial has under `KEYS`."""
    return tuple(row.get(key, "") for key in KEYS)


def npu() -> dict[str, Any]:
    """The keys of conf/target/ethos_u55_128.yaml that Vela takes."""
    target = yaml.safe_load((ROOT / "conf" / "target" / "ethos_u55_128.yaml").read_text())
    return {name: target[name] for name in ("accelerator", "system_config", "memory_mode")}


def differences(row: Row, folder: Path, images: Any, labels: Any) -> Iterator[str]:
    """What is not as the row says, or not as it was asked for."""
    content = (folder / "model.tflite").read_bytes()
    kernels = INDEPENDENT["weights"](content)
    found = recounted(content, kernels, images, labels)
    yield from differing(row, found)
    if not row.get("arena_bytes"):
        yield "no arena_bytes: TFLM is not installed (the extra tflm), or does not load the file"
    yield from not_as_asked(BY_POINT[point_of(row)], kernels, found["sparsity"])


def not_as_asked(variant: Variant, kernels: Kernels, sparsity: float) -> Iterator[str]:
    """What a file's kernels have otherwise than the variant asks for: type, zeros, values."""
    kinds = {kernel["type"] for kernel in kernels}
    if kinds != {variant.form.upper()}:
        yield f"{variant.form} asked for, {', '.join(sorted(kinds))} found"
    asked = float(variant.zeros)
    if sparsity < asked - 1e-4 or (variant.form == "float32" and sparsity > asked + 1e-4):  # rounding makes zeros too
        yield f"a sparsity of {asked} asked for, {sparsity} found"
    most = max_values(variant)
    for kernel in targets(kernels):
        # Batch normalisation, folded into a float32 kernel, gives each filter values of its own.
        filters = kernel["shape"][0] if variant.form == "float32" else 1
        if most and kernel["values"] > most * filters:
            yield f"{most * filters} values of {kernel['name']} asked for, {kernel['values']} found"
    if not variant.clusters and max(kernel["values"] for kernel in targets(kernels)) <= 16 and variant.form != "int4":
        yield "clusters, which were not asked for"


def max_values(variant: Variant) -> int:
    """The most values that a kernel of a full-integer file may have, or a filter of a float32 file; 0 for any number."""
    return 15 if variant.form == "int4" else int(variant.clusters or 0)


def measured(folder: Path, rows: Sequence[Row]) -> tuple[Files, dict[str, str], list[str]]:
    """The trials with `sparse_bytes` and the numbers of `on_the_npu`.

    Returns:
        Variant to its trials; form to the reason why the NPU does not run it; and what is otherwise than the page assumes.
    """
    images = test_images(composed(trial(folder, rows[0])))[0][:COMPARED]
    files: dict[Variant, list[Row]] = {variant: [] for variant in VARIANTS}
    reasons: dict[str, str] = {}
    faults = []
    for row in rows:
        variant = BY_POINT[point_of(row)]
        content = (trial(folder, row) / "model.tflite").read_bytes()
        sparse = smallest(content, images, allow_sparse=True, strip=False)
        faults += [f"{row['number']}: {fault}" for fault in sparse_faults(variant, content, sparse)]
        numbers, reason = on_the_npu(content)
        if reason:
            reasons[variant.form] = reason
        if bool(reason) == (variant.form == ON_THE_NPU):
            faults.append(f"{row['number']}: {variant.form} on the NPU: {reason or 'compiled'}")
        files[variant].append({**row, **numbers, "sparse_bytes": str(len(sparse)) if variant.form in SPARSE else ""})
    return files, reasons, faults


def sparse_faults(variant: Variant, content: bytes, sparse: bytes) -> Iterator[str]:
    """What is wrong with the file of `content` that is stored sparsely where that is smaller."""
    if counted(INDEPENDENT["weights"](sparse)) != counted(INDEPENDENT["weights"](content)):
        yield "stored sparsely, the file has other weights"
    if sparse != content and variant.form not in SPARSE:
        yield f"{variant.form} was stored sparsely"


def on_the_npu(content: bytes) -> tuple[Row, str]:
    """What a file takes on the Ethos-U.

    Returns:
        `npu_bytes`, `npu_ms` and `npu_sram_bytes` as text, and ""; or these as "", and the reason why the NPU does not run it.
    """
    try:
        compiled = vela.compiled(content, **npu())
    except vela.VelaError as error:
        return dict.fromkeys(NPU_NUMBERS, ""), str(error)
    if not compiled.npu_operators:
        causes = sorted({fallback.partition(": ")[2].partition(" (")[0] for fallback in compiled.fallbacks})
        return dict.fromkeys(NPU_NUMBERS, ""), f"Vela leaves every operator to the processor ({', '.join(causes)})"
    numbers = (len(compiled.content), compiled.ms, compiled.sram_bytes)
    return dict(zip(NPU_NUMBERS, map(str, numbers), strict=True)), ""


def counted(kernels: Kernels) -> list[tuple[Any, ...]]:
    """Shape, zeros and values of each kernel."""
    return [(kernel["shape"], kernel["zeros"], kernel["values"]) for kernel in kernels]


def answers(files: Files) -> Iterator[str]:
    """The answer for each kind of device, the numbers behind it, and what shrinks a file on a microcontroller instead."""
    changes = {name: largest_change(files, name) for name in ("size_bytes", "arena_bytes")}
    shrinks = "yes" if max(relative for _, relative in changes.values()) > SAME else "no"
    flash, ram = (f"{absolute:,.0f} bytes" for absolute, _ in changes.values())
    yield (
        f"- On a microcontroller (TFLM): **{shrinks}**; zeros and clusters change flash by {flash} and RAM by {ram} at most, "
        f"in {', '.join(FORMS)}."
    )
    for device, name, what in (("On an Arm Ethos-U", "npu_bytes", "flash"), ("In a download", "gzip_bytes", "gzipped bytes")):
        by_request = [ratios(files, name, *asked) for asked in ASKED.values()]
        named = (f"{100 * part:.0f} % ({title})" for part, title in zip(by_request[-1], NETWORKS.values(), strict=True))
        yield f"- {device}: **{verdict(by_request)}**; {list(ASKED)[-1]} leave {' and '.join(named)} of an int8 file's {what}."
    yield f"\nWhat is left of an int8 file, {' and '.join(NETWORKS.values())}:\n"
    rows = ([device, *(percent(ratios(files, name, *asked)) for asked in ASKED.values())] for device, name in DEVICES.items())
    yield markdown(["device", *ASKED], rows)
    yield "What changes flash and RAM on a microcontroller:\n"
    for form, other in (("int8", "float32"), ("int4", "int8")):
        pairs = [[files[Variant(network, name)] for name in (form, other)] for network in NETWORKS]
        left = [percent([mean(one, name) / mean(two, name) for one, two in pairs]) for name in changes]
        yield f"- {form} instead of {other}: {left[0]} of the flash, {left[1]} of the RAM, {gained(pairs)} points of accuracy."
    pairs = [[files[Variant(network, "int4", "0", clusters)] for clusters in ("16", "")] for network in NETWORKS]
    packed = percent([mean(one, "gzip_bytes") / mean(two, "gzip_bytes") for one, two in pairs])
    yield "- Fewer filters, `prune=channels_global`: [docs/combinations.md](combinations.md), which has int4 with QAT too."
    yield f"\n16 clusters beside int4: {packed} of the gzipped bytes, {gained(pairs)} points of accuracy."


def largest_change(files: Files, name: str) -> tuple[float, float]:
    """The largest difference that zeros and clusters make to a metric, of all networks and forms: absolute, and relative."""
    changes = []
    for network, form in itertools.product(NETWORKS, FORMS):
        values = [mean(files[variant], name) for variant in VARIANTS if (variant.network, variant.form) == (network, form)]
        changes.append((max(values) - min(values), max(values) / min(values) - 1))
    return max(absolute for absolute, _ in changes), max(relative for _, relative in changes)


def ratios(files: Files, name: str, zeros: str, clusters: str) -> list[float]:
    """A metric of an int8 file over that of the same network's without zeros and clusters, network by network."""
    pairs = ((Variant(network, "int8", zeros, clusters), Variant(network, "int8")) for network in NETWORKS)
    return [mean(files[variant], name) / mean(files[plain], name) for variant, plain in pairs]


def verdict(left: Iterable[Sequence[float]]) -> str:
    """`yes` where each ratio is below 1 by more than `SAME`, `no` where none is; otherwise it depends."""
    smaller = [ratio < 1 - SAME for ratios_of_networks in left for ratio in ratios_of_networks]
    return "yes" if all(smaller) else "it depends" if any(smaller) else "no"


def percent(values: Sequence[float]) -> str:
    """Ratios in per cent, one a network."""
    return " and ".join(f"{100 * value:.0f}" for value in values) + " %"


def gained(pairs: Iterable[Sequence[Sequence[Row]]]) -> str:
    """Test accuracy of the first trials of each pair less that of the second, in points of a per cent, one a network."""
    gains = (100 * (mean(one, "test_accuracy") - mean(two, "test_accuracy")) for one, two in pairs)
    return " and ".join(f"{gain:+.1f}" for gain in gains)


def tables(files: Files) -> Iterator[str]:
    """A table a network: forms, zeros and clusters to what the file takes."""
    header = ["file", "asked for", "zeros found, %", "test accuracy, %", "bytes", "gzipped", "sparse", "arena"]
    header += ["Ethos-U, bytes", "Ethos-U, ms"]
    for network, title in NETWORKS.items():
        yield f"## {title}\n"
        yield markdown(header, (cells(variant, rows) for variant, rows in files.items() if variant.network == network))


def cells(variant: Variant, rows: Sequence[Row]) -> list[str]:
    """The line of a variant."""
    zeros = f"{100 * float(variant.zeros):.0f} % zeros" if float(variant.zeros) else ""
    clusters = f"{variant.clusters} clusters" if variant.clusters else ""
    counted_bytes = ("size_bytes", "gzip_bytes", "sparse_bytes", "arena_bytes", "npu_bytes")
    return [
        variant.form,
        ", ".join(filter(None, (zeros, clusters))) or "nothing",
        f"{100 * mean(rows, 'sparsity'):.1f}",
        spread(points(rows), ".1f"),
        *(number(rows, name, ",.0f") for name in counted_bytes),
        number(rows, "npu_ms", ".3f"),
    ]


def number(rows: Sequence[Row], name: str, form: str) -> str:
    """The mean of a metric, a dash where there is none."""
    return format(mean(rows, name), form) if all(row[name] for row in rows) else "—"


if __name__ == "__main__":
    sys.exit(main())
