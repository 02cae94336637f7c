"""Weight sharing: its error against an exhaustive search, zeros that stay, and training that moves clusters together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sweep.compress.cluster import kmeans
from sweep.compress.prune import magnitude, schedules
from sweep.core.errors import ConfigError
from sweep.models import checkpoints, families
from sweep.train import constraints, goals, loop, recipes

pytestmark = pytest.mark.usefixtures("tensorflow")

SETTINGS = {"layers": "all", "finetune": 0, "learning_rate": 0.001}


def made(**fields):
    return kmeans.KMeans(**{"levels": 4, **SETTINGS, **fields})


def least_error(weights, count):
    """The least sum of squares over all ways to cut the sorted weights into so many runs."""
    ordered = np.sort(weights)
    cuts = itertools.combinations(range(1, len(ordered)), count - 1)
    return min(sum(np.square(part - part.mean()).sum() for part in np.split(ordered, cut)) for cut in cuts)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_near_the_least_that_any_clusters_have(seed):
    kernel = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
    values, numbers = made(levels=3).clusters(kernel, None)
    error = np.square(values - kernel).sum()
    assert error <= 1.3 * least_error(kernel.ravel(), 3)
    assert len(np.unique(values)) == len(np.unique(numbers)) == 3
    for number in range(3):
        assert values[numbers == number] == pytest.approx(kernel[numbers == number].mean(), abs=1e-6)


def test_zeros_are_a_cluster_of_their_own():
    kernel = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    mask = np.random.default_rng(1).random((8, 8)) < 0.5
    values, numbers = made(levels=5).clusters(kernel * mask, mask)
    assert not values[~mask].any()
    assert not numbers[~mask].any()
    assert (numbers[mask] > 0).all()
    assert len(np.unique(values)) == 5


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_fewer_values_than_levels_stay_as_they_are(distinct):
    kernel = np.random.default_rng(0).choice(np.linspace(-1, 1, distinct), (5, 5)).astype(np.float32)
    values, numbers = made(levels=4).clusters(kernel, None)
    np.testing.assert_array_equal(values, kernel)
    assert numbers.max() == distinct - 1


def test_a_kernel_that_pruning_emptied_is_one_value():
    values, numbers = made().clusters(np.zeros((3, 3), np.float32), np.zeros((3, 3), bool))
    assert not values.any()
    assert not numbers.any()


def network():
    checkpoints.fresh(0)
    return checkpoints.snapshot(families.CNN(filters=(8, 16), units=(12,)).build((8, 8, 1), 10))


def distinct(model):
    return {name: len(np.unique(kernel.numpy())) for name, kernel in checkpoints.kernels(model).items()}


@pytest.mark.parametrize("finetune", [0, 2])
def test_every_kernel_has_so_many_values_after_training_too(context, finetune):
    stage = made(levels=6, finetune=finetune)
    outcome = stage.apply(network(), context())
    assert distinct(checkpoints.restore(outcome.network)) == {"conv1": 6, "conv2": 6, "dense1": 6, "logits": 6}
    assert {name: int(numbers.max()) + 1 for name, numbers in outcome.network.clusters.items()} == dict.fromkeys(
        ("conv1", "conv2", "dense1", "logits"), 6
    )
    assert len(outcome.curves.get("loss", ())) == finetune


def test_training_moves_a_cluster_by_the_mean_of_its_steps(context):
    """One step of plain gradient descent, against the same step on weights that are free."""
    from dataclasses import replace

    start = made(levels=3).apply(network(), context()).network
    recipe = replace(context().recipe, batch_size=256, optimizer=recipes.SGD(momentum=0.0))
    one = context(recipe=recipe)
    trained = {}
    for held in (None, start):
        checkpoints.fresh(0)
        model = checkpoints.restore(start)
        loop.fit(
            model, one, epochs=1, learning_rate=0.1, goal=goals.Labels(),
            constraints=None if held is None else constraints.FixedConstraints(checkpoints.kernels(model), held),
        )  # fmt: skip
        trained[held is None] = checkpoints.kernels(model)
    for name, numbers in start.clusters.items():
        free, tied = (trained[key][name].numpy() for key in (True, False))
        for number in range(3):
            assert tied[numbers == number] == pytest.approx(free[numbers == number].mean(), abs=1e-5)


def test_sparsity_is_kept(context):
    pruned = magnitude.GlobalMagnitude(
        sparsity=0.7, layers="all", schedule=schedules.ConstantSparsity(), finetune=0, learning_rate=0.001
    ).apply(network(), context()).network  # fmt: skip
    after = made(levels=5, finetune=1).apply(pruned, context()).network
    model = checkpoints.restore(after)
    for name, kernel in checkpoints.kernels(model).items():
        assert not kernel.numpy()[~pruned.masks[name]].any()
    assert after.zeros == pruned.zeros


def test_only_the_targeted_layers_are_clustered(context):
    after = made(layers="dense").apply(network(), context()).network
    assert set(after.clusters) == {"dense1", "logits"}
    assert distinct(checkpoints.restore(after))["conv2"] > 100


@pytest.mark.parametrize(
    ("field", "value"), [("levels", 1), ("levels", 257), ("layers", "some"), ("finetune", -1), ("learning_rate", 0)]
)
def test_bad_values_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        made(**{field: value})
    assert refused.value.where == field
