"""What every stage must do, whatever it does: one suite that each choice of the stage groups passes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import numpy as np
import pytest
from conftest import CONF, RECIPE
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweep.compress.distill import stages
from sweep.compress.prune import filters, weight_pruning
from sweep.config import build
from sweep.core.stage import Outcome
from sweep.core.types import Checkpoint
from sweep.models import checkpoints, families
from sweep.pipeline.cache import digest
from sweep.train import loop

pytestmark = [pytest.mark.usefixtures("tensorflow"), pytest.mark.slow]

SHORT = {"finetune": 1, "epochs": 1, "calibration_samples": 32}
STUDENT = families.CNN(filters=(8,), units=(8,))
TEACHER = families.CNN(filters=(12,), units=())


def choice(group: str, name: str):
    """The stage of a choice in conf/, with its epochs cut down."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("config", [f"{group}={name}"])[group]
    for key, value in SHORT.items():
        if type(node.get(key)) is int:
            node[key] = value
    built = build.instantiate(node, group)
    return built.stage() if group == "distill" else built


STAGES = {
    f"{group}={path.stem}": (group, path.stem)
    for group in ("distill", "prune", "cluster", "quant")
    for path in sorted((CONF / group).glob("*.yaml"))
}


@pytest.fixture(params=STAGES)
def stage(request):
    return choice(*STAGES[request.param])


@pytest.fixture(scope="module")
def start(context) -> Checkpoint:
    """A trained network with a mask on its convolution."""
    checkpoints.fresh(0)
    network = stages.Train().apply(None, context(model=STUDENT)).network
    model = checkpoints.restore(network)
    kernel = checkpoints.kernels(model)["conv1"]
    mask = np.abs(kernel.numpy()) > np.median(np.abs(kernel.numpy()))
    kernel.assign(kernel * mask)
    return checkpoints.snapshot(model, {"conv1": mask})


@pytest.fixture(scope="module")
def shared(start) -> Checkpoint:
    """The same with a dense layer of two values."""
    model = checkpoints.restore(start)
    kernel = checkpoints.kernels(model)["dense1"]
    numbers = (kernel.numpy() > 0).astype(np.int32)
    kernel.assign(np.where(numbers, 0.2, -0.1))
    return replace(checkpoints.snapshot(model, start.masks), clusters={"dense1": numbers})


@pytest.fixture
def taught(context):
    """A context in which there is a teacher."""
    checkpoints.fresh(5)
    teacher = checkpoints.snapshot(TEACHER.build((8, 8, 1), 10))
    return context(model=STUDENT, teacher=("teacher", teacher), recipe=replace(RECIPE, epochs=1))


def applied(stage, network, context) -> Outcome:
    checkpoints.fresh(context.seed)
    return stage.apply(network, context)


def model_of(stage, network, context):
    """The Keras model of what a stage handed on."""
    return stage.restore(network, context.data.train)[0] if hasattr(stage, "restore") else checkpoints.restore(network)


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        one.architecture == other.architecture
        and len(one.weights) == len(other.weights)
        and all(np.array_equal(mine, theirs) for mine, theirs in zip(one.weights, other.weights, strict=True))
        and one.filters == other.filters
        and one.clusters.keys() == other.clusters.keys()
        and all(np.array_equal(one.clusters[name], other.clusters[name]) for name in one.clusters)
        and one.bits == other.bits
        and one.masks.keys() == other.masks.keys()
        and all(np.array_equal(one.masks[name], other.masks[name]) for name in one.masks)
    )


def test_every_choice_is_here():
    assert {
        "distill=none",
        "distill=kd",
        "prune=global",
        "prune=random",
        "cluster=kmeans",
        "quant=ptq",
        "quant=qat",
    } <= STAGES.keys()


# What another value of a field is, where twice the value is none.
OTHERS = {
    "bits": lambda bits: 12 - bits,  # 8 and 4
    "sparsity": lambda sparsity: sparsity / 2,
    "n": lambda n: n - 1,
    "finetune": lambda epochs: 2,
}


def test_it_is_a_frozen_value_that_names_its_result(stage):
    assert is_dataclass(stage)
    if fields(stage):
        with pytest.raises(FrozenInstanceError):
            setattr(stage, fields(stage)[0].name, None)
    assert digest(stage) == digest(replace(stage))
    for field in fields(stage):
        value = getattr(stage, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            changed = OTHERS[field.name](value) if field.name in OTHERS else value * 2 or 1
            more = {"finetune": 2} if field.name == "steps" else {}  # an epoch for each
            assert digest(replace(stage, **more)) != digest(replace(stage, **more, **{field.name: changed}))


def test_the_same_input_gives_the_same_bits(stage, start, taught):
    assert equal(applied(stage, start, taught).network, applied(stage, start, taught).network)


def test_what_ran_before_in_the_process_does_not_matter(stage, start, taught):
    first = applied(stage, start, taught).network
    checkpoints.fresh(77)
    families.ResNet(blocks=1).build((8, 8, 1), 10)(np.ones((2, 8, 8, 1), np.float32), training=True)
    assert equal(first, applied(stage, start, taught).network)


def test_what_it_receives_is_left_as_it_is(stage, start, taught):
    weights, masks = [array.copy() for array in start.weights], {name: mask.copy() for name, mask in start.masks.items()}
    images, labels = taught.data.train.images.copy(), taught.data.train.labels.copy()
    applied(stage, start, taught)
    assert equal(start, replace(start, weights=tuple(weights), masks=masks))
    np.testing.assert_array_equal(taught.data.train.images, images)
    np.testing.assert_array_equal(taught.data.train.labels, labels)


def test_weights_that_were_pruned_before_stay_zero(stage, start, taught):
    after = applied(stage, start, taught).network
    if not after.filters:
        assert not (after.masks["conv1"] & ~start.masks["conv1"]).any()
    assert (~after.masks["conv1"]).any()
    model = model_of(stage, after, taught)
    for name, mask in after.masks.items():
        assert not checkpoints.kernels(model)[name].numpy()[~mask].any()


def test_weights_that_were_clustered_before_stay_equal(stage, shared, taught):
    if isinstance(stage, (weight_pruning.WeightPruning, filters.ChannelPruning)):
        pytest.skip("an order has no pruning after clustering")
    after = applied(stage, shared, taught).network
    numbers = after.clusters["dense1"]
    model = model_of(stage, after, taught)
    kernel = checkpoints.kernels(model)["dense1"].numpy()
    assert len(numbers) == len(kernel)
    for number in np.unique(numbers):
        assert np.ptp(kernel[numbers == number]) < 1e-6


def test_its_result_survives_the_cache(stage, start, taught):
    outcome = applied(stage, start, taught)
    assert equal(outcome.network, Checkpoint.from_arrays(outcome.network.to_arrays()))
    assert all(array.dtype != object for array in outcome.network.to_arrays().values())


def test_its_network_answers_with_finite_logits(stage, start, taught):
    after = applied(stage, start, taught).network
    checkpoints.fresh(0)
    model = model_of(stage, after, taught)
    answers = loop.Predictor(model)(taught.data.validation.images)
    assert answers.shape == (len(taught.data.validation), 10)
    assert np.isfinite(answers).all()


def test_its_curves_have_one_finite_value_an_epoch(stage, start, taught):
    curves = applied(stage, start, taught).curves
    assert len({len(values) for values in curves.values()}) <= 1
    assert all(np.isfinite(values).all() for values in curves.values())
    assert set(curves) in (set(), {"loss", "accuracy", "val_accuracy"})


def test_without_a_network_it_starts_from_fresh_weights_or_says_that_it_cannot(stage, taught):
    if isinstance(stage, (stages.Train, stages.Distill)):
        outcome = applied(stage, None, taught)
        assert len(outcome.curves["loss"]) == taught.recipe.epochs
    else:
        with pytest.raises(ValueError, match="takes a trained network"):
            applied(stage, None, taught)


def test_it_never_looks_at_the_test_split(stage, start, taught):
    blind = replace(taught, data=replace(taught.data, test=None))
    assert equal(applied(stage, start, blind).network, applied(stage, start, taught).network)
