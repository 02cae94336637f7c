"""The table of metrics against docs/metrics.md, and the line that a run ends with: a sparsity says what it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import RECIPE

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import filters, magnitude, no_pruning, patterns, schedules
from sweep.compress.quantize import formats
from sweep.core.measurement import Measurement, Predictions
from sweep.core.metric import Kind, Prominence
from sweep.core.metrics import METRICS, Metrics, directions, of_kind, searchable, seen_in
from sweep.core.text import table
from sweep.data import augment, datasets
from sweep.devices.litert import LiteRT
from sweep.models import families
from sweep.pipeline.plan import Pipeline, Plan

WEIGHTS = {"schedule": schedules.ConstantSparsity(), "finetune": 1, "learning_rate": 0.001}
FILTERS = {"score": filters.L2(), "minimum": 1, "steps": 1, "finetune": 1, "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("pruning", "told"),
    [
        (no_pruning.NoPruning(), "50% of conv and dense weights zero"),
        (magnitude.GlobalMagnitude(sparsity=0.5, layers="all", **WEIGHTS), "50% of conv and dense weights zero"),
        (patterns.Block(sparsity=0.5, layers="dense", height=1, width=2, **WEIGHTS), "50% of dense weights zero"),
        (patterns.NM(n=1, m=2, layers="conv", **WEIGHTS), "50% of conv weights zero"),
        (filters.GlobalChannels(sparsity=0.5, layers="all", **FILTERS), "50% of conv and dense filters removed"),
        (filters.LocalChannels(sparsity=0.5, layers="conv", **FILTERS), "50% of conv filters removed"),
        (filters.LocalChannels(sparsity=0.0, layers="conv", **FILTERS), "50% of conv weights zero"),
    ],
)
def test_the_sparsity_says_of_what(pruning, told):
    plan = Plan(
        dataset=datasets.Digits(validation=0.2, limit=None, augment=augment.Augment(shift=0, flip=False)),
        model=families.LeNet5(),
        train=RECIPE,
        distill=teachers.NoDistillation(),
        prune=pruning,
        cluster=kmeans.NoClustering(),
        quant=formats.Float32(),
        pipeline=Pipeline(("train", "prune", "quant")),
        target=LiteRT(),
        seed=0,
        threads=1,
    )
    metrics = Metrics(dict.fromkeys(METRICS, 0.5) | {"size_bytes": 1000})
    assert f", {told}, " in metrics.summary(plan.sparse)


def test_the_readme_has_the_table():
    words = {"maximize": "more", "minimize": "less", None: ""}
    rows = [[f"`{name}`", metric.meaning, words[metric.direction]] for name, metric in METRICS.items()]
    expected = table(["name", "meaning", "better"], rows)
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    assert expected in page, f"docs/metrics.md: expected\n{expected}"


def test_macro_averaged_accuracy_counts_every_class_alike():
    labels = np.array([0] * 90 + [1] * 8 + [3] * 2)  # none of class 2
    predicted = np.where(labels == 1, np.arange(100) % 2, 0)  # half of class 1 is taken for class 0, and all of class 3
    metrics = Metrics.of(Measurement(content=b"", validation=Predictions(predicted, labels, 4)))
    assert metrics["val_accuracy"] == 0.94
    assert metrics["macro_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["min_recall"] == 0
    better = np.where(labels == 3, 3, predicted)
    assert Metrics.of(Measurement(content=b"", validation=Predictions(better, labels, 4)))["min_recall"] == 0.5
    assert "macro_accuracy" not in Metrics.of(Measurement(content=b""))


def test_a_search_sees_nothing_of_the_test_split():
    assert set(METRICS) - set(searchable()) == {"test_accuracy", "efficiency"}


def test_the_more_prominent_come_first_and_each_level_holds_those_above():
    headline, *_, every = (seen_in(level) for level in sorted(Prominence, reverse=True))
    assert headline == ("val_accuracy", "test_accuracy", "size_bytes", "arena_bytes")
    assert every[:4] == headline
    assert sorted(every) == sorted(METRICS)


def test_every_size_and_accuracy_has_a_direction():
    assert set(directions(*of_kind(Kind.ACCURACY)).values()) == {"maximize"}
    assert set(directions(*of_kind(Kind.FILE_SIZE)).values()) == {"minimize"}
    with pytest.raises(ValueError, match="stages_reused: neither"):
        directions("stages_reused")


@pytest.mark.parametrize(
    ("name", "value", "in_line", "text"),
    [
        ("val_accuracy", 0.98314, "98.31%", "98.31 %"),
        ("size_bytes", 2048, "2.00 KiB", "2.00 KiB"),
        ("compression", 12.345, "12.35", "12.3 ×"),
        ("macs", 2_500_000, "2,500,000", "2.50 millions"),
        ("latency_ms", 0.01234, "0.01234", "0.0123 ms"),
        ("stages_reused", 3, "3", "3.00"),
        ("train_seconds", float("nan"), "nan", "–"),
    ],
)
def test_values_are_written_for_people(name, value, in_line, text):
    assert (METRICS[name].in_line(value), METRICS[name].text(value)) == (in_line, text)
