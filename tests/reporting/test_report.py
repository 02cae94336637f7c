"""The report against sweeps whose records are made up, so that every table and the front are known by hand."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.report import main
from sweep.reporting import html, picture, png, report, techniques
from sweep.results import reader
from sweep.results.ranking import rank

ROOT = Path(__file__).resolve().parents[2]
FILES = {"trials.csv", "pareto.csv", "pareto.png", "pareto.html", "report.md"}
TEACHER = {"name": "teacher", "size_bytes": 1_100_000, "val_accuracy": 0.885, "test_accuracy": 0.88}
STUDENT = {"name": "distill", "size_bytes": 310_000, "val_accuracy": 0.862, "test_accuracy": 0.855}
KINDS = {
    "none": "formats.Float32",
    "float16": "formats.Float16",
    "dynamic": "formats.Dynamic",
    "ptq": "ptq.PTQ",
    "qat": "qat.QAT",
}


def measured(accuracy: float, size: int, **others: float) -> dict[str, float]:
    """Every metric that each trial has, those that do not matter made up."""
    rest = {
        "val_accuracy": accuracy,
        "test_accuracy": accuracy - 0.01,
        "float_accuracy": accuracy + 0.002,
        "conversion_gap": 0.002,
        "size_bytes": size,
        "gzip_bytes": int(size * 0.8),
        "efficiency": 100 * (accuracy - 0.01) / (size / 1024),
        "compression": 1_100_000 / size,
        "parameters": size,
        "nonzero_parameters": size // 2,
        "sparsity": 0.5,
        "macs": 2_500_000,
        "weight_bits": 8.0,
        "distinct_weight_levels": 200,
        "latency_ms": size / 1e6,
        "latency_p10_ms": size / 1.1e6,
        "latency_p90_ms": size / 0.9e6,
        "train_seconds": 12.5,
        "stages_reused": 2,
        "seconds_saved": 30.25,
    }
    return {**{name: 0.5 for name, metric in METRICS.items() if not metric.only}, **rest, **others}


def configured(overrides: Mapping[str, str], threads: int | None = None) -> dict[str, Any]:
    """The composed configuration, as far as anything reads it."""
    distill, quant = overrides.get("distill", "none"), overrides.get("quant", "none")
    pruning = {
        "_target_": "sweep.compress.prune.magnitude.GlobalMagnitude",
        "sparsity": float(overrides.get("prune.sparsity", 0)),
        "layers": "all",
    }
    teaching = {"_target_": "sweep.compress.distill.teachers.KD", "temperature": 4.0, "alpha": 0.1}
    return {
        "dataset": {"_target_": "sweep.data.datasets.Cifar10", "validation": 0.1},
        "model": {"_target_": "sweep.models.families.ResNet", "blocks": 1, "width": 1.0},
        "train": {
            "_target_": "sweep.train.recipes.Recipe",
            "epochs": 20,
            "optimizer": {"_target_": "sweep.train.recipes.Adam", "weight_decay": 0.0},
        },
        "distill": {"_target_": "sweep.compress.distill.teachers.NoDistillation"} if distill == "none" else teaching,
        "prune": pruning,
        "quant": {"_target_": f"sweep.compress.quantize.{KINDS[quant]}"},
        "pipeline": {"_target_": "sweep.pipeline.plan.Pipeline", "order": ["distill", "prune", "quant"]},
        "seed": int(overrides.get("seed", 0)),
        "threads": threads,
    }


class Made:
    """A sweep's folder, written trial by trial."""

    def __init__(self, output: Path, name: str = "made", **record: Any) -> None:
        self.output, self.name, self.folder, self.count = output, name, output / "sweeps" / name, 0
        self.folder.mkdir(parents=True)
        self.record = {
            "name": name,
            "command": f"python -m sweep.main -m sweep.name={name}",
            "axes": {"quant": "none,ptq,qat", "prune.sparsity": "0,0.5,0.8"},
            "objectives": {"val_accuracy": "maximize", "size_bytes": "minimize"},
            "constraints": {},
            "sampler": None,
            "n_trials": None,
            "seed": 0,
            "started": 1_790_000_000.0,
            "ended": 1_790_003_723.4,
            "importances": {},
            "status": "finished",
            **record,
        }
        self.save()

    def save(self) -> None:
        (self.folder / "sweep.json").write_text(json.dumps(self.record))

    def trial(
        self,
        overrides: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        *,
        state: str = "COMPLETE",
        error: str | None = None,
        content: bytes | None = None,
        baselines: Mapping[str, Any] | None = None,
        **record: Any,
    ) -> Path:
        folder = self.folder / f"trial-{self.count:03d}"
        folder.mkdir()
        told = {
            "number": self.count, "state": state, "overrides": dict(overrides), "fixed": {"model": "resnet8"},
            "seconds": 20.5, "error": error, "run_id": None, **record,
        }  # fmt: skip
        (folder / "trial.json").write_text(json.dumps(told))
        (folder / "config.yaml").write_text(yaml.safe_dump(configured(overrides)))
        if metrics is not None:
            (folder / "metrics.json").write_text(json.dumps(metrics))
            found = {"start": TEACHER, "student": STUDENT} if baselines is None else baselines
            (folder / "baselines.json").write_text(json.dumps(found))
        if content is not None:
            (folder / "model.tflite").write_bytes(content)
        self.count += 1
        return folder

    def csv(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def text(self) -> str:
        return (self.folder / "report.md").read_text()


def typical(output: Path, seeds: int = 1, **record: Any) -> Made:
    """24 candidates like those of a CIFAR-10 sweep: 20 to 300 KiB, 70 to 87 %."""
    axes = {"distill": "none,kd", "quant": "none,float16,ptq,qat", "prune.sparsity": "0,0.5,0.8"}
    made, draws = (
        Made(output, **{"axes": axes | ({"seed": f"range({seeds})"} if seeds > 1 else {}), **record}),
        np.random.default_rng(7),
    )
    for distill in ("none", "kd"):
        for quant in ("none", "float16", "ptq", "qat"):
            for sparsity in (0.0, 0.5, 0.8):
                level = (
                    0.845
                    + 0.02 * (distill == "kd")
                    - 0.05 * sparsity**2
                    - {"none": 0, "float16": 0, "ptq": 0.02, "qat": 0.004}[quant]
                )
                size = int({"none": 310_000, "float16": 160_000, "ptq": 92_000, "qat": 94_000}[quant] * (1 - 0.75 * sparsity))
                for seed in range(seeds):
                    overrides = {"distill": distill, "quant": quant, "prune.sparsity": str(sparsity)} | (
                        {"seed": str(seed)} if seeds > 1 else {}
                    )
                    made.trial(overrides, measured(round(level + draws.normal(0, 0.006), 4), size))
    return made


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, check=False)


@pytest.fixture
def plotted() -> None:
    """The test wants the plots drawn; the others do without, which is faster."""


@pytest.fixture(autouse=True)
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "plotted" not in request.fixturenames:
        monkeypatch.setattr(png, "png", lambda picture: b"")
        monkeypatch.setattr(html, "html", lambda picture: "")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Two points on the front, one dominated, ties, a failure, a NaN, one that is cut short, and a stray folder."""
    made = Made(tmp_path)
    made.trial({"quant": "none", "prune.sparsity": "0"}, measured(0.9, 100_000))
    made.trial({"quant": "ptq", "prune.sparsity": "0"}, measured(0.8, 30_000))
    made.trial({"quant": "qat", "prune.sparsity": "0"}, measured(0.8, 40_000))
    made.trial({"quant": "ptq", "prune.sparsity": "0.5"}, measured(0.8, 30_000))
    made.trial({"quant": "qat", "prune.sparsity": "0.5"}, state="FAIL", error="ConverterError: it\n broke | twice")
    made.trial({"quant": "ptq", "prune.sparsity": "0.8"}, measured(math.nan, 10))
    made.trial({"quant": "qat", "prune.sparsity": "0.8"}, state="RUNNING", seconds=None)
    (made.folder / "trial-007").mkdir()
    (made.folder / "best").mkdir()
    (made.folder / "trial-000-copy").mkdir()
    return made


# The tables.


def test_trials_csv_has_a_row_a_trial_and_its_floats_read_back(made):
    report.write(made.folder)
    rows = made.csv("trials.csv")
    assert list(rows[0]) == [
        "number", "state", "quant", "prune.sparsity", *METRICS, "seconds", "error",
    ]  # fmt: skip
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4 + ["FAIL", "COMPLETE", "RUNNING", "RUNNING"]
    assert [row["prune.sparsity"] for row in rows] == ["0", "0", "0", "0.5", "0.5", "0.8", "0.8", ""]
    for name, value in measured(0.9, 100_000).items():
        assert type(value)(rows[0][name]) == value
    assert {rows[4][name] for name in METRICS} == {""}
    assert rows[4]["error"] == "ConverterError: it broke | twice"
    assert rows[5]["val_accuracy"] == "nan"
    assert rows[0]["seconds"] == "20.5"
    assert rows[6]["seconds"] == ""


def test_a_metric_that_a_file_has_none_of_is_an_empty_cell_and_takes_a_column_where_another_has_it(tmp_path):
    made = Made(tmp_path)
    made.trial({"quant": "none"}, measured(0.9, 100_000, arena_bytes=9600))
    made.trial({"quant": "dynamic"}, measured(0.8, 30_000))
    report.write(made.folder)
    assert [row["arena_bytes"] for row in made.csv("trials.csv")] == ["9600", ""]
    assert [row["arena_bytes"] for row in made.csv("pareto.csv")] == ["9600", ""]
    [head] = [line for line in made.text().splitlines() if line.startswith("| trial |")]
    column = head.split(" | ").index("arena_bytes")
    cells = [line.split(" | ")[column] for line in made.text().splitlines() if re.match(r"\| [01] \|", line)]
    assert cells[:2] == ["9.38 KiB", "–"]
    assert "npu_bytes" not in head
    sweep = reader.read(made.folder)
    hovers = [mark.hover for mark in picture.of(sweep, rank(sweep)).front]
    assert [[line for line in hover if "RAM" in line] for hover in hovers] == [["RAM of a microcontroller: 9.38 KiB"], []]


def test_pareto_csv_is_the_front_of_what_is_known_best_accuracy_first(made):
    told = report.write(made.folder)
    rows, trials = made.csv("pareto.csv"), made.csv("trials.csv")
    assert [row["number"] for row in rows] == ["0", "1", "3"]
    assert rows == [trials[0], trials[1], trials[3]]
    assert told.front == (0, 1, 3)
    assert told.trials == {"COMPLETE": 5, "FAIL": 1, "RUNNING": 2}
    assert {path.name for path in told.paths} == FILES
    assert not list(made.folder.glob(".*"))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_front_equals_a_brute_force_over_any_number_of_objectives(plotted, tmp_path, count):
    objectives = dict(
        list({"size_bytes": "minimize", "val_accuracy": "maximize", "latency_ms": "minimize", "sparsity": "maximize"}.items())[
            :count
        ]
    )
    made, draws = Made(tmp_path, objectives=objectives), np.random.default_rng(count)
    sides = (draws.integers(low, high, 30).tolist() for low, high in ((5, 9), (1, 6), (1, 4), (0, 3)))
    table = [measured(a / 10, size * 1000, latency_ms=t / 2, sparsity=s / 4) for a, size, t, s in zip(*sides, strict=True)]
    for metrics in table:
        made.trial({"quant": "ptq"}, metrics)
    signs = [1 if direction == "minimize" else -1 for direction in objectives.values()]
    points = [tuple(sign * metrics[name] for sign, name in zip(signs, objectives, strict=True)) for metrics in table]
    beaten = {
        one for one in points for other in points if other != one and all(a <= b for a, b in zip(other, one, strict=True))
    }
    found = report.write(made.folder).front
    assert sorted(found) == [number for number, point in enumerate(points) if point not in beaten]
    lead = "val_accuracy" if count > 1 else "size_bytes"
    values = [table[number][lead] for number in found]
    assert values == sorted(values, reverse=count > 1)
    assert (made.folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert made.text().startswith("# Sweep made\n")


@pytest.mark.parametrize(
    ("constraint", "front"),
    [("<=30000", (1, 3)), ("<30000", ()), (">=30000", (0, 1, 3)), (">30000", (0, 2)), (" <= 3e4 ", (1, 3))],
)
def test_a_front_keeps_its_constraints(plotted, made, constraint, front):
    made.record["constraints"] = {"size_bytes": constraint}
    made.save()
    assert report.write(made.folder).front == front
    assert ("No trial keeps the constraints" in made.text()) == (not front)


def test_repeats_over_seeds_are_one_candidate_with_mean_and_spread(tmp_path):
    made = Made(tmp_path, axes={"quant": "ptq,qat", "seed": "range(3)"})
    for quant, accuracies in (("ptq", (0.7, 0.8, 0.9)), ("qat", (0.95, 0.6, 0.7))):
        for seed, accuracy in enumerate(accuracies):
            made.trial({"quant": quant, "seed": str(seed)}, measured(accuracy, 20_000))
    made.trial({"quant": "qat", "seed": "3"}, state="FAIL", error="late")
    assert report.write(made.folder).front == (0,)
    (row,) = made.csv("pareto.csv")
    assert (row["number"], row["seed"], row["repeats"], row["size_bytes"]) == ("0", "0 1 2", "3", "20000")
    assert float(row["val_accuracy"]) == float(row["val_accuracy_mean"]) == pytest.approx(0.8)
    assert float(row["val_accuracy_std"]) == pytest.approx(0.1)
    assert float(row["size_bytes_std"]) == 0
    trials = made.csv("trials.csv")
    assert [trial["val_accuracy"] for trial in trials[:3]] == ["0.7", "0.8", "0.9"]
    assert [float(trial["val_accuracy_mean"]) for trial in trials[3:6]] == [pytest.approx(0.75)] * 3
    assert trials[6]["repeats"] == trials[6]["val_accuracy_mean"] == ""
    assert "80.00 ± 10.00 %" in made.text()


def test_equal_trials_without_a_seed_stay_apart(tmp_path):
    made = Made(tmp_path)
    for _ in range(2):
        made.trial({"quant": "ptq"}, measured(0.8, 1000))
    assert report.write(made.folder).front == (0, 1)
    assert "repeats" not in made.csv("trials.csv")[0]


# The report.


def test_the_report_says_what_was_run_what_it_cost_and_what_failed(made):
    report.write(made.folder)
    text = made.text()
    for line in (
        "8 trials: 5 complete, 1 failed, 2 unfinished.",
        "    python -m sweep.main -m sweep.name=made",
        "| axis `quant` | `none,ptq,qat` |",
        "| points chosen by | exact grid |",
        "| started | 2026-09-21 14:13:20 UTC |",
        "| from start to end | 1:02:03 |",
        "| all trials, summed | 0:02:03 |",
        "| computing stages, complete trials | 0:01:02 |",
        "| saved by reuse of 10 stages | 0:02:31 |",
        "Without reuse, the stages of the complete trials would have taken 3.4 times as long.",
        "| 0 | none | 0 | 90.00 % | 97.7 KiB | 89.00 % | 0.911 %/KiB | 11.0 × | 50.0 % | 8.00 | 0.100 ms |",
        "| start network, float32 |  |  | 88.50 % | 1,074 KiB | 88.00 % | 0.0819 %/KiB | 1.0 × |  |  |  |",
        "| uncompressed student |  |  | 86.20 % | 303 KiB | 85.50 % | 0.282 %/KiB | 3.5 × |  |  |  |",
        "| 32 KiB | 1 | 80.00 % | 79.00 % | 29.3 KiB | `quant=ptq prune.sparsity=0` |",
        "| 128 KiB | 0 | 90.00 % | 89.00 % | 97.7 KiB | `quant=none prune.sparsity=0` |",
        "| 4 | FAIL | `quant=qat prune.sparsity=0.5` | ConverterError: it broke &#124; twice |",
        "| 5 | COMPLETE | `quant=ptq prune.sparsity=0.8` | val_accuracy: not a number |",
        "| 6 | RUNNING | `quant=qat prune.sparsity=0.8` | was cut short |",
        "| 7 | RUNNING |  | was cut short |",
    ):
        assert line in text.splitlines(), line
    assert "nan" not in text


AHEAD = "stopped before quant: trial-{:03d} is ahead by more than the margin of 0.05: val_accuracy 0.9{} against at best 0.8"


def test_a_trial_that_was_stopped_early_is_no_failure(tmp_path):
    made = typical(tmp_path)
    for number in range(15):
        made.trial({"quant": "qat", "distill": "kd"}, state="PRUNED", error=AHEAD.format(number, number), seconds=10.0)
    made.trial({"quant": "qat"}, state="PRUNED", error="stopped before distill: | trial-001", seconds=10.0)
    made.trial({"quant": "ptq"}, state="FAIL", error="it broke")
    told = report.write(made.folder)
    assert told.trials == {"COMPLETE": 24, "PRUNED": 16, "FAIL": 1}
    assert {row["state"] for row in made.csv("trials.csv")[24:40]} == {"PRUNED"}
    assert not {row["number"] for row in made.csv("pareto.csv")} & {str(number) for number in range(24, 41)}
    text = made.text()
    assert "41 trials: 24 complete, 1 failed, 16 stopped early." in text
    stopped = text.partition("## Stopped early\n\n")[2].partition("\n## ")[0]
    assert stopped.startswith("16 trials stopped before the last stages")
    which = ", ".join(map(str, range(24, 36)))
    assert stopped.strip().splitlines()[-2:] == [
        f"| 15 | {which} and 3 more | {AHEAD.format(0, 0)} |",
        "| 1 | 39 | stopped before distill: &#124; trial-001 |",
    ]
    failed = text.partition("## Trials without a result\n\n")[2]
    assert failed.splitlines()[2:] == ["| 40 | FAIL | `quant=ptq` | it broke |"]
    assert "| of that, those stopped early | 0:02:40 |" in text
    assert "was stopped early was behind" in text


def test_a_trial_that_was_refused_before_training_is_told_apart_from_one_that_was_stopped(tmp_path):
    made = typical(tmp_path)
    for number, kib in enumerate((60, 70)):
        reason = f"refused before training: size_bytes {kib}.00 KiB, at most 50.00 KiB allowed"
        folder = made.trial({"quant": "qat", "seed": str(number)}, state="PRUNED", error=reason, seconds=1.0)
        (folder / "known.json").write_text(json.dumps({"size_bytes": kib * 1024}))
    made.trial({"quant": "qat"}, state="PRUNED", error=AHEAD.format(0, 0), seconds=10.0)
    report.write(made.folder)
    text = made.text()
    assert "27 trials: 24 complete, 2 refused before training, 1 stopped early." in text
    refused = text.partition("## Refused before training\n\n")[2].partition("\n## ")[0]
    assert refused.startswith("2 trials refused before training, since the file would not have kept the constraints")
    assert refused.strip().splitlines()[-1] == (
        "| 2 | 24, 25 | refused before training: size_bytes 60.00 KiB, at most 50.00 KiB allowed |"
    )
    assert "1 trial stopped before the last stages" in text
    assert [row["size_bytes"] for row in made.csv("trials.csv")[24:]] == ["61440", "71680", ""]


def test_a_record_of_what_was_known_that_is_damaged_is_refused_by_name(tmp_path):
    made = typical(tmp_path)
    folder = made.trial({"quant": "qat"}, state="PRUNED", error="refused before training")
    (folder / "known.json").write_text('{"size_bytes": "small"}')
    with pytest.raises(ConfigError, match=r"known\.json: size_bytes: expected a number; received"):
        report.write(made.folder)


def test_what_was_not_stopped_early_has_no_word_of_it(tmp_path):
    made = typical(tmp_path)
    report.write(made.folder)
    assert "topped early" not in made.text()


@pytest.mark.parametrize(("seeds", "told"), [(1, True), (2, False)])
def test_a_front_of_single_runs_says_that_chance_is_not_known(tmp_path, seeds, told):
    made = typical(tmp_path, seeds=seeds)
    report.write(made.folder)
    assert ("how much another seed would change the numbers is not known" in made.text()) == told
    assert "`test_accuracy` took no part in the choice" in made.text()


def test_the_same_network_is_not_both_start_and_student(tmp_path):
    made = Made(tmp_path)
    alone = {"start": STUDENT, "student": STUDENT}
    made.trial({}, measured(0.8, 1000), baselines=alone)
    report.write(made.folder)
    assert "start network" in made.text()
    assert "uncompressed student" not in made.text()


def test_an_axis_is_told_by_value_and_a_continuous_one_by_quarters(tmp_path):
    made = Made(tmp_path, axes={"quant": "ptq,qat", "prune.sparsity": "interval(0,1)"}, sampler="TPESampler", n_trials=20,
                importances={"val_accuracy": {"quant": 0.25, "prune.sparsity": 0.75}})  # fmt: skip
    for number in range(20):
        quant = "qat" if number % 2 else "ptq"
        made.trial(
            {"quant": quant, "prune.sparsity": repr(number / 20)}, measured(0.9 if quant == "qat" else 0.8, 1000 + number)
        )
    report.write(made.folder)
    text = made.text()
    assert "| ptq | 10 | 80.00 % |" in text
    assert "| qat | 10 | 90.00 % |" in text
    assert "| 0 to 0.2 | 5 | 84.00 ± 5.48 % |" in text
    assert "| 0.75 to 0.95 | 5 | 86.00 ± 5.48 % |" in text
    assert "Optuna's importance for `val_accuracy` 0.75." in text
    assert "no fair comparison" in text


def test_a_conditional_axis_has_a_row_for_where_it_does_not_apply(tmp_path):
    made = Made(tmp_path, axes={"quant": "none,ptq", "quant.bits": "4,8"})
    made.trial({"quant": "none"}, measured(0.9, 4000))
    made.trial({"quant": "ptq", "quant.bits": "8"}, measured(0.8, 2000))
    made.trial({"quant": "ptq", "quant.bits": "4"}, measured(0.7, 1000))
    report.write(made.folder)
    lines = made.text().splitlines()
    start = lines.index("### `quant.bits`")
    assert [line.split(" | ")[0] for line in lines[start + 4 : start + 7]] == ["| 4", "| 8", "| (does not apply)"]


# Do the techniques win together?


def compared(made: Made) -> str:
    report.write(made.folder)
    return made.text().partition("## Do the techniques win together?")[2].partition("\n## ")[0]


def test_techniques_are_compared_where_each_alone_was_tried(tmp_path):
    text = compared(typical(tmp_path))
    assert "| distill + prune + quant | 6 |" in text
    assert re.search(
        r"^\| prune alone \| 6 to 2 \| ahead, untested \| \+\d+\.\d \| \+\d\.\d \| \d of \d \|", text, re.MULTILINE
    )
    assert "No two seeds are common to all: chance is not ruled out" in text
    assert "cannot be told" not in text


def test_what_a_sweep_cannot_tell_it_does_not_say(tmp_path):
    made = Made(tmp_path)
    made.trial({"quant": "ptq"}, measured(0.8, 1000))
    assert "cannot be told from this sweep: no trial with a result uses more than one technique" in compared(made)
    made.trial({"quant": "ptq", "prune.sparsity": "0.5"}, measured(0.9, 900))
    text = compared(made)
    assert "Whether prune + quant beats prune alone cannot be told from this sweep" in text
    assert "| quant alone | 1 to 1 | ahead, untested |" in text


def test_repeats_give_paired_intervals(tmp_path):
    text = compared(typical(tmp_path, seeds=3))
    assert re.search(
        r"^\| quant alone \| 6 to 3 \| ahead, p > 0\.05 \| \+\d+\.\d \(\+\d+\.\d to \+\d+\.\d, p 0.25\)", text, re.MULTILINE
    )
    assert "which 3 seeds cannot bring below 0.25" in text


def test_a_verdict_needs_enough_seeds_and_its_value_lies_within_its_interval(tmp_path):
    text = compared(typical(tmp_path, seeds=6))
    (row,) = re.findall(r"^\| prune alone \| 6 to 2 \| ahead \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    for cell in row:
        value, low, high, p = map(float, re.fullmatch(r"(.*) \((.*) to (.*), p (.*)\)", cell).groups())
        assert low <= value <= high
        assert p == 0.031


def test_a_sweep_within_constraints_says_that_it_judges_by_them(tmp_path):
    made = Made(tmp_path, constraints={"size_bytes": "<=1000"})
    made.trial({"quant": "ptq"}, measured(0.8, 1000))
    made.trial({"quant": "ptq", "prune.sparsity": "0.5"}, measured(0.9, 1001))
    assert "no trial with a result within the constraints uses more than one technique" in compared(made)


def test_pairs_are_weighed_by_permutation_and_bootstrap():
    low, high, p = techniques.paired([1.0, 1.0, 1.0, 1.0, 1.0])
    assert (low, high, p) == (1.0, 1.0, 2 / 32)
    low, high, p = techniques.paired([-1.0, 1.0])
    assert (low, high, p) == (-1.0, 1.0, 1.0)
    values = np.random.default_rng(0).normal(0.4, 1, 30).tolist()
    low, high, p = techniques.paired(values)
    normal = 1.96 * np.std(values, ddof=1) / math.sqrt(30)
    assert (low, high) == (pytest.approx(np.mean(values) - normal, abs=0.07), pytest.approx(np.mean(values) + normal, abs=0.07))
    assert 0 < p < 1
    assert techniques.paired(values) == (low, high, p)


def test_all_signs_of_a_few_pairs_are_permuted():
    values = np.random.default_rng(1).normal(0.4, 1, 12)
    signs = np.array(list(itertools.product((1, -1), repeat=12)))
    exact = np.mean(np.abs((signs * values).mean(axis=1)) >= abs(values.mean()) - 1e-12)
    assert techniques.paired(values.tolist())[2] == pytest.approx(exact, rel=1e-12)


def test_techniques_are_read_from_the_configuration(tmp_path):
    made = Made(tmp_path)
    for overrides in ({}, {"prune.sparsity": "0.0"}, {"quant": "float16"}, {"distill": "kd", "prune.sparsity": "0.5"}):
        made.trial(overrides, measured(0.5, 1000))
    found = [trial.techniques() for trial in reader.read(made.folder).trials]
    assert found == [set(), set(), {"quant"}, {"distill", "prune"}]


@pytest.mark.parametrize("used", [[], ["cluster", "distill"]])
def test_a_record_that_says_its_techniques_is_believed_over_the_classes(tmp_path, used):
    made = Made(tmp_path)
    folder = made.trial({"quant": "float16"}, measured(0.5, 1000))
    (folder / "data.json").write_text(json.dumps({"dataset": "digits", "techniques": used}))
    (trial,) = reader.read(made.folder).trials
    assert (trial.techniques(), trial.facts) == (set(used), {"dataset": "digits"})


@pytest.mark.parametrize(
    ("count", "shown"), [(0, ""), (2, "| classes | `c&#124;0`, `c&#124;1` |"), (22, "`c&#124;19` and 2 more |")]
)
def test_the_classes_are_named(tmp_path, count, shown):
    made = Made(tmp_path)
    folder = made.trial({"quant": "float16"}, measured(0.5, 1000))
    (folder / "data.json").write_text(json.dumps({"class_names": [f"c|{number}" for number in range(count)]}))
    report.write(made.folder)
    text = made.text()
    assert shown in text
    assert ("| classes |" in text) is bool(count)


# Unfinished, empty and damaged sweeps.


def test_a_sweep_that_goes_on_says_so(made):
    made.record["ended"] = None
    made.save()
    report.write(made.folder)
    assert "The sweep has not ended" in made.text()
    assert "| 6 | RUNNING | `quant=qat prune.sparsity=0.8` | has not finished |" in made.text()


@pytest.mark.parametrize("trials", [0, 2])
def test_without_a_complete_trial_there_is_a_table_and_a_report(tmp_path, trials):
    made = Made(tmp_path)
    for _ in range(trials):
        made.trial({"quant": "ptq"}, state="FAIL", error="no")
    told = report.write(made.folder)
    assert {path.name for path in told.paths} == {"trials.csv", "report.md"}
    assert (told.front, told.knee) == ((), None)
    assert "No trial is complete" in made.text()
    done = run("made", "--output", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("note: ")


def test_all_trials_without_a_number_are_no_front(plotted, tmp_path):
    made = Made(tmp_path)
    made.trial({"quant": "ptq"}, measured(math.nan, 1000), baselines={})
    assert report.write(made.folder).front == ()


def sweep_json(**record: Any) -> str:
    return json.dumps({"name": "x", "command": "x", "objectives": {"macs": "minimize"}, **record})


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("sweep.json", "{", "sweep.json: expected a JSON object"),
        ("sweep.json", "[]", "sweep.json: expected a JSON object; received list"),
        ("sweep.json", sweep_json(name=None), "sweep.json: name: expected a text; received None"),
        ("sweep.json", sweep_json(objectives={}), "objectives: expected 1 to 4 metrics; received 0"),
        ("sweep.json", sweep_json(objectives={"speed": "maximize"}), "objectives: expected one of val_accuracy,"),
        (
            "sweep.json",
            sweep_json(objectives={"macs": "up"}),
            "objectives.macs: expected one of minimize, maximize; received up",
        ),
        (
            "sweep.json",
            sweep_json(constraints={"macs": "=3"}),
            "constraints.macs: expected <=, >=, < or > and a number; received =3",
        ),
        ("trial-000/trial.json", '{"number": "0"}', "trial.json: state: expected a text; received nothing"),
        ("trial-000/trial.json", '{"number": true, "state": "FAIL"}', "trial.json: number: expected an integer; received True"),
        ("trial-000/trial.json", '{"number": 0, "state": "DONE"}', "trial.json: state: expected one of COMPLETE,"),
        ("trial-000/metrics.json", '{"val_accuracy": "high"}', "metrics.json: val_accuracy: expected a number; received high"),
        ("trial-000/metrics.json", "\xff", "metrics.json: expected a JSON object"),
        ("trial-000/metrics.json", None, "metrics.json: expected a JSON object; received nothing"),
        (
            "trial-000/baselines.json",
            '{"start": {"name": "t", "size_bytes": 0}}',
            "start.size_bytes: expected at least 1; received 0",
        ),
        (
            "trial-000/data.json",
            '{"techniques": ["magic"]}',
            "data.json: techniques: expected a list of distill, prune, cluster, quant; received ['magic']",
        ),
        ("trial-000/data.json", '{"class_names": [1]}', "data.json: class_names: expected a list of texts; received [1]"),
        ("trial-000/config.yaml", "a: [", "config.yaml: expected the composed configuration in YAML"),
        ("trial-000/config.yaml", None, "config.yaml: expected the composed configuration in YAML; received nothing"),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(made, capsys, name, content, where):
    if content is None:
        (made.folder / name).unlink()
    else:
        (made.folder / name).write_text(content, encoding="latin-1")
    assert main(["made", "--output", str(made.output)]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert where in told.err
    assert not (made.folder / "report.md").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mode", "such as made; received mode"),
        ("zzz", "such as made; received zzz"),
        ("stray", "received stray (a folder without sweep.json)"),
        ("../sweeps/made", "such as made; received ../sweeps/made"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(made, capsys, name, told):
    (made.folder.parent / "stray").mkdir()
    assert main([name, "--output", str(made.output)]) == 2
    assert told in capsys.readouterr().err


def test_no_sweep_at_all_is_told(tmp_path, capsys):
    assert main(["x", "--output", str(tmp_path)]) == 2
    assert "(there is none); received x" in capsys.readouterr().err


def test_a_mistake_on_the_command_line_is_told_in_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--nonsense"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# The whole.


def test_equal_records_give_equal_bytes_in_any_process(tmp_path):
    made = typical(tmp_path, seeds=2)
    (tmp_path / "matplotlibrc").write_text("font.size: 20\n")
    assert run("made", "--output", str(tmp_path), PYTHONHASHSEED="1", TZ="UTC").returncode == 0
    first = {name: (made.folder / name).read_bytes() for name in FILES}
    again = run("made", "--output", str(tmp_path), PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C", MATPLOTLIBRC=str(tmp_path))
    assert (again.returncode, again.stderr) == (0, "")
    for name in FILES:
        assert (made.folder / name).read_bytes() == first[name], name


def test_the_commands_start_without_any_heavy_library():
    heavy = {"hydra", "omegaconf", "mlflow", "optuna", "tensorflow", "matplotlib", "plotly", "ai_edge_litert", "pandas"}
    code = f"import sys, sweep.report, sweep.best; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout == "[]\n"
    began = time.perf_counter()
    done = run("--help")
    assert time.perf_counter() - began < 1.2
    assert "NAME" in done.stdout
