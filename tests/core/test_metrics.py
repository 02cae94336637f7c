"""The line that a run ends with: a sparsity never stands without what it is of."""

from __future__ import annotations

from dataclasses import fields

import pytest
from conftest import RECIPE

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import filters, magnitude, no_pruning, patterns, schedules
from sweep.compress.quantize import formats
from sweep.core.metrics import Metrics
from sweep.data import augment, datasets
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
        seed=0,
        threads=1,
    )
    metrics = Metrics(**{field.name: 0.5 for field in fields(Metrics) if field.name != "size_bytes"}, size_bytes=1000)
    assert f", {told}, " in metrics.summary(plan.sparse)
