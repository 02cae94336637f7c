"""Channels are followed and removed: the smaller network answers as the larger one with those channels held at zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sweep.compress.prune import dependency_graph, filters
from sweep.core.errors import ConfigError
from sweep.core.types import Checkpoint
from sweep.models import checkpoints, families
from sweep.train import loop

pytestmark = pytest.mark.usefixtures("tensorflow")

FAMILIES = {
    "lenet5": families.LeNet5(),
    "cnn": families.CNN(filters=(6, 8), units=(10,)),
    "perceptron": families.CNN(filters=(), units=(12, 8)),
    "resnet8": families.ResNet(blocks=1, width=0.5),
    "resnet14": families.ResNet(blocks=2, width=0.25),
    "mobilenet": families.MobileNet(stem=6, filters=(8, 8, 10), strides=(1, 2, 1)),
    "khan": families.Khan(filters=(6, 8), units=(10,)),
}


def keras():
    import tf_keras

    return tf_keras.layers, tf_keras.Model, tf_keras.Sequential, tf_keras.Input


def branching():
    """Concatenation, a separable and a depthwise convolution that multiplies, a gate, PReLU and reshapings."""
    layers, model, _, make = keras()
    image = make((8, 8, 2), name="image")
    x = layers.Rescaling(2.0, name="rescaling")(image)
    left = layers.PReLU(name="prelu")(layers.Conv2D(6, 3, padding="same", name="left")(x))
    right = layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, activation="relu", name="right")(x)
    x = layers.Concatenate(name="both")([left, right])
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization(name="bn", scale=False)(x)
    gate = layers.GlobalAveragePooling2D(name="squeeze")(x)
    gate = layers.Dense(4, "relu", name="narrow")(gate)
    gate = layers.Reshape((1, 1, 22), name="gates")(layers.Dense(22, "sigmoid", name="widen")(gate))
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.SeparableConv2D(7, 3, depth_multiplier=2, activation="relu", name="mix")(x)
    x = layers.Reshape((-1,), name="flat")(layers.MaxPooling2D(2, padding="same", name="pool")(x))
    return model(image, layers.Dense(3, name="logits")(layers.Dense(9, "relu", name="hidden")(x)), name="branching")


def sequential():
    layers, _, made, make = keras()
    return made(
        [
            make((8, 8, 2), name="image"),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Dropout(0.5, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(7, "relu", name="dense"),
            layers.Dense(3, name="logits"),
        ],
        name="sequential",
    )


NETWORKS = {name: lambda spec=spec: spec.build((8, 8, 2), 3) for name, spec in FAMILIES.items()}
NETWORKS |= {"branching": branching, "sequential": sequential}


def random_network(name: str, seed: int = 0) -> Checkpoint:
    """Random weights everywhere, in the moving statistics, biases and slopes too."""
    checkpoints.fresh(seed)
    model = NETWORKS[name]()
    random = np.random.default_rng(seed)
    model.set_weights(
        [random.uniform(0.2, 1.0, one.shape) * random.choice([-1, 1]) ** (one.ndim > 1) for one in model.get_weights()]
    )
    for layer in model.layers:
        if hasattr(layer, "gamma") and layer.gamma is not None:
            layer.gamma.assign(random.normal(size=layer.gamma.shape))
        if hasattr(layer, "kernel"):
            layer.kernel.assign(random.normal(size=layer.kernel.shape) / np.sqrt(np.prod(layer.kernel.shape[:-1])))
    return checkpoints.snapshot(model)


MAKING = ("kernel", "pointwise_kernel", "bias", "gamma", "beta", "moving_mean")


def held_at_zero(network: Checkpoint, wiring: dependency_graph.DependencyGraph, dropped: list[int]):
    """The network with everything zero that makes or shifts a dropped channel."""
    model = checkpoints.restore(network)
    for layer in model.layers:
        gone = np.isin(wiring.outputs.get(layer.name, []), dropped)
        for weight in layer.weights:
            if weight.name.rpartition("/")[2] in (
                "kernel:0",
                "pointwise_kernel:0",
                "bias:0",
                "gamma:0",
                "beta:0",
                "moving_mean:0",
            ):
                values = weight.numpy()
                values[..., gone] = 0
                weight.assign(values)
    return model


@pytest.mark.parametrize(("layers", "seed"), [("all", 0), ("all", 1), ("conv", 2), ("dense", 3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_network_answers_as_the_one_with_channels_held_at_zero(name, layers, seed):
    network = random_network(name, seed)
    wiring = dependency_graph.trace(checkpoints.restore(network), layers)
    random = np.random.default_rng(seed)
    dropped = [number for number in range(len(wiring.groups)) if random.random() < 0.4]
    images = random.random((5, 8, 8, 2), np.float32)
    expected = held_at_zero(network, wiring, dropped)(images).numpy()
    smaller = dependency_graph.remove_channels(network, wiring, dropped)
    answers = checkpoints.restore(smaller)(images).numpy()
    np.testing.assert_allclose(answers, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))
    assert smaller.removed == sum(len(wiring.groups[number]) for number in dropped)
    for layer, (before, left) in smaller.filters.items():
        kept = checkpoints.restore(smaller).get_layer(layer).output.shape[-1]
        assert (before, left) == (len(wiring.outputs[layer]), kept)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_removed_is_the_same_network(name):
    network = random_network(name)
    same = dependency_graph.remove_channels(network, dependency_graph.trace(checkpoints.restore(network)), [])
    assert [one.shape for one in same.weights] == [one.shape for one in network.weights]
    assert all(np.array_equal(one, other) for one, other in zip(same.weights, network.weights, strict=True))


def test_residual_additions_tie_channels_together():
    wiring = dependency_graph.trace(families.ResNet(blocks=2).build((8, 8, 1), 10))
    tied = {frozenset(name for name, _ in group) for group in wiring.groups}
    assert frozenset({"stem", "s1b1b", "s1b2b"}) in tied
    assert frozenset({"s2b1b", "s2b1s", "s2b2b"}) in tied
    assert frozenset({"s1b1a"}) in tied
    assert "logits" not in wiring.filters
    assert len(wiring.groups) == 16 * 3 + 32 * 3 + 64 * 3  # a stage: its two inner layers, and what the additions tie


def test_a_depthwise_convolution_goes_with_what_it_takes():
    wiring = dependency_graph.trace(branching())
    assert wiring.inputs["depthwise"].tolist() == [*range(11)]
    assert wiring.outputs["depthwise"].tolist() == [number for number in range(11) for _ in range(2)]
    # Two units of the gate for each channel.
    assert [name for name, _ in wiring.groups[0]] == ["left", "widen", "widen"]


@pytest.mark.parametrize(("kind", "free"), [("Multiply", True), ("Add", False), ("Maximum", False)])
def test_what_meets_one_channel_of_another_stays_unless_it_is_multiplied(kind, free):
    layers, model, _, make = keras()
    image = make((8, 8, 2), name="image")
    one = layers.Conv2D(1, 3, name="one")(image)
    x = getattr(layers, kind)(name="met")([layers.Conv2D(5, 3, name="many")(image), one])
    wiring = dependency_graph.trace(model(image, layers.Dense(3, name="logits")(layers.Flatten(name="flatten")(x))))
    assert set(wiring.filters) == ({"many"} if free else set())


def test_masks_are_cut_with_their_kernels():
    network = random_network("cnn")
    model = checkpoints.restore(network)
    masks = {name: np.random.default_rng(1).random(kernel.shape) < 0.5 for name, kernel in checkpoints.kernels(model).items()}
    for name, kernel in checkpoints.kernels(model).items():
        kernel.assign(kernel * masks[name])
    masked = checkpoints.snapshot(model, masks)
    smaller = dependency_graph.remove_channels(masked, dependency_graph.trace(model), [0, 3, 9, 14])
    for name, kernel in checkpoints.kernels(checkpoints.restore(smaller)).items():
        assert smaller.masks[name].shape == kernel.shape
        np.testing.assert_array_equal(kernel.numpy() != 0, smaller.masks[name])


def refusals():
    layers, model, sequential, make = keras()
    image = make((8, 8, 2), name="image")
    conv = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    ends = {
        "shared": shared(shared(conv)),
        "grouped": layers.Conv2D(4, 3, groups=2, name="grouped")(conv),
        "norm": layers.LayerNormalization(name="norm")(conv),
        "inner": sequential([make((8, 8, 4)), layers.Conv2D(4, 3)], name="inner")(conv),
        "apart": layers.Reshape((8, 16, 2), name="apart")(conv),
        "first": layers.Conv2D(4, 3, data_format="channels_first", name="first")(conv),
        "rows": layers.BatchNormalization(axis=1, name="rows")(conv),
    }
    for name, end in ends.items():
        flat = layers.Flatten(name="flatten")(end)
        yield name, model(image, layers.Dense(3, name="logits")(flat))


def test_what_is_not_understood_is_refused_by_its_layers_name():
    seen = []
    for name, model in refusals():
        with pytest.raises(ConfigError, match=f"channels can be followed; received {name} "):
            dependency_graph.trace(model)
        seen.append(name)
    assert len(seen) == 7


def test_what_a_softmax_mixes_stays():
    layers, model, _, make = keras()
    image = make((8, 8, 2), name="image")
    x = layers.Softmax(name="attention")(layers.Conv2D(4, 3, name="conv")(image))
    x = layers.Conv2D(5, 3, activation="softmax", name="inside")(x)
    x = layers.Conv2D(6, 3, name="free")(x)
    wiring = dependency_graph.trace(model(image, layers.Dense(3, name="logits")(layers.Flatten(name="flatten")(x))))
    assert set(wiring.filters) == {"free"}


SETTINGS = {"layers": "all", "score": filters.L2(), "minimum": 1, "steps": 1, "finetune": 0, "learning_rate": 0.001}


def made(kind, **fields):
    return kind(**{"sparsity": 0.5, **SETTINGS, **fields})


@pytest.mark.parametrize("score", [filters.L1(), filters.L2(), filters.BNScale()])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_local_pruning_takes_the_same_fraction_of_every_layer(context, sparsity, steps, score):
    network = random_network("mobilenet")
    smaller = made(filters.LocalChannels, sparsity=sparsity, steps=steps, score=score).apply(network, context()).network
    for before, left in smaller.filters.values():
        assert left == max(1, before - round(sparsity * before))


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", ["resnet14", "mobilenet", "khan", "branching"])
def test_global_pruning_takes_the_fraction_of_all_filters(context, name, steps):
    network = random_network(name)
    smaller = made(filters.GlobalChannels, sparsity=0.6, steps=steps, minimum=2).apply(network, context()).network
    whole = sum(before for before, _ in smaller.filters.values())
    largest = max(len(group) for group in dependency_graph.trace(checkpoints.restore(network)).groups)
    assert abs(smaller.removed - round(0.6 * whole)) <= largest / 2
    assert min(left for _, left in smaller.filters.values()) >= 2
    assert len({left / before for before, left in smaller.filters.values()}) > 1


def test_the_channels_of_smallest_norm_go(context):
    network = random_network("cnn")
    model = checkpoints.restore(network)
    kernel = model.get_layer("conv1").kernel
    values = kernel.numpy()
    values[..., [1, 4]] *= 0.01
    kernel.assign(values)
    smaller = made(filters.LocalChannels, sparsity=0.34, layers="conv").apply(checkpoints.snapshot(model), context()).network
    np.testing.assert_array_equal(checkpoints.restore(smaller).get_layer("conv1").kernel.numpy(), values[..., [0, 2, 3, 5]])


def test_norms_and_scales_in_closed_form():
    network = random_network("cnn")
    model = checkpoints.restore(network)
    wiring = dependency_graph.trace(model, "conv")
    for score, norm in (
        (filters.L1(), lambda v: np.abs(v).sum((0, 1, 2))),
        (filters.L2(), lambda v: np.sqrt((v**2).sum((0, 1, 2)))),
    ):
        parts = [norm(model.get_layer(name).kernel.numpy()) for name in ("conv1", "conv2")]
        expected = np.concatenate([part / np.sqrt(np.mean(part**2)) for part in parts])
        np.testing.assert_allclose(score.of(wiring, model), expected, rtol=1e-5)
    gammas = [np.abs(model.get_layer(f"{name}_bn").gamma.numpy()) for name in ("conv1", "conv2")]
    np.testing.assert_allclose(filters.BNScale().of(wiring, model), np.concatenate(gammas), rtol=1e-6)


def test_a_second_pruning_counts_from_the_whole_network(context):
    once = made(filters.LocalChannels, sparsity=0.5).apply(random_network("cnn"), context()).network
    again = made(filters.LocalChannels, sparsity=0.5).apply(once, context()).network
    more = made(filters.LocalChannels, sparsity=0.75).apply(once, context()).network
    assert again.filters == once.filters == {"conv1": (6, 3), "conv2": (8, 4), "dense1": (10, 5)}
    assert more.filters == {"conv1": (6, 2), "conv2": (8, 2), "dense1": (10, 2)}


def test_the_fine_tuning_is_shared_by_the_steps(context):
    stage = made(filters.LocalChannels, steps=2, finetune=3)
    checkpoints.fresh(0)
    network = checkpoints.snapshot(families.CNN(filters=(8,), units=()).build((8, 8, 1), 10))
    outcome = stage.apply(network, context())
    assert {len(values) for values in outcome.curves.values()} == {3}
    assert outcome.network.filters == {"conv1": (8, 4)}
    assert stage.untrained() is None
    assert replace(stage, steps=1).untrained().apply(network, context()).network.filters == {"conv1": (8, 4)}


def test_a_network_that_cannot_be_cut_is_refused_before_anything_trains():
    with pytest.raises(
        ConfigError, match="layers: expected layers with filters that can be removed; received dense: the logits only"
    ):
        made(filters.GlobalChannels, layers="dense").require(families.ResNet(blocks=1), (8, 8, 1), 10)
    with pytest.raises(
        ConfigError, match="score: expected batch normalisation after every layer that is cut; received none after conv1"
    ):
        made(filters.GlobalChannels, score=filters.BNScale()).require(families.Khan(filters=(4,), units=()), (8, 8, 1), 10)
    for fields in ({"minimum": 64}, {"sparsity": 0.001}):
        with pytest.raises(ConfigError, match="sparsity: expected enough to remove a filter while each layer keeps"):
            made(filters.GlobalChannels, **fields).require(families.ResNet(blocks=1), (8, 8, 1), 10)
    made(filters.GlobalChannels).require(families.ResNet(blocks=1), (8, 8, 1), 10)


@pytest.mark.parametrize(
    ("field", "value"),
    [("sparsity", 1.0), ("layers", "convs"), ("score", "l1"), ("minimum", 0), ("steps", 0), ("finetune", -1),
     ("learning_rate", 0)],
)  # fmt: skip
def test_bad_values_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        made(filters.GlobalChannels, **{field: value})
    assert refused.value.where == field
    with pytest.raises(ConfigError, match="finetune: expected 0, or an epoch for each of the 4 steps; received 3"):
        made(filters.GlobalChannels, steps=4, finetune=3)


def test_its_network_answers(context):
    smaller = (
        made(filters.GlobalChannels, finetune=1)
        .apply(checkpoints.snapshot(families.LeNet5().build((8, 8, 1), 10)), context())
        .network
    )
    assert np.isfinite(loop.Predictor(checkpoints.restore(smaller))(context().data.validation.images)).all()
