"""The trial: what is reused, what must be equal, what the metrics are made of, and what a failure leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import RECIPE, THREADS, Silent, accuracy
from filelock import FileLock

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import filters, magnitude, no_pruning, schedules
from sweep.compress.quantize import clipping, formats, ptq, qat
from sweep.core.errors import ConfigError
from sweep.core.types import Storage
from sweep.data import datasets
from sweep.data.augment import Augment
from sweep.devices.litert import LiteRT
from sweep.models import checkpoints, contract, families
from sweep.pipeline import accounting, executor, trial
from sweep.pipeline.cache import Cache
from sweep.pipeline.front import FrontRecord
from sweep.pipeline.plan import Job, Pipeline, Plan
from sweep.pipeline.pruned import TrialPruned
from sweep.results import examples
from sweep.tflite import audit, benchmark, tflm
from sweep.tflite.minimize import lossless, sparse
from sweep.tracking.tracker import NoTracking, Tracker, TrackingError
from sweep.train import loop, recipes

pytestmark = [pytest.mark.usefixtures("tensorflow"), pytest.mark.slow]

PRUNE = magnitude.GlobalMagnitude(
    sparsity=0.5, layers="all", schedule=schedules.PolynomialSparsity(), finetune=1, learning_rate=0.003
)
KD = teachers.KD(teacher=families.CNN(filters=(12,), units=()), temperature=4.0, alpha=0.1, epochs=1, finetune=False)
PLAN = Plan(
    dataset=datasets.Digits(validation=0.2, limit=256, augment=Augment(shift=1, flip=False)),
    model=families.CNN(filters=(8,), units=(8,)),
    train=RECIPE,
    distill=teachers.NoDistillation(),
    prune=PRUNE,
    cluster=kmeans.NoClustering(),
    quant=ptq.PTQ(bits=8, calibration_samples=64),
    pipeline=Pipeline(("distill", "prune", "quant")),
    target=LiteRT(),
    seed=0,
    threads=THREADS,
)
COSTS = {"latency_ms", "latency_p10_ms", "latency_p90_ms", "train_seconds", "stages_reused", "seconds_saved"}


def facts(result: executor.Result) -> dict:
    return {name: value for name, value in result.metrics.items() if name not in COSTS}


def ran(plan: Plan, store: Path) -> tuple[executor.Result, list[tuple[str, bool]]]:
    progress = Silent()
    return executor.run(plan, Cache(store), progress), progress.finished


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first(store):
    return ran(PLAN, store)[0]


def test_the_second_time_every_stage_is_reused_and_the_bytes_are_equal(first, store):
    again, finished = ran(PLAN, store)
    assert finished == [("distill", True), ("prune", True), ("quant", True)]
    assert again.content == first.content
    assert facts(again) == facts(first)
    assert again.curves == first.curves
    assert (again.metrics.train_seconds, again.metrics.stages_reused) == (0, 3)
    assert again.metrics.seconds_saved == pytest.approx(first.metrics.train_seconds)


def test_the_same_seed_and_an_empty_cache_give_equal_bytes_and_another_seed_does_not(first, tmp_path):
    assert ran(PLAN, tmp_path)[0].content == first.content
    other, finished = ran(replace(PLAN, seed=1), tmp_path)
    assert other.content != first.content
    assert not any(reused for _, reused in finished)


def test_what_ran_between_two_trials_leaves_no_trace(first, tmp_path):
    ran(replace(PLAN, model=families.LeNet5(width=0.3), quant=qat.QAT(4, 32, 1, 0.001)), tmp_path)
    assert ran(PLAN, tmp_path)[0].content == first.content


def test_a_later_choice_reuses_the_stages_before_it(first, store):
    _, finished = ran(replace(PLAN, quant=ptq.PTQ(bits=4, calibration_samples=64)), store)
    assert finished == [("distill", True), ("prune", True), ("quant", False)]
    _, finished = ran(replace(PLAN, prune=replace(PRUNE, sparsity=0.7)), store)
    assert finished == [("distill", True), ("prune", False), ("quant", False)]
    _, finished = ran(replace(PLAN, train=replace(RECIPE, batch_size=32)), store)
    assert not any(reused for _, reused in finished)


def test_pruning_again_reaches_the_sparsity_in_shares(store):
    again, finished = ran(replace(PLAN, distill=KD, pipeline=Pipeline(("train", "prune", "distill", "prune", "quant"))), store)
    assert [name for name, _ in finished] == ["teacher", "train", "prune", "distill", "prune_2", "quant"]
    once, _ = ran(replace(PLAN, distill=KD, pipeline=Pipeline(("train", "distill", "prune", "quant"))), store)
    assert again.metrics.sparsity == once.metrics.sparsity >= 0.5
    assert list(again.curves) == ["teacher", "train", "prune", "distill", "prune_2", "quant"]


def test_cutting_again_reaches_the_sparsity_in_shares(store):
    stage = filters.LocalChannels(
        sparsity=0.5, layers="all", score=filters.L2(), minimum=1, steps=1, finetune=1, learning_rate=0.003
    )
    order = Pipeline(("train", "prune", "distill", "prune", "cluster", "quant"))
    plan = replace(PLAN, distill=replace(KD, finetune=True), prune=stage, cluster=CLUSTERS, pipeline=order)
    result, finished = ran(replace(plan, quant=qat.QAT(8, 64, 1, 0.001)), store)
    assert [name for name, _ in finished] == ["teacher", "train", "prune", "distill", "prune_2", "cluster", "quant"]
    assert result.metrics.sparsity == 0.5


CLUSTERS = kmeans.KMeans(levels=8, layers="all", finetune=1, learning_rate=0.001)
CHANNELS = filters.GlobalChannels(
    sparsity=0.5, layers="all", score=filters.L2(), minimum=1, steps=1, finetune=1, learning_rate=0.003
)


@pytest.mark.parametrize("form", [formats.Float32(), ptq.PTQ(8, 64), qat.QAT(4, 64, 1, 0.001)])
def test_removed_channels_are_missing_from_the_file(store, form):
    whole, _ = ran(replace(PLAN, prune=no_pruning.NoPruning(), quant=form), store)
    cut, _ = ran(replace(PLAN, prune=CHANNELS, quant=form), store)
    read = audit.read(cut.content)
    assert read.filters == audit.read(whole.content).filters - 8  # half of 8 filters and 8 units
    assert cut.metrics.sparsity == 0.5
    assert cut.metrics.parameters < 0.7 * whole.metrics.parameters
    assert cut.metrics.macs < whole.metrics.macs
    assert cut.metrics.size_bytes < whole.metrics.size_bytes
    assert cut.metrics.nonzero_parameters > 0.9 * cut.metrics.parameters


def test_a_network_that_cannot_be_cut_is_refused_before_anything_trains(tmp_path):
    flat = replace(PLAN, prune=replace(CHANNELS, score=filters.BNScale(), layers="dense"))
    progress = Silent()
    with pytest.raises(ConfigError, match=r"prune.score: expected batch normalisation .*; received none after dense1"):
        executor.run(flat, Cache(tmp_path), progress)
    assert not progress.finished
    assert not progress.advanced


@pytest.mark.parametrize("form", [ptq.PTQ(8, 64), ptq.PTQ(6, 64), qat.QAT(8, 64, 1, 0.001)])
def test_clusters_and_zeros_reach_the_file(store, form):
    plain, _ = ran(replace(PLAN, quant=form), store)
    few, finished = ran(replace(PLAN, cluster=CLUSTERS, quant=form), store)
    assert [name for name, _ in finished] == ["distill", "prune", "cluster", "quant"]
    assert few.metrics.distinct_weight_levels <= 8 < plain.metrics.distinct_weight_levels
    assert few.metrics.sparsity >= 0.5
    assert few.metrics.gzip_bytes < plain.metrics.gzip_bytes


WIDE = replace(PLAN, model=families.CNN(filters=(16, 32), units=(32,)), prune=replace(PRUNE, sparsity=0.85))


def test_a_packed_file_measures_the_same_and_is_smaller(store):
    plain, _ = ran(replace(WIDE, quant=formats.Float32()), store)
    last = plain
    for form in (formats.Float32(sparse=True), formats.Float32(sparse=True, strip=True)):
        packed, finished = ran(replace(WIDE, quant=form), store)
        assert all(reused for _, reused in finished)
        assert packed.metrics.size_bytes < last.metrics.size_bytes - 500
        assert packed.metrics.weight_bits < 0.5 * plain.metrics.weight_bits
        for name in ("val_accuracy", "test_accuracy", "sparsity", "parameters", "nonzero_parameters", "distinct_weight_levels"):
            assert getattr(packed.metrics, name) == getattr(plain.metrics, name)
        last = packed


@pytest.mark.parametrize("form", [ptq.PTQ(8, 64), ptq.PTQ(4, 64)])
def test_packing_changes_no_stage(store, form):
    plain, _ = ran(replace(WIDE, quant=form), store)
    packed, finished = ran(replace(WIDE, quant=replace(form, sparse=True, strip=True)), store)
    assert all(reused for _, reused in finished)
    assert packed.metrics.size_bytes < plain.metrics.size_bytes
    assert packed.metrics.test_accuracy == plain.metrics.test_accuracy
    for written in (plain.content, packed.content):
        assert lossless.packed(written, strip=False) == written, "every file is as small as it can be"


def test_a_packed_file_that_does_not_run_is_not_taken(store, tmp_path, monkeypatch):
    form = formats.Float32(sparse=True, strip=True)
    plain, _ = ran(replace(PLAN, quant=formats.Float32()), store)
    monkeypatch.setattr(sparse, "compress", lambda content: content[: len(content) // 2])
    monkeypatch.setattr(lossless, "packed", lambda content, strip: content[:16] + bytes(100))
    broken, _ = ran(replace(PLAN, quant=form), tmp_path)
    assert len(broken.content) > len(plain.content)
    assert b"logits" in broken.content
    assert broken.metrics.test_accuracy == plain.metrics.test_accuracy


@pytest.mark.parametrize(("quant", "compared"), [(formats.Float32(), True), (formats.Float16(), False)])
def test_the_file_is_compared_in_tflm_too_where_that_runs_it(store, tmp_path, monkeypatch, quant, compared):
    plain, _ = ran(replace(PLAN, quant=quant), store)

    def by_length(content, images):
        if quant.storage is Storage.FLOAT16:
            raise tflm.TflmError("TFLM has no such kernel")
        return np.full(len(images), len(content))

    monkeypatch.setattr(tflm, "raw_outputs", by_length)
    again, _ = ran(replace(PLAN, quant=quant), tmp_path)
    assert (len(again.content) > len(plain.content)) is compared
    assert again.metrics.test_accuracy == plain.metrics.test_accuracy


def test_the_teacher_has_its_word_in_the_fine_tuning_when_asked(store):
    plan = replace(PLAN, distill=KD, quant=qat.QAT(8, 64, 1, 0.001))
    without, _ = ran(plan, store)
    taught, finished = ran(replace(plan, distill=replace(KD, finetune=True)), store)
    assert finished == [("teacher", True), ("distill", True), ("prune", False), ("quant", False)]
    assert taught.content != without.content
    # Other weights of the two, other fine-tuning; the teacher stays.
    _, finished = ran(replace(plan, distill=replace(KD, finetune=True, temperature=3.0)), store)
    assert finished == [("teacher", True), ("distill", False), ("prune", False), ("quant", False)]


def test_calibration_alone_does_not_depend_on_the_teacher(store):
    pruned = replace(PLAN, distill=KD, prune=no_pruning.NoPruning())
    ran(pruned, store)
    _, finished = ran(replace(pruned, distill=replace(KD, finetune=True)), store)
    assert all(reused for _, reused in finished)


def test_zero_sparsity_is_no_pruning(store):
    none, _ = ran(replace(PLAN, prune=no_pruning.NoPruning()), store)
    zero, finished = ran(replace(PLAN, prune=replace(PRUNE, sparsity=0.0)), store)
    assert finished == [("distill", True), ("quant", True)]
    assert zero.content == none.content


def test_the_metrics_are_of_the_file(first):
    metrics, images = first.metrics, first.data
    assert metrics.size_bytes == len(first.content)
    assert metrics.val_accuracy == accuracy(first.content, images.validation)
    assert metrics.test_accuracy == accuracy(first.content, images.test)
    assert metrics.conversion_gap == metrics.float_accuracy - metrics.val_accuracy
    assert metrics.efficiency == pytest.approx(100 * metrics.test_accuracy * 1024 / len(first.content))
    read = audit.read(first.content)
    assert (metrics.parameters, metrics.macs) == (read.parameters, read.macs)
    assert metrics.sparsity == read.sparsity("all") >= 0.5
    assert metrics.gzip_bytes < metrics.size_bytes


def test_compression_is_against_the_float_file_of_where_one_started(first, store):
    plain, _ = ran(replace(PLAN, prune=no_pruning.NoPruning(), quant=formats.Float32()), store)
    assert plain.metrics.compression == 1.0
    assert first.metrics.compression == len(plain.content) / len(first.content)
    taught, _ = ran(replace(PLAN, distill=KD), store)
    teacher, _ = ran(replace(PLAN, model=KD.teacher, prune=no_pruning.NoPruning(), quant=formats.Float32()), store)
    assert taught.metrics.compression == len(teacher.content) / len(taught.content)
    start, student = (taught.baselines[name] for name in ("start", "student"))
    assert (start["name"], start["size_bytes"], start["test_accuracy"]) == (
        "teacher", len(teacher.content), teacher.metrics.test_accuracy,
    )  # fmt: skip
    assert (student["name"], student["size_bytes"]) == ("distill", len(plain.content))
    assert plain.baselines["start"] == plain.baselines["student"]


def test_a_teacher_is_trained_once_and_is_what_training_it_alone_gives(store):
    _, finished = ran(replace(PLAN, distill=replace(KD, alpha=0.5)), store)
    names = [name for name, _ in finished]
    assert names == ["teacher", "distill", "prune", "quant"]
    _, finished = ran(replace(PLAN, distill=replace(KD, temperature=2.0)), store)
    assert finished == [("teacher", True), ("distill", False), ("prune", False), ("quant", False)]
    _, finished = ran(replace(PLAN, model=KD.teacher, prune=no_pruning.NoPruning(), quant=formats.Float32()), store)
    assert finished == [("distill", True)]


def test_assistants_learn_in_turn(store):
    words = {"teacher": KD.teacher, "temperature": 4.0, "alpha": 0.1, "epochs": 1, "finetune": False}
    chain = teachers.Assistants(assistants={"assistant": families.CNN(filters=(6,), units=())}, **words)
    result, finished = ran(replace(PLAN, distill=chain), store)
    assert [name for name, _ in finished] == ["teacher", "assistant", "distill", "prune", "quant"]
    assert set(result.curves) == {"teacher", "assistant", "distill", "prune", "quant"}
    assert len(result.curves["assistant"]["val_accuracy"]) == RECIPE.epochs


def test_assistants_by_number_are_chosen_once(store):
    words = {
        "teacher": families.CNN(filters=(24,), units=(24,)),
        "temperature": 4.0,
        "alpha": 0.1,
        "epochs": 1,
        "finetune": False,
    }
    plan = replace(PLAN, distill=teachers.Assistants(assistants=2, **words), prune=no_pruning.NoPruning())
    _, finished = ran(plan, store)
    assert [name for name, _ in finished] == ["teacher", "assistant_1", "assistant_2", "distill", "quant"]
    _, again = ran(plan, store)
    assert all(reused for _, reused in again)


def test_a_pruned_network_can_be_distilled_and_keeps_its_zeros(store):
    plan = replace(PLAN, distill=KD, pipeline=Pipeline(("train", "prune", "distill", "quant")))
    result, finished = ran(plan, store)
    assert [name for name, _ in finished] == ["teacher", "train", "prune", "distill", "quant"]
    assert result.metrics.sparsity >= 0.5
    assert len(result.curves["distill"]["loss"]) == KD.epochs


ATTENTION = teachers.Features(
    teacher=KD.teacher, temperature=4.0, alpha=0.1, epochs=1, finetune=True, beta=2.0, layers={"pool1": "conv1_relu"}
)


def test_attention_is_learnt_in_distilling_and_the_logits_alone_after_it(store):
    result, finished = ran(replace(PLAN, distill=ATTENTION), store)
    assert [name for name, _ in finished] == ["teacher", "distill", "prune", "quant"]
    assert set(result.curves) == {"teacher", "distill", "prune", "quant"}
    assert result.metrics.sparsity >= 0.5
    alone = replace(PLAN, distill=replace(ATTENTION, beta=0.0), prune=no_pruning.NoPruning(), quant=formats.Float32())
    logits, finished = ran(alone, store)
    assert finished == [("teacher", True), ("distill", False)]
    assert logits.curves["distill"] != result.curves["distill"]


def test_a_network_whose_filters_were_cut_out_learns_attention(store):
    order = Pipeline(("train", "prune", "distill", "quant"))
    result, finished = ran(replace(PLAN, distill=ATTENTION, prune=CHANNELS, pipeline=order), store)
    assert [name for name, _ in finished] == ["teacher", "train", "prune", "distill", "quant"]
    assert result.metrics.sparsity >= 0.5


def test_layers_that_are_not_there_are_refused_before_anything_trains(tmp_path):
    plan = replace(PLAN, distill=replace(ATTENTION, layers={"conv2": "conv1"}))
    with pytest.raises(ConfigError, match=r"distill.layers: expected layers of the student with .*; received conv2"):
        ran(plan, tmp_path)
    assert not list(Cache(tmp_path).entries())


def test_augmentation_is_part_of_the_key_only_where_it_is_used(first, store):
    wider = replace(PLAN.dataset, augment=Augment(shift=2, flip=True))
    _, finished = ran(replace(PLAN, dataset=wider), store)
    assert all(reused for _, reused in finished)
    augmented = replace(PLAN, train=replace(RECIPE, augment=True))
    assert not any(reused for _, reused in ran(augmented, store)[1])
    assert not any(reused for _, reused in ran(replace(augmented, dataset=wider), store)[1])


def test_augmentation_that_does_nothing_is_said(tmp_path, caplog):
    idle = replace(PLAN.dataset, augment=Augment(shift=0, flip=False))
    for augment, dataset, said in [(True, idle, 1), (True, PLAN.dataset, 0), (False, idle, 0)]:
        caplog.clear()
        executor._Trial.of(
            replace(PLAN, train=replace(RECIPE, augment=augment), dataset=dataset), Cache(tmp_path), Silent(), None
        )
        assert [record.levelname for record in caplog.records] == ["WARNING"] * said
        assert ("dataset.augment.shift=1" in caplog.text) == bool(said)


class Recorder(NoTracking):
    """A tracker that keeps the records, or fails."""

    records: list = []  # noqa: RUF012
    broken = False

    def log_trial(self, record):
        self.records.append(record)
        if self.broken:
            raise TrackingError("gone")


def job(folder: Path, store: Path, tracker: Tracker, plan: Plan = PLAN) -> Job:
    folder.mkdir()
    return Job(plan, tracker, store, folder, folder.name, {"a": "1"}, {"a": "1", "b": "2"}, "a: 1\n", ("a=1",))


def test_a_trial_leaves_its_files_and_its_record(first, store, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "records", records := [])
    metrics, run_id = trial.execute(job(tmp_path / "trial-000", store, Recorder()), Silent())
    assert {path.name for path in (tmp_path / "trial-000").iterdir()} == {
        "baselines.json", "bits.json", "config.yaml", "data.json", "example.json", "log", "metrics.json",
        "model.tflite", "overrides",
    }  # fmt: skip
    shown = examples.read(tmp_path / "trial-000", first.content)
    assert shown is not None
    assert shown.label == first.data.test.labels[shown.number]
    image = first.data.test.images[shown.number]
    assert np.array_equal(np.frombuffer(shown.input, np.int8), image.ravel().astype(int) - 128)
    assert np.frombuffer(shown.output, np.int8).argmax() == shown.label
    assert benchmark.predict(first.content, image[np.newaxis]) == [shown.label]
    assert (tmp_path / "trial-000" / "model.tflite").read_bytes() == first.content
    assert json.loads((tmp_path / "trial-000" / "metrics.json").read_text()) == dict(metrics)
    assert (tmp_path / "trial-000" / "overrides").read_text() == "a=1\n"
    assert run_id is None
    [record] = records
    assert (record.error, record.metrics, record.swept) == (None, metrics, {"a": "1"})
    assert record.tags["data_hash"] == first.data.content_hash
    assert record.start <= record.end


def test_a_failed_trial_leaves_its_reason_and_is_logged(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "records", records := [])
    diverging = replace(PLAN, train=replace(RECIPE, learning_rate=1e30, optimizer=recipes.SGD()))
    with pytest.raises(loop.TrainingError, match="no longer finite"):
        trial.execute(job(tmp_path / "trial-001", store, Recorder(), diverging), Silent())
    folder = tmp_path / "trial-001"
    assert (folder / "error.txt").read_text().startswith("TrainingError: the loss is no longer finite")
    assert "Traceback" in (folder / "log").read_text()
    assert not (folder / "model.tflite").exists()
    assert records[0].error == (folder / "error.txt").read_text().strip()


def test_a_folder_that_is_used_again_holds_nothing_of_the_run_before(store, tmp_path):
    good = job(tmp_path / "again", store, Recorder())
    bad = replace(good, plan=replace(PLAN, train=replace(RECIPE, learning_rate=1e30, optimizer=recipes.SGD())))
    trial.execute(good, Silent())
    with pytest.raises(loop.TrainingError):
        trial.execute(bad, Silent())
    assert {path.name for path in good.folder.iterdir()} == {"config.yaml", "error.txt", "log", "overrides"}
    trial.execute(good, Silent())
    assert not (good.folder / "error.txt").exists()
    assert "Traceback" not in (good.folder / "log").read_text()


def test_a_tracker_that_fails_costs_the_log_only(first, store, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Recorder, "broken", True)
    trial.execute(job(tmp_path / "trial-002", store, Recorder()), Silent())
    assert "could not log to MLflow (gone)" in caplog.text
    assert (tmp_path / "trial-002" / "model.tflite").exists()


def test_a_file_that_does_not_show_what_was_asked_for_fails_the_trial(store, monkeypatch):
    from sweep.tflite import convert

    monkeypatch.setattr(convert, "quantise", lambda content, *others: content)
    with pytest.raises(audit.AuditError):
        ran(replace(PLAN, quant=ptq.PTQ(bits=8, calibration_samples=63)), store)


class NormalisedDense(families.CNN):
    """Batch normalisation before a dense layer, whose kernel it scales input by input."""

    def build(self, input_shape, classes):
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        x = keras.layers.Dense(6, "relu", name="first")(keras.layers.Flatten(name="flatten")(image))
        return keras.Model(image, keras.layers.Dense(classes, name="logits")(keras.layers.BatchNormalization(name="norm")(x)))


@dataclass(frozen=True, kw_only=True)
class SeparateReLU(families.CNN):
    """A ReLU layer right after a convolution, whose weights the toolkit then leaves as they are."""

    def build(self, input_shape, classes):
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        x = keras.layers.ReLU(name="relu")(keras.layers.Conv2D(8, 3, name="conv")(image))
        return keras.Model(image, keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flat")(x)))


class Twice(families.CNN):
    """A convolution that is used twice."""

    def build(self, input_shape, classes):
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        conv = keras.layers.Conv2D(input_shape[-1], 3, padding="same", name="twice")
        features = keras.layers.Flatten(name="flatten")(conv(conv(image)))
        return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


QAT = qat.QAT(bits=8, calibration_samples=64, finetune=1, learning_rate=0.001)


@dataclass(frozen=True, kw_only=True)
class Odd(families.CNN):
    """A network that is not what it should be, in one way or another."""

    way: str

    def build(self, input_shape, classes):
        import tf_keras as keras

        layers = keras.layers
        x = image = keras.Input(input_shape, name="image")
        if self.way == "rows":
            x = layers.LSTM(4, name="rows")(layers.Reshape(input_shape[:2], name="reshape")(x))
        elif self.way == "along":
            x = layers.Conv1D(4, 3, name="along")(layers.Reshape(input_shape[:2], name="reshape")(x))
        else:
            x = layers.Conv2D(4, 3, trainable=self.way != "frozen", name="conv")(x)
        last = "softmax" if self.way == "softmax" else None
        units = 1 if self.way == "one" else classes
        return keras.Model(image, layers.Dense(units, last, name="logits")(layers.Flatten(name="flat")(x)))


def odd(way: str) -> Odd:
    return Odd(filters=(), units=(), way=way)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": odd("one")}, r"model: expected one float32 output, logits \(n, 10\); received float32 \(n, 1\)"),
        ({"model": odd("rows")}, r"model: expected layers whose weights the file holds .*; received rows \(LSTM\)"),
        ({"model": odd("along")}, r"prune: expected Conv2D and Dense layers alone, .*; received along \(Conv1D\)"),
        ({"model": odd("frozen")}, r"prune: expected layers that may change; received conv \(Conv2D\)"),
        ({"model": odd("frozen"), "prune": no_pruning.NoPruning(), "quant": QAT}, r"quant: expected layers that may change"),
        ({"distill": replace(KD, teacher=odd("softmax"))}, r"distill\.teacher: expected logits .* logits \(Dense\), softmax"),
        (
            {
                "distill": teachers.Assistants(
                    **{field.name: getattr(KD, field.name) for field in fields(KD)}, assistants={"between": odd("one")}
                )
            },
            r"distill\.assistants\.between: expected one float32 output",
        ),
    ],
)
def test_a_network_that_is_not_what_it_should_be_is_refused_before_anything_trains(changed, reason, tmp_path):
    progress = Silent()
    with pytest.raises(ConfigError, match=reason):
        executor.run(replace(PLAN, **changed), Cache(tmp_path), progress)
    assert not progress.finished
    assert not progress.advanced


def test_a_frozen_kernel_is_left_alone_and_rounded(tmp_path):
    plan = replace(PLAN, model=odd("frozen"), prune=no_pruning.NoPruning())
    network, _ = executor.network(plan, Cache(tmp_path), Silent())
    checkpoints.fresh(plan.seed)
    fresh = plan.model.build((8, 8, 1), 10).get_weights()
    assert np.array_equal(network.weights[0], fresh[0])
    assert not np.array_equal(network.weights[2], fresh[2])
    assert executor.run(plan, Cache(tmp_path), Silent()).metrics.weight_bits == 8


def test_a_network_that_was_accepted_is_not_built_again(tmp_path, monkeypatch):
    ran(PLAN, tmp_path)
    monkeypatch.setattr(contract, "require", None)
    monkeypatch.setattr(accounting, "require_counted", None)
    ran(replace(PLAN, train=replace(RECIPE, epochs=1)), tmp_path)


def test_a_network_without_kinds_is_no_choice():
    with pytest.raises(ConfigError, match="model: expected a choice of its group or a _target_ with check and kinds and build"):
        replace(PLAN, model=type("Half", (), {"check": None, "build": None})())


@pytest.mark.parametrize(
    ("model", "form", "reason"),
    [
        (NormalisedDense, PLAN.quant, "the float32 file: expected the kernel of logits scaled for each channel"),
        (NormalisedDense, QAT, r"the toolkit cannot train so: Layer norm \(BatchNormalization\) is not supported$"),
        (Twice, PLAN.quant, "the float32 file: expected a kernel of twice in the file, found none"),
        (Twice, QAT, "expected a layer out of twice, logits"),
        (SeparateReLU, replace(QAT, bits=3), "of the layer 'conv': expected INT4, found INT8"),
        (SeparateReLU, replace(QAT, per_layer_bits={"c*": 2}), "of the layer 'conv': expected INT4, found INT8"),
    ],
)
def test_a_network_that_no_integer_file_can_hold_is_refused_before_it_trains(model, form, reason, tmp_path):
    plan = replace(PLAN, model=model(filters=(), units=()), prune=no_pruning.NoPruning(), quant=form)
    progress = Silent()
    with pytest.raises(ConfigError, match=f"quant: expected a network whose kernels become integers; received .*{reason}"):
        executor.run(plan, Cache(tmp_path), progress)
    assert progress.finished == []
    assert executor.run(replace(plan, quant=formats.Float32()), Cache(tmp_path), progress).metrics.parameters > 0


def test_a_kernel_before_a_separate_relu_has_its_grid_where_that_is_stored_as_int8(tmp_path):
    model, form = SeparateReLU(filters=(), units=()), replace(QAT, bits=6)
    content = executor.run(
        replace(PLAN, model=model, prune=no_pruning.NoPruning(), quant=form), Cache(tmp_path), Silent()
    ).content
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (kernel,) = [
        interpreter.get_tensor(each["index"])
        for each in interpreter.get_tensor_details()
        if each["shape"].tolist() == [8, 3, 3, 1]
    ]
    assert kernel.dtype == np.int8
    assert set((kernel % 4).ravel()) == {0}  # 31 steps of 4, of the 127 that int8 has
    assert 8 < len(np.unique(kernel)) <= 64


@pytest.mark.parametrize(
    ("kind", "budget", "expected"),
    [
        (
            ptq.PTQ,
            {"mean_bits": 2.5, "first_last_bits": 8},
            r"quant\.mean_bits: expected at least 8\.0, with such first_last_bits",
        ),
        (ptq.PTQ, {"budget_kib": 1.0}, r"quant\.budget_kib: expected at least about"),
        (qat.QAT, {"budget_kib": 1.0}, r"quant\.budget_kib: expected at least about"),
    ],
)
def test_a_budget_that_no_file_can_keep_is_refused_before_anything_trains(kind, budget, expected, tmp_path):
    more = {"finetune": 1, "learning_rate": 0.001} if kind is qat.QAT else {}
    form = kind(bits=8, calibration_samples=64, per_layer_bits="auto", **more, **budget)
    plan = replace(PLAN, model=families.CNN(filters=(), units=(8,)), quant=form)
    progress = Silent()
    with pytest.raises(ConfigError, match=expected):
        executor.run(plan, Cache(tmp_path), progress)
    assert progress.finished == []


def test_what_a_network_with_fewer_filters_takes_is_known_after_pruning(tmp_path):
    form = ptq.PTQ(bits=8, calibration_samples=64, per_layer_bits="auto", budget_kib=2.0)
    progress = Silent()
    with pytest.raises(ConfigError, match=r"quant\.budget_kib: expected at least about"):
        executor.run(replace(PLAN, prune=CHANNELS, quant=form), Cache(tmp_path), progress)
    assert progress.finished == [("distill", False), ("prune", False)]


class Layers(Silent):
    """Progress that counts the layers that were measured."""

    def __init__(self):
        super().__init__()
        self.layers = 0

    def advance(self, done, total, note):
        self.layers += note.partition(" ")[0] in ("conv1", "dense1", "logits")


def test_the_search_for_bits_is_a_stage_that_quantisers_share(store, tmp_path):
    auto = {"bits": 8, "calibration_samples": 64, "per_layer_bits": "auto"}
    few = ptq.PTQ(**auto, mean_bits=5)

    def searched(form):
        progress = Layers()
        result = executor.run(replace(PLAN, quant=form), Cache(tmp_path), progress)
        return result, dict(progress.finished), progress.layers

    first, stages, layers = searched(few)
    assert (stages, layers) == ({"distill": False, "prune": False, "bit_search": False, "quant": False}, 3)
    assert list(first.curves) == ["distill", "prune", "bit_search", "quant"]
    # What the search does not read does not repeat it.
    for form in (replace(few, activations=16), replace(few, calibration_samples=32), replace(few, strip=True)):
        again, stages, layers = searched(form)
        assert (again.bits, stages["bit_search"], layers) == (first.bits, True, 0)
    assert searched(replace(few, strip=True))[1]["quant"]
    # QAT has other grids where a kernel is depthwise, and another budget other bits: what was measured serves them all.
    trained, stages, layers = searched(qat.QAT(**auto, mean_bits=5, finetune=1, learning_rate=0.001))
    assert (trained.bits, stages["bit_search"], layers) == (first.bits, False, 0)
    more, stages, layers = searched(replace(few, mean_bits=7))
    assert (stages["bit_search"], layers) == (False, 0)
    assert sum(more.bits.values()) > sum(first.bits.values())
    # Ranges of other weights, or other bits to choose from, are measured again.
    assert searched(replace(few, weight_range=clipping.MSE()))[2] == 3
    size = replace(few, mean_bits=None, budget_kib=6.0)
    result, stages, layers = searched(size)
    assert (stages["bit_search"], layers) == (False, 3)
    assert result.metrics.size_bytes <= 6 * 1024
    # A budget of the file is one of the file as it is packed.
    assert searched(size)[1]["bit_search"]
    assert not searched(replace(size, strip=True))[1]["bit_search"]


def test_where_bits_are_given_nothing_is_searched(store):
    _, finished = ran(replace(PLAN, quant=ptq.PTQ(bits=8, calibration_samples=64, per_layer_bits={"logits": 4})), store)
    assert [name for name, _ in finished] == ["distill", "prune", "quant"]


def test_the_three_splits_share_no_image(digits):
    parts = [{image.tobytes() for image in split.images} for split in (digits.train, digits.validation, digits.test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert sum(map(len, parts)) == len(np.unique(np.concatenate(
        [split.images.reshape(len(split), -1) for split in (digits.train, digits.validation, digits.test)]
    ), axis=0))  # fmt: skip


def front(folder, accuracy, size):
    path = folder / "front.json"
    objectives = {"val_accuracy": "maximize", "size_bytes": "minimize"}
    FrontRecord(objectives, 0.05, {"trial-000": {"val_accuracy": accuracy, "size_bytes": size}}).write(path)
    return path


LATE = replace(PLAN, quant=qat.QAT(bits=8, calibration_samples=64, finetune=2, learning_rate=0.001))


@pytest.fixture(scope="module")
def early(store):
    """What an epoch of the QAT that LATE has two of comes to."""
    return executor.run(replace(LATE, quant=replace(LATE.quant, finetune=1)), Cache(store), Silent())


def test_a_hopeless_trial_stops_before_the_next_stage_that_trains(early, store, tmp_path):
    best = max(*early.curves["distill"]["val_accuracy"], *early.curves["prune"]["val_accuracy"])
    size = early.metrics.size_bytes
    progress, ahead = Silent(), front(tmp_path, best + 0.06, size // 2)
    with pytest.raises(TrialPruned) as stopped:
        executor.run(LATE, Cache(store), progress, ahead)
    assert str(stopped.value) == (
        f"stopped before quant: trial-000 is ahead by more than the margin of 0.05: val_accuracy {best + 0.06:g} against an "
        f"expected {best:g}, size_bytes {size // 2} against an expected {size}"
    )
    assert progress.finished == [("distill", True), ("prune", True)]


def test_a_network_that_has_more_to_learn_than_it_has_learnt_is_not_hopeless(early, store, tmp_path):
    epochs = sum(len(early.curves[name]["val_accuracy"]) for name in ("distill", "prune"))
    late = replace(LATE, quant=replace(LATE.quant, finetune=epochs + 1))
    assert executor.run(late, Cache(store), Silent(), front(tmp_path, 1.0, 1)).metrics.size_bytes == early.metrics.size_bytes


def test_an_objective_that_no_rehearsal_tells_stops_nothing(first, store, tmp_path):
    path = tmp_path / "front.json"
    objectives = {"val_accuracy": "maximize", "latency_ms": "minimize"}
    FrontRecord(objectives, 0.0, {"trial-000": {"val_accuracy": 1.0, "latency_ms": 0.0}}).write(path)
    late = replace(LATE, quant=replace(LATE.quant, learning_rate=0.003))
    progress = Silent()
    executor.run(late, Cache(store), progress, path)
    assert "rehearse" not in progress.begun


@pytest.mark.parametrize(("gain", "share"), [(0.2, 1.0), (0.01, 0.5), (-0.5, 0.1)])
def test_a_trial_that_may_still_reach_the_front_goes_on(early, store, tmp_path, gain, share):
    ahead = front(tmp_path, early.metrics.float_accuracy + gain, early.metrics.size_bytes * share)
    result = executor.run(LATE, Cache(store), Silent(), ahead)
    # The size that the rehearsal told is the size that came.
    assert result.metrics.size_bytes == early.metrics.size_bytes


@pytest.mark.parametrize(
    "change", [{"prune": CHANNELS}, {"cluster": CLUSTERS}, {"distill": replace(KD, finetune=True)}], ids=str
)
def test_a_rehearsal_tells_the_size_of_what_is_cut_clustered_or_taught(store, tmp_path, change):
    late = replace(LATE, **change)
    done = executor.run(replace(late, quant=replace(LATE.quant, finetune=1)), Cache(store), Silent())
    with pytest.raises(TrialPruned, match=rf"size_bytes 1 against an expected {done.metrics.size_bytes}$"):
        executor.run(late, Cache(store), Silent(), front(tmp_path, 1.06, 1))


def test_of_several_cuts_nothing_is_rehearsed(first, store, tmp_path):
    steps = replace(PLAN, prune=replace(CHANNELS, steps=2, finetune=2))
    assert executor.run(steps, Cache(store), Silent(), front(tmp_path, 1.06, 1)).metrics.sparsity == 0.5


def test_stages_that_are_there_already_or_do_not_train_are_no_reason_to_stop(first, store, tmp_path):
    ahead = front(tmp_path, 1.0, 1)
    assert executor.run(PLAN, Cache(store), Silent(), ahead).content == first.content
    done = executor.run(LATE, Cache(store), Silent())
    assert executor.run(LATE, Cache(store), Silent(), ahead).content == done.content


def test_while_training_or_distilling_is_still_to_come_no_trial_is_hopeless(store, tmp_path):
    ahead = front(tmp_path, 1.0, 1)
    early = replace(PLAN, distill=KD, pipeline=Pipeline(("train", "prune", "distill", "quant")))
    assert executor.run(early, Cache(store), Silent(), ahead).metrics.size_bytes > 1


def test_a_trial_that_was_stopped_leaves_its_reason(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "records", records := [])
    late = replace(LATE, quant=replace(LATE.quant, learning_rate=0.002))
    stopped = replace(job(tmp_path / "trial-007", store, Recorder(), late), front=front(tmp_path, 1.0, 1))
    with pytest.raises(TrialPruned):
        trial.execute(stopped, Silent())
    reason = (stopped.folder / "pruned.txt").read_text()
    assert reason.startswith("stopped before quant: trial-000 is ahead by more than the margin of 0.05")
    assert {path.name for path in stopped.folder.iterdir()} == {"config.yaml", "log", "overrides", "pruned.txt"}
    assert "Traceback" not in (stopped.folder / "log").read_text()
    [record] = records
    assert (record.pruned, record.error) == (True, reason.strip())


def test_while_another_process_computes_a_stage_what_does_not_need_it_goes_first(tmp_path):
    order = Pipeline(("train", "distill", "prune", "quant"))
    plan = replace(PLAN, distill=KD, pipeline=order)
    alone = ran(plan, tmp_path / "alone")
    store = tmp_path / "shared"
    runner = executor._Trial.of(plan, Cache(store), Silent(), None).runner
    path = Cache(store)._path(runner.digest(runner.start))
    path.parent.mkdir(parents=True)
    lock = FileLock(path.with_suffix(".lock")).acquire()

    class Releases(Silent):
        def finish(self, name, seconds, reused):
            super().finish(name, seconds, reused)
            if name == "train":
                lock.lock.release()

    progress = Releases()
    result = executor.run(plan, Cache(store), progress)
    assert [name for name, _ in progress.finished] == ["train", "teacher", "distill", "prune", "quant"]
    assert [name for name, _ in alone[1]] == ["teacher", "train", "distill", "prune", "quant"]
    assert result.content == alone[0].content
    assert list(result.curves) == list(alone[0].curves)


def test_without_a_teacher_distilling_later_does_nothing_and_distilling_first_is_training(first, store):
    later = replace(PLAN, pipeline=Pipeline(("train", "distill", "prune", "quant")))
    result, finished = ran(later, store)
    assert [name for name, _ in finished] == ["train", "prune", "quant"]
    assert result.content == first.content
