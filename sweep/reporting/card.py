"""The model card: description, measurements, origin and limits of a file."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from sweep.core.errors import ConfigError
from sweep.core.metric import Kind
from sweep.core.metrics import METRICS, of_kind
from sweep.core.text import code
from sweep.reporting import firmware
from sweep.reporting.firmware import MODEL, Sources
from sweep.reporting.words import SPARSITY
from sweep.results.budget import Budget, known
from sweep.results.sweeps import SEED, Sweep, Trial
from sweep.tflite import audit

CARD = "MODEL_CARD.md"
MARK = "<!-- An export of `python -m sweep.best`, which may write over this folder. -->"
_NOT_REPEATED = ("hydra.", "hydra/", "sweep.", "tracking.parent_run_id")
"""Overrides that do not affect what a trial computes."""


def command(trial: Trial, config: Mapping[str, Any]) -> str:
    """The command line that reproduces a trial as a plain run with all overrides, quoted for a shell.

    The seed and the number of threads affect the result, so they are included if the configuration has them.
    """
    overrides = {**trial.fixed, **trial.overrides}
    overrides |= {key: str(config[key]) for key in ("seed", "threads") if key not in overrides and config.get(key) is not None}
    relevant = {key: text for key, text in overrides.items() if not key.lstrip("+~").startswith(_NOT_REPEATED)}
    words = (key if key.startswith("~") and not text else f"{key}={text}" for key, text in relevant.items())
    return " ".join(["python -m sweep.main", *map(shlex.quote, words)])


def card(sweep: Sweep, trial: Trial, content: bytes, sources: Sources, budget: Budget) -> str:
    """The model card: description, measurements, input, origin and limits of the file.

    Args:
        sweep: the trial's.
        trial: whose file it is.
        content: the file.
        sources: the source files beside it.
        budget: what was asked for.

    Raises:
        ConfigError: for a file that cannot be read, or a damaged `config.yaml`.
    """
    try:
        facts = audit.read(content)
    except audit.AuditError as error:
        raise ConfigError(str(trial.folder / MODEL), "the .tflite file that the trial measured", str(error)) from error
    config, metrics = trial.config(), trial.metrics
    texts = {
        name: metric.in_line(metrics[name])
        for name, metric in METRICS.items()
        if known(trial, name) and metric.kind is not Kind.COST
    }
    texts |= {name: f"{metrics[name]:,} ({texts[name]})" for name in of_kind(Kind.FILE_SIZE) if name in texts}
    validation, test = (METRICS[name].in_line(metrics[name]) for name in ("val_accuracy", "test_accuracy"))
    parts = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline")
    dataset = trial.facts.get("dataset", _kind(config.get("dataset")))
    digest = hashlib.sha256(content).hexdigest()
    cores = "" if config.get("threads") is not None else " (all its cores)"
    repeats = sum(other.without_seed == trial.without_seed for other in sweep.complete) if SEED in trial.overrides else 1
    spread = f"It is one of {repeats} repeats under different seeds; the sweep's report has their spread."
    return f"""\
{MARK}

# {MODEL}: trial {trial.number} of the sweep {sweep.name}

An image classifier for `{dataset}`: {validation} right on the validation split, {test} on the test
split, in {metrics["size_bytes"]:,} bytes.

| file | |
|---|---|
| `{MODEL}` | sha256 `{digest}` |
| `{firmware.HEADER}` | the same bytes as a C array, `model_tflite`, with its length, `model_tflite_len`; for C11 and C++17 |
{_files(sources)}

`docs/flash.md` in the repository of `sweep` says how to build them for a board.

## What was asked and what was measured

| budget | asked | measured |
|---|---|---|
{_budget(budget, trial)}
{_memory(sources)}
## What it measures

Of the file itself, run by LiteRT. The choice saw the validation split only. {SPARSITY}

| metric | value |
|---|---|
{_rows(texts)}

## How to feed it

{_feeding(facts.input_type)}

The output is one score per class ({facts.output_type.lower()}); the class is the index of the largest.{_classes(trial)}

Operators that a microcontroller's resolver needs: {", ".join(sorted(set(facts.operators)))}.

## How it was made

| override | value |
|---|---|
{_rows(trial.overrides)}

| part | configuration |
|---|---|
{_rows({name: _described(config[name]) for name in parts if name in config})}

The same file, byte for byte, comes on the same machine{cores} and with the same versions from

    {command(trial, config)}

## On what data

`{dataset}`. sha256 of its official arrays: {_hash(trial, "data_hash")}; of its splits: {_hash(trial, "split_hash")}.

Trained and calibrated on training images only, and chosen on the validation split; the test split took part in nothing.

## Limits

- It was chosen by validation accuracy (complete trials: {len(sweep.complete)}), which flatters it; the test accuracy does not.
- {spread if repeats > 1 else "It was trained under one seed: how much another one would differ is not known."}
- The accuracies hold for images like those of `{dataset}`. Other cameras, noise, shifts and unknown classes were not tried, and
  no subgroup was looked at by itself.
- The latency is that of one image on one thread of the machine that ran the sweep.
"""


def _classes(trial: Trial) -> str:
    """The names of the classes, as a sentence after another; nothing where they have none."""
    if not trial.class_names:
        return ""
    return f" In the order of the scores: {', '.join(map(code, trial.class_names))}."


def _files(sources: Sources) -> str:
    """The files for a microcontroller as rows of a table: what each is, or why it is not there."""
    meanings = {
        firmware.RESOLVER: "its operators for TensorFlow Lite Micro, and the size of its tensor arena; for C++17",
        firmware.EXAMPLE: "a test image as the input tensor, and the output that LiteRT computes",
        firmware.MAIN: "a program that classifies this image with TensorFlow Lite Micro and compares the outputs",
    }
    rows = []
    for name, meaning in meanings.items():
        if name in sources.texts:
            rows.append(f"| `{name}` | {meaning}; sha256 `{hashlib.sha256(sources.texts[name].encode()).hexdigest()}` |")
        else:
            rows.append(f"| no `{name}` | {sources.absent[name]} |")
    return "\n".join(rows)


def _budget(budget: Budget, trial: Trial) -> str:
    """The budget and the measured value of each resource, as rows of a table."""
    rows = []
    for title, metric in (
        ("flash", budget.metric),
        ("RAM", budget.ram_metric),
        ("time", budget.time_metric),
        ("accuracy", "val_accuracy"),
    ):
        low, high = budget.limits.get(metric, (-math.inf, math.inf))
        asked = "nothing"
        if high < math.inf:
            asked = f"at most {METRICS[metric].in_line(high)}"
        elif low > -math.inf:
            asked = f"at least {METRICS[metric].in_line(low)}"
        measured = METRICS[metric].in_line(trial.metrics[metric]) if known(trial, metric) else "not measured"
        rows.append(f"| {title}: `{metric}` | {asked} | {measured} |")
    return "\n".join([*rows, f"| target | {budget.target or 'nothing'} | |"])


def _memory(sources: Sources) -> str:
    """Explains the size of the tensor arena and the tolerance of the comparison."""
    if sources.arena is None:
        return ""
    arena = sources.arena
    text = f"""
`kTensorArenaSize` is {arena.size:,} bytes: the {arena.measured:,} that TensorFlow Lite Micro used on a 64-bit machine with its
reference kernels, and a margin of {arena.margin:,} for its planning and for alignment. With pointers of 32 bits it needs less.
"""
    if sources.tolerance:
        text += (
            f"`{firmware.MAIN}` allows a score to differ from LiteRT's by {sources.tolerance}: the kernels round differently.\n"
        )
    return text


def _kind(node: object) -> str:
    """The class that a configuration node describes."""
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else str(node)


def _described(node: object) -> str:
    """A configuration node in one line: its class and its values."""

    def leaves(node: object, path: str) -> Iterator[str]:
        if not isinstance(node, Mapping):
            yield f"{path} {node}"
            return
        if path and "_target_" in node:
            yield f"{path} {_kind(node)}"
        for key, value in node.items():
            if key != "_target_":
                yield from leaves(value, f"{path}.{key}" if path else str(key))

    return f"{_kind(node)}: {', '.join(leaves(node, ''))}".removesuffix(": ")


def _rows(pairs: Mapping[str, object]) -> str:
    """Rows of a Markdown table."""
    rows = (f"| `{name}` | {str(value).replace('|', '&#124;')} |" for name, value in pairs.items())
    return "\n".join(rows) or "| none | the defaults |"


def _hash(trial: Trial, name: str) -> str:
    return f"`{trial.facts[name]}`" if name in trial.facts else "not recorded"


def _feeding(input_type: str) -> str:
    """The conversion from pixels to the file's input, as text."""
    kind = input_type.lower()
    start = "One image at a time, (1, height, width, channels). A pixel p of 0 to 255 stands for the real value p / 255,"
    if kind.startswith("float"):
        return f"{start}\ngiven as {kind}."
    return f"""\
{start}
given as {kind} on the grid of the input tensor: q = round(p / 255 / scale) + zero_point, clipped to the type's range.
`sweep` fixes that grid to 256 steps over [0, 1], so q = p - 128; what counts is the input tensor's own scale and zero point
(`get_input_details()[0]["quantization"]` in Python, `interpreter.input(0)->params` on a microcontroller)."""
