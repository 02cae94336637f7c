"""What is known of a file before anything trains: it is what the trained file has, and what cannot keep a limit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest
from conftest import RECIPE, THREADS, Silent

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import filters, magnitude, schedules
from sweep.compress.quantize import formats, ptq, qat
from sweep.data import datasets
from sweep.data.augment import Augment
from sweep.devices.litert import LiteRT
from sweep.models import families
from sweep.pipeline import executor, trial
from sweep.pipeline.cache import Cache
from sweep.pipeline.plan import Job, Pipeline, Plan
from sweep.pipeline.pruned import TrialPruned
from sweep.results import reader
from sweep.tracking.tracker import NoTracking

pytestmark = [pytest.mark.usefixtures("tensorflow"), pytest.mark.slow]

PLAN = Plan(
    dataset=datasets.Digits(validation=0.2, limit=256, augment=Augment(shift=0, flip=False)),
    model=families.CNN(filters=(8,), units=(8,)),
    train=replace(RECIPE, epochs=1),
    distill=teachers.NoDistillation(),
    prune=magnitude.GlobalMagnitude(
        sparsity=0.5, layers="all", schedule=schedules.PolynomialSparsity(), finetune=1, learning_rate=0.003
    ),
    cluster=kmeans.NoClustering(),
    quant=ptq.PTQ(bits=8, calibration_samples=64),
    pipeline=Pipeline(("distill", "prune", "quant")),
    target=LiteRT(),
    seed=0,
    threads=THREADS,
)
CUT = {"sparsity": 0.5, "layers": "all", "score": filters.L2(), "minimum": 1, "finetune": 1, "learning_rate": 0.003}
LOCAL, GLOBAL = filters.LocalChannels(**CUT, steps=1), filters.GlobalChannels(**CUT, steps=1)
KD = teachers.KD(teacher=families.CNN(filters=(12,), units=()), temperature=4.0, alpha=0.1, epochs=1, finetune=True)
CLUSTERS = kmeans.KMeans(levels=16, layers="all", finetune=1, learning_rate=0.001)
TOO_SMALL = {
    "size_bytes": (-inf, 10.0),
    "macs": (-inf, 10.0),
    "parameters": (-inf, 10.0),
    "weight_bits": (-inf, 0.5),
    "arena_bytes": (-inf, 10.0),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"quant": ptq.PTQ(bits=4, calibration_samples=64)},
        {"quant": qat.QAT(bits=4, calibration_samples=64, finetune=1, learning_rate=0.001)},
        {"quant": formats.Float32()},
        {"prune": LOCAL},
        {"distill": KD, "cluster": CLUSTERS},
        {"prune": LOCAL, "pipeline": Pipeline(("train", "prune", "distill", "prune", "cluster", "quant")), "distill": KD},
    ],
    ids=str,
)
def test_what_is_known_before_training_is_what_the_file_has(change, store):
    plan, progress = replace(PLAN, **change), Silent()
    with pytest.raises(TrialPruned) as refused:
        executor.run(plan, store, progress, limits=TOO_SMALL)
    assert progress.finished == []
    known, measured = refused.value.known, executor.run(plan, store, Silent()).metrics
    assert set(known) == set(TOO_SMALL)
    assert known["size_bytes"] == pytest.approx(measured["size_bytes"], rel=0.02)
    for name in set(known) - {"size_bytes"}:
        assert known[name] == measured[name], name


def test_the_reason_names_what_is_known_and_what_is_allowed(store):
    with pytest.raises(TrialPruned) as refused:
        executor.run(
            PLAN, store, Silent(), limits={"size_bytes": (-inf, 1024.0), "macs": (1e9, inf), "val_accuracy": (0.9, inf)}
        )
    known = refused.value.known
    assert str(refused.value) == (
        f"refused before training: size_bytes {known['size_bytes'] / 1024:.2f} KiB, at most 1.00 KiB allowed;"
        f" macs {known['macs']:,}, at least 1e+09 allowed"
    )


def test_what_may_come_within_the_limit_is_not_refused(store):
    size = executor.run(PLAN, store, Silent()).metrics.size_bytes
    assert executor.run(PLAN, store, Silent(), limits={"size_bytes": (-inf, 0.99 * size)}).metrics.size_bytes == size


@pytest.mark.parametrize(
    "change",
    [
        {"prune": GLOBAL},
        {"prune": replace(LOCAL, steps=2, finetune=2)},
        {"quant": ptq.PTQ(bits=8, calibration_samples=64, per_layer_bits="auto", mean_bits=6.0)},
    ],
    ids=str,
)
def test_where_the_weights_decide_on_the_shapes_nothing_is_known(change, store):
    assert executor.run(replace(PLAN, **change), store, Silent(), limits=TOO_SMALL).metrics.size_bytes > 10


def test_of_a_sparse_file_the_bytes_are_not_known(store):
    plan = replace(PLAN, quant=formats.Float32(sparse=True))
    assert executor.run(plan, store, Silent(), limits={"size_bytes": (-inf, 10.0)}).metrics.size_bytes > 10
    with pytest.raises(TrialPruned, match="macs"):
        executor.run(plan, store, Silent(), limits={"macs": (-inf, 10.0)})


def test_the_second_time_nothing_is_converted(store):
    plan, progress = replace(PLAN, quant=ptq.PTQ(bits=6, calibration_samples=64)), Silent()
    for begun in (["check", "rehearse"], []):
        progress = Silent()
        with pytest.raises(TrialPruned):
            executor.run(plan, store, progress, limits=TOO_SMALL)
        assert progress.begun == begun


def test_a_refused_trial_leaves_what_is_known(tmp_path):
    folder = tmp_path / "trial-000"
    folder.mkdir()
    job = Job(PLAN, NoTracking(), tmp_path / "cache", folder, "trial-000", {}, {}, "model: cnn\n", (), limits=TOO_SMALL)
    with pytest.raises(TrialPruned) as refused:
        trial.execute(job, Silent())
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "known.json", "log", "overrides", "pruned.txt"}
    assert json.loads((folder / "known.json").read_text()) == refused.value.known
    told = {"number": 0, "state": "PRUNED", "overrides": {}, "fixed": {}, "seconds": 1.0, "error": str(refused.value)}
    (folder / "trial.json").write_text(json.dumps(told))
    read = reader.trial(folder)
    assert (read.outcome, read.known, read.metrics) == ("REFUSED", refused.value.known, {})
