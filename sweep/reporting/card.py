"""The export of a model: the file, a C header and a model card."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.core.errors import ConfigError
from sweep.core.metric import Kind
from sweep.core.metrics import METRICS, of_kind
from sweep.core.trial_files import TrialFile
from sweep.reporting.words import SPARSITY
from sweep.results.sweeps import SEED, Sweep, Trial
from sweep.tflite import audit

_CARD, _HEADER, _MODEL = "MODEL_CARD.md", "model.h", TrialFile.MODEL
_MARK = "<!-- An export of `python -m sweep.best`, which may write over this folder. -->"
_NOT_REPEATED = ("hydra.", "hydra/", "sweep.name", "tracking.parent_run_id")
"""Prefixes of overrides that do not affect the result of a trial."""


def command(trial: Trial, config: Mapping[str, Any]) -> str:
    """The command line that reproduces a trial as a plain run with all overrides, quoted for a shell.

    The seed and the number of threads affect the result, so they are included if the configuration has them.
    """
    overrides = {**trial.fixed, **trial.overrides}
    overrides |= {key: str(config[key]) for key in ("seed", "threads") if key not in overrides and config.get(key) is not None}
    kept = {key: text for key, text in overrides.items() if not key.lstrip("+~").startswith(_NOT_REPEATED)}
    words = (key if key.startswith("~") and not text else f"{key}={text}" for key, text in kept.items())
    return " ".join(["python -m sweep.main", *map(shlex.quote, words)])


def header(content: bytes) -> str:
    """A file as a header for C11 and C++17: the array `model_tflite`, aligned for TensorFlow Lite Micro, and its length."""
    rows = (content[start : start + 16] for start in range(0, len(content), 16))
    body = "\n".join(f"    {', '.join(f'0x{byte:02x}' for byte in row)}," for row in rows)
    return f"""\
/* {_MODEL}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()} */
#ifndef SWEEP_MODEL_TFLITE_H
#define SWEEP_MODEL_TFLITE_H

#ifndef __cplusplus
#include <stdalign.h>
#endif

enum {{ model_tflite_len = {len(content)} }};

alignas(16) static const unsigned char model_tflite[model_tflite_len]
#ifdef __GNUC__
    __attribute__((unused))
#endif
    = {{
{body}
}};

#endif /* SWEEP_MODEL_TFLITE_H */
"""


def card(sweep: Sweep, trial: Trial, content: bytes) -> str:
    """The model card: the file, its metrics, its input and output, its training, its data and its limits.

    Raises:
        ConfigError: for a file that cannot be read, or a damaged `config.yaml`.
    """
    try:
        facts = audit.read(content)
    except audit.AuditError as error:
        raise ConfigError(str(trial.folder / _MODEL), "the .tflite file that the trial measured", str(error)) from error
    config, metrics = trial.config(), trial.metrics
    texts = {name: metric.in_line(metrics[name]) for name, metric in METRICS.items() if metric.kind is not Kind.COST}
    texts |= {name: f"{metrics[name]:,} ({texts[name]})" for name in of_kind(Kind.FILE_SIZE)}
    parts = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline")
    dataset = trial.facts.get("dataset", _kind(config.get("dataset")))
    digest = hashlib.sha256(content).hexdigest()
    cores = "" if config.get("threads") is not None else " (all its cores)"
    repeats = sum(other.without_seed == trial.without_seed for other in sweep.complete) if SEED in trial.overrides else 1
    spread = f"It is one of {repeats} repeats under different seeds; the sweep's report has their spread."
    return f"""\
{_MARK}

# {_MODEL}: trial {trial.number} of the sweep {sweep.name}

An image classifier for `{dataset}`: {texts["val_accuracy"]} right on the validation split, {texts["test_accuracy"]} on the test
split, in {metrics["size_bytes"]:,} bytes.

| file | |
|---|---|
| `{_MODEL}` | sha256 `{digest}` |
| `{_HEADER}` | the same bytes as a C array, `model_tflite`, with its length, `model_tflite_len`; for C11 and C++17 |

## What it measures

Of the file itself, run by LiteRT. The choice saw the validation split only. {SPARSITY}

| metric | value |
|---|---|
{_rows(texts)}

## How to feed it

{_feeding(facts.input_type)}

The answer is one score a class ({facts.output_type.lower()}); the class is the index of the largest.

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


def export(sweep: Sweep, trial: Trial, folder: Path) -> None:
    """Writes a trial's export to a temporary folder and renames it.

    Raises:
        ConfigError: for a folder that holds anything but an earlier export, or a trial whose records or file are damaged.
        OSError: where the folder cannot be written.
    """
    path = trial.folder / _MODEL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(str(path), "the file that the trial measured", "nothing") from None
    if len(content) != (size := trial.metrics["size_bytes"]):
        raise ConfigError(str(path), f"the {size} bytes that the trial measured", f"{len(content)} bytes")
    if not _may_replace(folder):
        raise ConfigError("--to", "a new or empty folder, or an earlier export", str(folder))
    folder = folder.absolute()
    texts = {_CARD: card(sweep, trial, content), _HEADER: header(content)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".aside") as scratch:
        fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
        fresh.mkdir()
        shutil.copyfile(path, fresh / _MODEL)
        for name, text in texts.items():
            (fresh / name).write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)


def _may_replace(folder: Path) -> bool:
    """Whether a folder is new, empty, or an earlier export with nothing added to it."""
    if not folder.exists() and not folder.is_symlink():
        return True
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    earlier = folder / _CARD
    return names <= {_CARD, _HEADER, _MODEL} and earlier.is_file() and earlier.read_text(errors="replace").startswith(_MARK)
