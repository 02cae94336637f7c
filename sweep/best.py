"""The best model of a sweep within a budget, exported: the file, a C header and a model card.

The choice sees validation accuracy only; the test accuracy is told. Without `--to` the export goes to the sweep's folder, as
`best/`. A folder that is not an earlier export is never written over.

    python -m sweep.best NAME [--max-kib N] [--min-accuracy A] [--max-latency-ms T] [--metric size_bytes|gzip_bytes] [--to DIR]
"""

from __future__ import annotations

import hashlib
import math
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import audit, pareto, sweeps
from sweep.quantities import SPARSITY
from sweep.records import ConfigError, require_number
from sweep.sweeps import METRICS, SEED, Limits, Sweep, Trial

_CARD, _HEADER, _MODEL = "MODEL_CARD.md", "model.h", "model.tflite"
_MARK = "<!-- An export of `python -m sweep.best`, which may write over this folder. -->"
_SIZES = ("size_bytes", "gzip_bytes")
_TOLD = ("val_accuracy", "test_accuracy", "size_bytes")
_NEAREST = 3
_COSTS = ("train_seconds", "stages_reused", "seconds_saved")
"""Metrics that say nothing of the file."""
_NOT_REPEATED = ("hydra.", "hydra/", "sweep.name", "tracking.parent_run_id")
"""Overrides that say where and how a sweep runs, not what a trial computes."""


@dataclass(frozen=True)
class Budget:
    """What the model may take, and what it must reach.

    Args:
        max_kib: KiB of `metric`, above 0.
        min_accuracy: of `val_accuracy`, in [0, 1].
        max_latency_ms: of `latency_ms`, above 0.
        metric: which size counts.

    Raises:
        ConfigError: for a value outside these ranges.
    """

    max_kib: float | None = None
    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    metric: str = "size_bytes"

    def __post_init__(self) -> None:
        if self.max_kib is not None:
            require_number("--max-kib", self.max_kib, 0, open_low=True)
        if self.min_accuracy is not None:
            require_number("--min-accuracy", self.min_accuracy, 0, 1)
        if self.max_latency_ms is not None:
            require_number("--max-latency-ms", self.max_latency_ms, 0, open_low=True)

    @property
    def limits(self) -> Limits:
        """The budget by metric."""
        limits = {}
        if self.max_kib is not None:
            limits[self.metric] = (-math.inf, self.max_kib * 1024)
        if self.min_accuracy is not None:
            limits["val_accuracy"] = (self.min_accuracy, math.inf)
        if self.max_latency_ms is not None:
            limits["latency_ms"] = (-math.inf, self.max_latency_ms)
        return limits

    @property
    def order(self) -> Mapping[str, str]:
        """What to look at first: accuracy; the size where a sufficient accuracy is given and no size."""
        accuracy, size = {"val_accuracy": "maximize"}, {self.metric: "minimize"}
        return size | accuracy if self.min_accuracy is not None and self.max_kib is None else accuracy | size


class NoneFits(LookupError):
    """No trial keeps the budget. The text names the nearest ones and what each misses, one a line."""


def choose(sweep: Sweep, budget: Budget) -> Trial:
    """The trial to ship: complete, within the sweep's constraints and the budget, first by `budget.order`, then by number.

    Raises:
        NoneFits: when there is none.
    """
    trials = sweep.complete
    columns = {name: [trial.metrics[name] for trial in trials] for name in METRICS}
    points = pareto.oriented(columns, budget.order)
    violations = pareto.violation(columns, sweep.limits) + pareto.violation(columns, budget.limits)
    if (row := pareto.best(points, violations)) is not None:
        return trials[row]
    if not trials:
        raise NoneFits(f"{sweep.name} has no complete trial")
    near = [trials[row] for row in pareto.nearest(points, violations, _NEAREST)]
    lines = [f"no trial of {sweep.name} keeps the budget" + (f"; the nearest of {len(trials)}:" if near else "")]
    lines += [f"  trial {trial.number}: {', '.join(_misses(trial, sweep, budget))}  ({_named(trial)})" for trial in near]
    raise NoneFits("\n".join(lines))


def _misses(trial: Trial, sweep: Sweep, budget: Budget) -> Iterator[str]:
    """What of the constraints and the budget a trial does not keep."""
    for metric, (low, high) in [*sweep.limits.items(), *budget.limits.items()]:
        value = trial.metrics[metric]
        if value > high:
            yield f"{metric} {_shown(metric, value)}, allowed {_shown(metric, high)}"
        elif value < low:
            yield f"{metric} {_shown(metric, value)}, needed {_shown(metric, low)}"


def _named(trial: Trial) -> str:
    return sweeps.shown(trial.overrides) or "the defaults"


def _shown(metric: str, value: float) -> str:
    """A value of a metric for people."""
    if metric in _SIZES:
        return f"{value / 1024:.2f} KiB"
    if metric.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def command(trial: Trial, config: Mapping[str, Any]) -> str:
    """The command line that makes a trial again, quoted for a shell: one plain run with all its overrides.

    The seed and the number of threads determine the result too, so they are written out where the configuration has them.
    """
    given = {**trial.fixed, **trial.overrides}
    given |= {key: str(config[key]) for key in ("seed", "threads") if key not in given and config.get(key) is not None}
    kept = {key: text for key, text in given.items() if not key.lstrip("+~").startswith(_NOT_REPEATED)}
    words = (key if key.startswith("~") and not text else f"{key}={text}" for key, text in kept.items())
    return " ".join(["python -m sweep.main", *map(shlex.quote, words)])


def header(content: bytes) -> str:
    """A file as a C header that C11 and C++17 take: `model_tflite` (aligned as TensorFlow Lite Micro asks) and its length."""
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
    """The model card: what the file is, what it measures, how to feed it, how it was made, and what it is not for.

    Raises:
        ConfigError: for a file that cannot be read, or a damaged `config.yaml`.
    """
    try:
        facts = audit.read(content)
    except audit.AuditError as error:
        raise ConfigError(str(trial.folder / _MODEL), "the .tflite file that the trial measured", str(error)) from error
    config, metrics = trial.config(), trial.metrics
    told = {name: _shown(name, metrics[name]) for name in METRICS if name not in _COSTS}
    told |= {name: f"{metrics[name]:,} ({told[name]})" for name in _SIZES}
    parts = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline")
    dataset = trial.facts.get("dataset", _kind(config.get("dataset")))
    digest = hashlib.sha256(content).hexdigest()
    cores = "" if config.get("threads") is not None else " (all its cores)"
    repeats = sum(other.without_seed == trial.without_seed for other in sweep.complete) if SEED in trial.overrides else 1
    spread = f"It is one of {repeats} repeats under different seeds; the sweep's report has their spread."
    return f"""\
{_MARK}

# {_MODEL}: trial {trial.number} of the sweep {sweep.name}

An image classifier for `{dataset}`: {told["val_accuracy"]} right on the validation split, {told["test_accuracy"]} on the test
split, in {metrics["size_bytes"]:,} bytes.

| file | |
|---|---|
| `{_MODEL}` | sha256 `{digest}` |
| `{_HEADER}` | the same bytes as a C array, `model_tflite`, with its length, `model_tflite_len`; for C11 and C++17 |

## What it measures

Of the file itself, run by LiteRT. The choice saw the validation split only. {SPARSITY}

| metric | value |
|---|---|
{_rows(told)}

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
    """How pixels become the file's input."""
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
    """Write a trial's export: the whole folder aside, then in its place.

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
    found = folder / _CARD
    return names <= {_CARD, _HEADER, _MODEL} and found.is_file() and found.read_text(errors="replace").startswith(_MARK)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0; 1 where nothing keeps the budget; 2 for input that cannot be used."""
    parser = sweeps.CommandLine("python -m sweep.best", "Export the best model of a sweep: .tflite, C header and model card.")
    parser.add_argument("--max-kib", type=float, metavar="N", help="at most so many KiB: then the most accurate")
    parser.add_argument(
        "--min-accuracy",
        type=float,
        metavar="A",
        help="at least this validation accuracy (0.97); without --max-kib, the smallest",
    )
    parser.add_argument("--max-latency-ms", type=float, metavar="T", help="at most so many milliseconds an image")
    parser.add_argument("--metric", choices=_SIZES, default=_SIZES[0], help="which size counts (size_bytes)")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the export goes (OUTPUT/sweeps/NAME/best)")
    options = parser.parse_args(arguments)
    try:
        budget = Budget(options.max_kib, options.min_accuracy, options.max_latency_ms, options.metric)
        found = sweeps.find(options.output, options.name)
        sweep = sweeps.read(found)
        trial = choose(sweep, budget)
        folder = found / "best" if options.to is None else options.to
        export(sweep, trial, folder)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NoneFits, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    told = ", ".join(f"{name} {_shown(name, trial.metrics[name])}" for name in dict.fromkeys([*_TOLD, options.metric]))
    print(f"trial {trial.number} ({_named(trial)}): {told}\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
