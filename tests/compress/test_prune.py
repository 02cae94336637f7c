"""Masks by count against oracles, schedules in closed form, and zeros that stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.compress.prune import magnitude, patterns, random, schedules
from sweep.core.errors import ConfigError
from sweep.models import checkpoints, families

pytestmark = pytest.mark.usefixtures("tensorflow")

SETTINGS = {"layers": "all", "schedule": schedules.ConstantSparsity(), "finetune": 0, "learning_rate": 0.001}


def made(kind, **fields):
    return kind(**{"sparsity": 0.5, **SETTINGS, **fields})


layer = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.sampled_from([-2, -1, 0, 0.5, 1, 2])
)


@settings(deadline=None)
@given(layers=st.lists(layer, min_size=1, max_size=4), sparsity=st.floats(0, 0.999))
def test_global_pruning_drops_exactly_the_count_and_only_the_smallest(layers, sparsity):
    weights = {str(number): values for number, values in enumerate(layers)}
    masks = made(magnitude.GlobalMagnitude, sparsity=sparsity).masks(weights, {}, 1.0)
    kept = np.concatenate([np.abs(weights[name])[mask] for name, mask in masks.items()])
    dropped = np.concatenate([np.abs(weights[name])[~mask] for name, mask in masks.items()])
    size = sum(values.size for values in layers)
    assert len(dropped) == min(round(sparsity * size), size - 1)  # ties included; one weight always stays
    if len(kept) and len(dropped):
        assert dropped.max() <= kept.min()
    assert all(mask.shape == weights[name].shape for name, mask in masks.items())


@settings(deadline=None)
@given(layers=st.lists(layer, min_size=1, max_size=4), sparsity=st.floats(0, 0.999))
def test_local_pruning_drops_the_same_fraction_of_each_layer(layers, sparsity):
    weights = {str(number): values for number, values in enumerate(layers)}
    masks = made(magnitude.LocalMagnitude, sparsity=sparsity).masks(weights, {}, 1.0)
    for name, mask in masks.items():
        oracle = np.sort(np.abs(weights[name]).ravel())[: min(round(sparsity * mask.size), mask.size - 1)]
        np.testing.assert_array_equal(np.sort(np.abs(weights[name])[~mask]), oracle)


def test_the_one_threshold_of_global_pruning_is_not_local():
    weights = {"small": np.full((4, 4), 0.1, np.float32), "large": np.full((4, 4), 10.0, np.float32)}
    masks = made(magnitude.GlobalMagnitude).masks(weights, {}, 1.0)
    assert not masks["small"].any()
    assert masks["large"].all()
    assert made(magnitude.LocalMagnitude).masks(weights, {}, 1.0)["small"].sum() == 8


@pytest.mark.parametrize("kind", [magnitude.GlobalMagnitude, magnitude.LocalMagnitude])
def test_what_an_earlier_mask_dropped_goes_first(kind):
    weights, earlier = {"a": np.arange(1.0, 9.0).reshape(2, 4)}, {"a": np.ones((2, 4), bool)}
    earlier["a"][1, 3] = False  # the largest weight
    mask = made(kind).masks(weights, earlier, 0.5)["a"]
    assert mask.tolist() == [[False, True, True, True], [True, True, True, False]]


@settings(deadline=None)
@given(layers=st.lists(layer, min_size=1, max_size=4), sparsity=st.floats(0, 0.999), part=st.floats(0, 1))
def test_random_pruning_drops_the_same_fraction_of_each_layer_and_keeps_what_is_dropped(layers, sparsity, part):
    weights = {str(number): values for number, values in enumerate(layers)}
    control = made(random.Random, sparsity=sparsity, seed=3)
    less = control.masks(weights, {}, part)
    for kept in ({}, less):
        for name, mask in control.masks(weights, kept, 1.0).items():
            assert np.count_nonzero(~mask) == min(round(sparsity * mask.size), mask.size - 1)
            assert not (mask & ~less[name]).any()


def test_random_pruning_goes_by_the_seed_and_the_layer_alone():
    weights = {name: np.ones((40, 50), np.float32) for name in "ab"}
    masks = {seed: made(random.Random, seed=seed).masks(weights, {}, 1.0) for seed in (0, 1)}
    other = made(random.Random, seed=0).masks({"a": np.arange(2000.0).reshape(40, 50)}, {}, 1.0)
    np.testing.assert_array_equal(other["a"], masks[0]["a"])
    for one, two in ((masks[0]["a"], masks[0]["b"]), (masks[0]["a"], masks[1]["a"])):
        assert 0.4 < np.mean(one == two) < 0.6
    columns, rows = (masks[0]["a"].mean(axis=axis) for axis in (0, 1))  # of 40 and of 50 weights: half, within 3.8 deviations
    assert 0.2 < columns.min() < columns.max() < 0.8
    assert 0.23 < rows.min() < rows.max() < 0.77
    with pytest.raises(ConfigError, match="seed: expected"):
        made(random.Random, seed=-1)


FINETUNING = {"schedule": schedules.ConstantSparsity(), "finetune": 0, "learning_rate": 0.001}


def pattern(n, m, **fields):
    return patterns.NM(**{"n": n, "m": m, "layers": "all", **FINETUNING, **fields})


@settings(deadline=None)
@given(kernel=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=9), elements=st.floats(-2, 2, width=32)),
       shape=st.tuples(st.integers(1, 7), st.integers(1, 7)))  # fmt: skip
def test_of_every_m_weights_along_the_input_channels_the_n_largest_stay(kernel, shape):
    n, m = min(shape), max(shape) + 1
    mask = pattern(n, m).masks({"a": kernel}, {}, 1.0)["a"]
    rows, kept = (np.moveaxis(one, -2, -1).reshape(-1, kernel.shape[-2]) for one in (np.abs(kernel), mask))
    for row, stay in zip(rows, kept, strict=True):
        for at in range(0, len(row), m):
            group, keep = row[at : at + m], stay[at : at + m]
            assert keep.sum() == -(-n * len(group) // m)
            if (~keep).any():
                assert group[keep].min() >= group[~keep].max()


def test_a_gradual_pattern_drops_one_weight_of_each_group_after_the_other():
    kernel = np.arange(1.0, 17.0, dtype=np.float32).reshape(8, 2)
    stage = pattern(1, 4)
    counts = [int(stage.masks({"a": kernel}, {}, fraction)["a"].sum()) for fraction in (0.0, 0.34, 0.67, 1.0)]
    assert counts == [16, 12, 8, 4]
    assert stage.share(0.5) == pattern(2, 4)
    assert stage.share(1.0) == stage
    assert stage.share(0.1) == pattern(3, 4)  # at least one goes
    assert stage.sparsity == 0.75


def test_whole_blocks_go_by_their_mean_magnitude():
    kernel = np.array([[9, 9, 1, 1, 5], [9, 9, 1, 1, 5], [2, 2, 0, 8, 3]], np.float32)
    stage = patterns.Block(sparsity=0.5, height=2, width=2, layers="dense", **FINETUNING)
    mask = stage.masks({"a": kernel}, {}, 1.0)["a"]
    # Means 9, 1, 5 above and, of blocks cut off by the edge, 2, 4, 3 below: 1, 2 and 3 go.
    assert mask.tolist() == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 0]]
    assert stage.share(0.5).sparsity == 0.25


@pytest.mark.parametrize("stage", [pattern(2, 4, finetune=2), patterns.Block(sparsity=0.6, height=1, width=4, layers="dense",
                                                                          **{**FINETUNING, "finetune": 2})])  # fmt: skip
def test_patterns_hold_through_the_fine_tuning(context, stage):
    outcome = stage.apply(network(), context())
    model = checkpoints.restore(outcome.network)
    for name, kernel in checkpoints.kernels(model, stage.layers).items():
        values = kernel.numpy()
        assert not values[~outcome.network.masks[name]].any()
        expected = stage.masks({name: values}, {}, 1.0)[name]
        assert (values[~expected] == 0).all()
    assert outcome.network.zeros > 0


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (lambda: pattern(4, 4), "n"),
        (lambda: pattern(0, 4), "n"),
        (lambda: pattern(1, 1), "m"),
        (lambda: pattern(1, 4, layers="none"), "layers"),
        (lambda: patterns.Block(sparsity=0.5, height=1, width=4, layers="conv", **FINETUNING), "layers"),
        (lambda: patterns.Block(sparsity=0.5, height=0, width=4, layers="dense", **FINETUNING), "height"),
        (lambda: patterns.Block(sparsity=1.0, height=1, width=4, layers="dense", **FINETUNING), "sparsity"),
    ],
)
def test_bad_patterns_are_refused(made, where):
    with pytest.raises(ConfigError) as refused:
        made()
    assert refused.value.where == where


def test_the_polynomial_schedule_is_zhu_and_guptas():
    schedule = schedules.PolynomialSparsity(power=3.0, end=0.5)
    for done in (0.0, 0.1, 0.3, 0.5):
        assert schedule.fraction(done) == pytest.approx(1 - (1 - done / 0.5) ** 3)
    assert schedule.fraction(0.0) == 0
    assert schedule.fraction(0.7) == schedule.fraction(1.0) == 1
    assert schedules.ConstantSparsity().fraction(0.0) == 1


def network():
    checkpoints.fresh(0)
    return checkpoints.snapshot(families.CNN(filters=(8, 16), units=(12,)).build((8, 8, 1), 10))


@pytest.mark.parametrize("kind", [magnitude.GlobalMagnitude, magnitude.LocalMagnitude])
@pytest.mark.parametrize("schedule", [schedules.ConstantSparsity(), schedules.PolynomialSparsity()])
@pytest.mark.parametrize("finetune", [0, 2])
def test_the_realised_sparsity_is_the_requested_one(context, kind, schedule, finetune):
    outcome = made(kind, sparsity=0.8, schedule=schedule, finetune=finetune).apply(network(), context())
    kernels = {name: kernel.numpy() for name, kernel in checkpoints.kernels(checkpoints.restore(outcome.network)).items()}
    zeros, size = sum(int((kernel == 0).sum()) for kernel in kernels.values()), sum(kernel.size for kernel in kernels.values())
    if kind is magnitude.GlobalMagnitude:
        assert zeros == round(0.8 * size)
    else:
        assert zeros == sum(round(0.8 * kernel.size) for kernel in kernels.values())
    assert outcome.network.zeros == zeros
    assert len(outcome.curves.get("loss", ())) == finetune


@pytest.mark.parametrize("layers", ["conv", "dense"])
def test_only_the_targeted_layers_are_pruned(context, layers):
    before, outcome = network(), made(magnitude.GlobalMagnitude, layers=layers).apply(network(), context())
    model = checkpoints.restore(outcome.network)
    assert set(outcome.network.masks) == set(checkpoints.kernels(model, layers))
    start = checkpoints.kernels(checkpoints.restore(before))
    for name, kernel in checkpoints.kernels(model).items():
        assert np.array_equal(kernel, start[name]) == (name not in outcome.network.masks)


def test_a_second_pruning_holds_the_masks_of_the_first(context):
    first = made(magnitude.LocalMagnitude, sparsity=0.6, layers="conv").apply(network(), context()).network
    second = made(magnitude.LocalMagnitude, sparsity=0.3, layers="all", finetune=1).apply(first, context()).network
    for name, mask in first.masks.items():
        assert not (second.masks[name] & ~mask).any()
    model = checkpoints.restore(second)
    for name, kernel in checkpoints.kernels(model).items():
        assert not kernel.numpy()[~second.masks[name]].any()


@pytest.mark.parametrize(
    ("field", "value"),
    [("sparsity", 1.5), ("sparsity", 1.0), ("sparsity", -0.1), ("sparsity", "half"), ("layers", "convs"), ("finetune", -1),
     ("learning_rate", 0)],
)  # fmt: skip
def test_bad_values_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        made(magnitude.GlobalMagnitude, **{field: value})
    assert refused.value.where == field
    with pytest.raises(ConfigError):
        schedules.PolynomialSparsity(end=0)
