"""Fake quantisation and what the converter makes of it: ranges, grids, zeros, and Keras against the file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import RECIPE, accuracy
from made_files import written

from sweep.compress.cluster import kmeans
from sweep.compress.distill import stages
from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import bit_search, clipping, formats, mixed_precision, ptq, qat
from sweep.core.errors import ConfigError
from sweep.core.types import Storage
from sweep.data import splits
from sweep.models import checkpoints
from sweep.models.families import CNN, Khan, LeNet5, MobileNet, ResNet
from sweep.tflite import audit, benchmark, calibrate, convert, expectations, litert, schema, weight_storage

pytestmark = pytest.mark.usefixtures("tensorflow")

FAMILIES = {
    "lenet5": LeNet5(width=0.5),
    "resnet8": ResNet(blocks=1, width=0.25),
    "mobilenet": MobileNet(stem=8, filters=(8, 16), strides=(1, 2)),
    "khan": Khan(filters=(8, 12), units=(9,)),
}


@pytest.fixture(scope="module", params=FAMILIES)
def pruned(request, context):
    """A trained network with zeros, and the context that it was trained in."""
    made = context(model=FAMILIES[request.param], recipe=replace(RECIPE, epochs=3))
    checkpoints.fresh(0)
    trained = stages.Train().apply(None, made).network
    stage = magnitude.GlobalMagnitude(
        sparsity=0.6, layers="all", schedule=schedules.ConstantSparsity(), finetune=1, learning_rate=0.003
    )
    return stage.apply(trained, made).network, made


def variables(model, ending):
    return {variable.name: variable.numpy() for variable in model.weights if variable.name.endswith(f"{ending}:0")}


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_file_of_qat_is_integer_throughout_keeps_every_zero_and_answers_as_keras_does(pruned, bits):
    network, made = pruned
    stage = qat.QAT(bits=bits, calibration_samples=64, finetune=1, learning_rate=0.001)
    checkpoints.fresh(0)
    outcome = stage.apply(network, made)
    assert len(outcome.curves["loss"]) == 1
    assert outcome.network.masks.keys() == network.masks.keys()
    require_as_asked(stage, outcome.network, made, bits, made.data.validation.images)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_file_of_ptq_is_integer_throughout_keeps_every_zero_and_answers_as_keras_does(pruned, bits):
    network, made = pruned
    stage = ptq.PTQ(bits=bits, calibration_samples=64)
    outcome = stage.apply(network, made)
    assert all(np.array_equal(one, two) for one, two in zip(network.weights, outcome.network.weights, strict=True))
    # On the images that set the ranges, since Keras clips none of the others.
    require_as_asked(stage, outcome.network, made, bits, calibrated_on(made, 64))


def calibrated_on(made, samples):
    """The training images that set the activations' ranges."""
    return made.data.train.images[splits.fair_order(made.data.train.labels)[:samples]]


def require_as_asked(stage, network, made, bits, images):
    assert set(network.bits.values()) == {bits}
    model, content = written(stage, network, made)
    facts = audit.read(content)
    expectations.expect(facts, storage=Storage.INTEGER, bits=network.bits, zeros=network.zeros, layers="all")
    expectations.expect_weights(content, network.masks, {})
    assert {kernel.bits for kernel in facts.kernels} == {4 if bits <= 4 else 8}
    assert facts.distinct_weight_levels <= 2**bits - 1
    require_agreement(model, content, images)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_weights_of_ptqs_file_are_those_of_its_keras_model(context, bits):
    """To the last digits: also where batch normalisation scales, turns, or takes away a channel, and where one is all zeros."""
    made = context(model=FAMILIES["mobilenet"])
    checkpoints.fresh(0)
    model = made.model.build(made.data.input_shape, 10)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.gamma.assign(np.linspace(-1.51, 1.0, layer.gamma.shape[0]) * (np.arange(layer.gamma.shape[0]) != 2))
            layer.moving_variance.assign(np.linspace(0.3, 2.0, layer.gamma.shape[0]))
    kernel = checkpoints.kernels(model)["pointwise1"]
    kernel.assign(kernel.numpy() * (np.arange(kernel.shape[-1]) != 3))
    stage = ptq.PTQ(bits=bits, calibration_samples=64)
    network = stage.apply(checkpoints.snapshot(model), made).network
    model, content = written(stage, network, made)
    plain = convert.convert(model, Storage.FLOAT32)
    for name in network.bits:
        exact = real_values(plain, name)
        np.testing.assert_allclose(real_values(content, name), exact, rtol=2e-6, atol=1e-7 * np.abs(exact).max())


def real_values(content, layer):
    """The real values of a layer's kernel, as the file has it, out of the operator that computes with it."""
    from ai_edge_litert.interpreter import Interpreter

    model, codes, _ = schema.parsed(content)
    [index] = {int(one.inputs[1]) for one in model.subgraphs[0].operators if codes[one.opcodeIndex] in weight_storage.REWRITTEN
               and schema.layer_of(model.subgraphs[0].tensors[one.inputs[1]].name.decode()) == layer}  # fmt: skip
    interpreter = Interpreter(model_content=content)
    details = next(one for one in interpreter.get_tensor_details() if one["index"] == index)
    tensor, scales = interpreter.get_tensor(index), details["quantization_parameters"]["scales"]
    along = np.ones(tensor.ndim, int)
    along[details["quantization_parameters"]["quantized_dimension"]] = -1
    return tensor * scales.reshape(along if len(scales) > 1 else 1) if len(scales) else tensor


def require_agreement(model, content, images):
    """The file's logits are those of Keras to a step or two of their own grid: each layer before rounds once more.

    The weights have no part in it: those of the file are compared exactly below.
    """
    expected = model(images / np.float32(255), training=False).numpy()
    file = litert.Network(content)
    step = file._output["quantization"][0]
    off = np.abs(file.predict(images / np.float32(255)) - expected)
    assert np.mean(off) < 2 * step
    assert np.percentile(off, 99) < 6.5 * step


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_a_grid_that_does_not_fill_its_container_is_even_in_the_file(context, bits):
    """Each stored value is a multiple of the step, and real values are those that Keras computes with."""
    made = context(model=CNN(filters=(6,), units=(7,)))
    checkpoints.fresh(0)
    network = checkpoints.snapshot(made.model.build(made.data.input_shape, 10))
    stage = qat.QAT(bits=bits, calibration_samples=64, finetune=0, learning_rate=0.001)
    after = stage.apply(network, made).network
    model, _ = stage.restore(after, made.data.train)
    plain, mended = convert.convert(model, Storage.INTEGER), convert.convert(model, Storage.INTEGER, after.bits)
    container = 7 if bits <= 4 else 127
    step = container // (2 ** (bits - 1) - 1)
    weights = checkpoints.kernels(checkpoints.restore(network))
    for name in ("dense1", "logits"):
        ideal = weights[name].numpy().T
        scale = np.abs(ideal).max() / (2 ** (bits - 1) - 1)
        ideal = np.round(ideal / scale) * scale
        values, scales = stored(mended, name)
        assert not (values % step).any()
        np.testing.assert_allclose(values * scales, ideal, atol=1e-6)
        values, scales = stored(plain, name)
        assert np.abs(values * scales - ideal).max() > 1e-3  # what there was to mend


def stored(content, layer):
    """The integers of a dense layer's kernel, and the scale."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    [details] = [one for one in interpreter.get_tensor_details() if one["name"].startswith(f"cnn/quant_{layer}/MatMul;")
                 and "LastValueQuant" in one["name"] and len(one["shape"]) == 2]  # fmt: skip
    tensor = interpreter.get_tensor(details["index"])
    return tensor.astype(int), details["quantization_parameters"]["scales"][0]


@pytest.mark.parametrize("kind", [ptq.PTQ, partial(qat.QAT, finetune=0, learning_rate=0.001)])
def test_layers_have_the_bits_that_they_were_given(context, kind):
    made = context(model=MobileNet(stem=4, filters=(8, 8), strides=(1, 2)))
    checkpoints.fresh(0)
    network = checkpoints.snapshot(made.model.build(made.data.input_shape, 10))
    stage = kind(bits=4, calibration_samples=32, per_layer_bits={"depthwise*": 6, "logits": 3}, first_last_bits=8)
    after = stage.apply(network, made).network
    bits = after.bits
    assert bits == {
        "stem": 8, "depthwise1": 6, "pointwise1": 4, "depthwise2": 6, "pointwise2": 4, "logits": 3,
    }  # fmt: skip
    model, content = written(stage, after, made)
    facts = audit.read(content)
    expectations.expect(facts, storage=Storage.INTEGER, bits=bits)
    assert [kernel.bits for kernel in facts.kernels] == [8, 8, 4, 8, 4, 4]
    assert all(kernel.levels <= 2 ** bits[name] - 1 for kernel, name in zip(facts.kernels, bits, strict=True))
    with pytest.raises(audit.AuditError, match="expected INT4, found INT8"):
        expectations.expect(facts, storage=Storage.INTEGER, bits=bits | {"depthwise1": 4})
    require_agreement(model, content, calibrated_on(made, 32))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_name_counts_before_a_pattern_and_a_longer_pattern_before_a_shorter(reverse):
    asked = {"s*": 3, "s1*": 5, "s1b1a": 7, "*": 2}
    asked = dict(reversed(asked.items())) if reverse else asked
    stage = ptq.PTQ(bits=4, calibration_samples=32, per_layer_bits=asked, first_last_bits=8)
    bits = stage.layer_bits(list(checkpoints.every_kernel(ResNet(blocks=1).build((8, 8, 1), 10))))
    assert (bits["stem"], bits["s1b1a"], bits["s1b1b"], bits["s2b1a"], bits["logits"]) == (3, 7, 5, 3, 2)


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_clusters_reach_the_file_whatever_the_sign_of_the_normalisation(context, name):
    """Per channel of a convolution, and with channels that batch normalisation turns around."""
    families = {"cnn": CNN(filters=(6, 8), units=(7,)), "mobilenet": FAMILIES["mobilenet"]}
    made = context(model=families[name])
    checkpoints.fresh(0)
    model = made.model.build(made.data.input_shape, 10)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.gamma.assign(np.linspace(-1.51, 1.0, layer.gamma.shape[0]))
    network = (
        kmeans.KMeans(levels=5, layers="conv", finetune=0, learning_rate=0.001).apply(checkpoints.snapshot(model), made).network
    )
    for stage in (ptq.PTQ(8, 64), qat.QAT(6, 64, 1, 0.001)):
        checkpoints.fresh(0)
        after = stage.apply(network, made).network
        _, content = written(stage, after, made)
        expectations.expect(audit.read(content), storage=Storage.INTEGER, bits=after.bits)
        expectations.expect_weights(content, after.masks, after.clusters)
        levels = {schema.layer_of(kernel.name): kernel.levels for kernel in audit.read(content).kernels}
        assert all(levels[name] <= 10 for name in network.clusters)
        assert levels["logits"] > 10  # not clustered


def test_weights_that_are_not_as_they_were_left_are_told(pruned):
    network, made = pruned
    checkpoints.fresh(0)
    stage = ptq.PTQ(8, 64)
    _, content = written(stage, stage.apply(network, made).network, made)
    expectations.expect_weights(content, network.masks, {})
    name, mask = next(iter(network.masks.items()))
    with pytest.raises(
        audit.AuditError, match=f"the layer {name!r}: expected zeros where weights were pruned, found [0-9]+ others"
    ):
        expectations.expect_weights(content, {name: ~mask}, {})
    with pytest.raises(audit.AuditError, match=f"the layer {name!r}: expected at most 2 values"):
        expectations.expect_weights(content, {}, {name: mask.astype(int)})
    with pytest.raises(audit.AuditError, match="the layer 'other': expected a kernel in the file, found none"):
        expectations.expect_weights(content, {"other": mask}, {})
    # One of nothing but zeros may have become one with another.
    expectations.expect_weights(content, {"other": np.zeros_like(mask)}, {"other": np.zeros(mask.shape, int)})


def test_a_separable_convolution_is_refused_by_name():
    import tf_keras as keras

    class Separable(CNN):
        def build(self, input_shape, classes):
            image = keras.Input(input_shape)
            x = keras.layers.SeparableConv2D(4, 3, name="both")(image)
            return keras.Model(image, keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flatten")(x)))

    with pytest.raises(ConfigError, match="separable convolutions as a depthwise and a 1x1 one; received both in one"):
        ptq.PTQ(4, 32).require(Separable(filters=(), units=()), (8, 8, 1), 10)


def test_wide_activations_lose_less(pruned):
    """On the images that set the ranges, which are cut off nowhere: off from Keras by a few hundredths of what 8 bits are."""
    network, made = pruned
    images = calibrated_on(made, 64) / np.float32(255)
    off = []
    for activations in (8, 16):
        stage = ptq.PTQ(bits=8, calibration_samples=64, activations=activations)
        model, content = written(stage, stage.apply(network, made).network, made)
        expectations.expect(audit.read(content), storage=Storage.INTEGER, activations=activations)
        off.append(np.abs(litert.Network(content).predict(images) - model(images, training=False).numpy()).mean())
    assert off[1] < 0.03 * off[0]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_wide_activations_with_int4(context, bits):
    """Right for convolutions and dense layers; LiteRT computes depthwise ones wrongly, so that is refused."""
    made = context(model=LeNet5(width=0.5))
    checkpoints.fresh(0)
    network = checkpoints.snapshot(made.model.build(made.data.input_shape, 10))
    stage = ptq.PTQ(bits=bits, calibration_samples=64, activations=16)
    model, content = written(stage, stage.apply(network, made).network, made)
    images = calibrated_on(made, 64) / np.float32(255)
    expected = model(images, training=False).numpy()
    assert np.abs(litert.Network(content).predict(images) - expected).mean() < 5e-3 * expected.std()
    with pytest.raises(ConfigError, match="activations: expected 8 where a depthwise layer has 2 to 4 bits"):
        stage.require(FAMILIES["mobilenet"], (8, 8, 1), 10)
    replace(stage, per_layer_bits={"depthwise*": 8}).require(FAMILIES["mobilenet"], (8, 8, 1), 10)


class Given(CNN):
    """A user's network: what a function makes of the image."""

    def build(self, input_shape, classes):
        return NETWORKS[self.units[0]](input_shape, classes)


def normalised_dense(input_shape, classes):
    import tf_keras as keras

    image = keras.Input(input_shape, name="image")
    x = keras.layers.Dense(6, "relu", name="first")(keras.layers.Flatten(name="flatten")(image))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(keras.layers.BatchNormalization(name="norm")(x)))


def inside(input_shape, classes):
    import tf_keras as keras

    image = keras.Input(input_shape, name="image")
    inner = keras.Sequential([keras.layers.Conv2D(4, 3, name="conv")], name="inner")
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flatten")(inner(image))))


def sequential(input_shape, classes):
    import tf_keras as keras

    return keras.Sequential([
        keras.Input(input_shape, name="image"), keras.layers.Conv2D(4, 3, use_bias=False, name="conv"),
        keras.layers.BatchNormalization(name="norm"), keras.layers.ReLU(name="relu"),
        keras.layers.Flatten(name="flatten"), keras.layers.Dense(classes, name="logits"),
    ])  # fmt: skip


NETWORKS = {1: normalised_dense, 2: inside, 3: sequential}


def test_a_kernel_that_is_scaled_by_its_inputs_is_never_replaced(context):
    """Batch normalisation before a dense layer is folded into it input by input: no grid of ours is left then."""
    made = context(model=Given(filters=(), units=(1,)))
    checkpoints.fresh(0)
    model = made.model.build(made.data.input_shape, 10)
    model.layers[3].gamma.assign(np.linspace(0.5, 2, 6))
    stage = ptq.PTQ(8, 64)
    with pytest.raises(convert.ExportError, match="expected the kernel of logits scaled for each channel at most"):
        written(stage, stage.apply(checkpoints.snapshot(model), made).network, made)


def test_a_network_inside_the_network_is_refused_by_name():
    with pytest.raises(ConfigError, match="expected layers, no network inside the network; received inner"):
        ptq.PTQ(8, 64).require(Given(filters=(), units=(2,)), (8, 8, 1), 10)


@pytest.mark.parametrize("stage", [ptq.PTQ(8, 64), qat.QAT(8, 64, 1, 0.001)], ids=["ptq", "qat"])
def test_a_sequential_network_becomes_a_file(context, stage):
    made = context(model=Given(filters=(), units=(3,)))
    checkpoints.fresh(0)
    network = stages.Train().apply(None, made).network
    after = stage.apply(network, made).network
    model, content = written(stage, after, made)
    expectations.expect(audit.read(content), storage=Storage.INTEGER, bits=after.bits)
    require_agreement(model, content, calibrated_on(made, 64))


def test_a_name_that_no_layer_has_is_refused():
    stage = ptq.PTQ(bits=4, calibration_samples=32, per_layer_bits={"conv1": 8, "stam": 3})
    with pytest.raises(ConfigError, match="per_layer_bits: expected names or patterns of conv1, logits; received stam"):
        stage.require(CNN(filters=(4,), units=()), (8, 8, 1), 10)


def rounding_error(weights, ends, bits):
    grid = 2 ** (bits - 1) - 1
    return np.square(np.clip(np.round(weights / ends * grid), -grid, grid) * ends / grid - weights).mean(axis=0)


@pytest.mark.parametrize("bits", range(2, 9))
def test_ranges_that_cut_off_err_less_in_the_square(bits):
    weights = np.random.default_rng(0).standard_t(3, (2000, 5))
    ends = {type(one).__name__: one.thresholds(weights, bits) for one in (clipping.MinMax(), clipping.MSE(), clipping.OCTAV())}
    np.testing.assert_array_equal(ends["MinMax"], np.abs(weights).max(axis=0))
    errors = {name: rounding_error(weights, end, bits) for name, end in ends.items()}
    best = np.min([rounding_error(weights, ends["MinMax"] * part, bits) for part in np.linspace(0.001, 1, 2000)], axis=0)
    assert (errors["MSE"] <= errors["MinMax"]).all()
    assert (errors["MSE"] < 1.02 * best + 1e-12).all()
    assert (ends["MSE"] <= ends["MinMax"]).all()
    assert (ends["OCTAV"] <= ends["MinMax"]).all()
    if bits >= 4:  # its model of the rounding is of many steps
        assert (errors["OCTAV"] < 1.1 * best).all()


def test_a_percentile_clips_that_part_of_each_channel():
    weights = np.random.default_rng(0).permuted(np.stack([np.linspace(-1, 1, 201), np.linspace(-4, 4, 201)], axis=1), axis=0)
    threshold = clipping.Percentile(90).thresholds(weights, 4)
    np.testing.assert_allclose(threshold, [0.9, 3.6])
    np.testing.assert_array_equal((np.abs(weights) > threshold + 1e-9).sum(axis=0), [20, 20])
    np.testing.assert_array_equal(clipping.Percentile(100).thresholds(weights, 4), clipping.MinMax().thresholds(weights, 4))
    pruned = np.where(np.arange(201)[:, None] < 2, weights, 0.0)  # 99 % zeros
    np.testing.assert_array_equal(clipping.Percentile(90).thresholds(pruned, 4), np.abs(pruned).max(axis=0))
    for wrong in (0, 100.5, "most"):
        with pytest.raises(ConfigError, match="percent: expected"):
            clipping.Percentile(wrong)


@pytest.mark.parametrize("kind", [clipping.MinMax(), clipping.Percentile(99), clipping.MSE(), clipping.OCTAV()])
def test_channels_of_nothing_but_zeros_stay_so(kind):
    weights = np.zeros((9, 2))
    weights[:, 1] = np.linspace(-1, 1, 9)
    ends = kind.thresholds(weights, 4)
    assert ends[0] == 0
    assert 0 < ends[1] <= 1


def test_a_range_that_cuts_off_reaches_the_file(context):
    made = context(model=CNN(filters=(6,), units=(7,)))
    checkpoints.fresh(0)
    network = checkpoints.snapshot(made.model.build(made.data.input_shape, 10))
    for choice in (ptq.PTQ, partial(qat.QAT, finetune=0, learning_rate=0.001)):
        most = []
        for kind in (clipping.MinMax(), clipping.MSE()):
            stage = choice(bits=2, calibration_samples=64, weight_range=kind)
            content = written(stage, stage.apply(network, made).network, made)[1]
            most.append(real_values(content, "dense1").max())
        assert most[1] < 0.9 * most[0]


def test_qat_without_the_training_is_about_ptq(pruned):
    """Two ways to the same end: fake quantisation in the network, and the converter's own calibration."""
    network, made = pruned
    if any("depthwise" in name for name in network.masks):
        pytest.skip("of a depthwise kernel PTQ has a grid for each channel, QAT one")
    accuracies = []
    for stage in (ptq.PTQ(4, 64), qat.QAT(4, 64, finetune=0, learning_rate=0.001)):
        checkpoints.fresh(0)
        _, content = written(stage, stage.apply(network, made).network, made)
        accuracies.append(accuracy(content, made.data.validation))
    assert abs(accuracies[0] - accuracies[1]) < 0.03


def test_calibration_sets_the_ranges_to_what_the_images_give_and_moves_no_weight(pruned):
    network, made = pruned
    checkpoints.fresh(0)
    stage = qat.QAT(bits=8, calibration_samples=64, finetune=0, learning_rate=0.001)
    model, _ = stage.restore(stage.apply(network, made).network, made.data.train)
    assert [variable.numpy().item() for variable in model.layers[1].weights[:2]] == [0.0, 1.0]  # the pixels' own range
    highs = variables(model, "_max")
    activations = [name for name in highs if not name.endswith("kernel_max:0")]
    assert len(activations) > 2
    assert not any(highs[name] == 6.0 or np.isnan(highs[name]) for name in activations)  # none is where the toolkit starts
    before = {name: kernel.numpy() for name, kernel in checkpoints.kernels(checkpoints.restore(network)).items()}
    for name, kernel in checkpoints.kernels(model).items():
        np.testing.assert_array_equal(kernel.numpy(), before[name])
    statistics = variables(model, "moving_mean")
    for name, values in variables(checkpoints.restore(network), "moving_mean").items():
        np.testing.assert_array_equal(statistics[name], values)


def test_activations_that_overflow_are_refused_before_qat_trains(context):
    made = context(model=FAMILIES["lenet5"])
    checkpoints.fresh(0)
    model = made.model.build((8, 8, 1), 10)
    for layer in ("dense1", "dense2"):
        model.get_layer(layer).kernel.assign(model.get_layer(layer).kernel * 0 + 1e20)
    with pytest.raises(calibrate.RangeError, match=r"finite numbers in quant_dense2/\S+, found inf to inf"):
        qat.QAT(8, 16, 1, 0.001).apply(checkpoints.snapshot(model), made)


@pytest.mark.parametrize(
    ("form", "storage"), [(formats.Float32(), "float32"), (formats.Float16(), "float16"), (formats.Dynamic(), "dynamic")]
)
def test_forms_that_leave_the_network_alone(context, form, storage):
    checkpoints.fresh(0)
    network = checkpoints.snapshot(CNN(filters=(16, 32), units=(64,)).build((8, 8, 1), 10))
    assert form.apply(network, context()).network is network
    assert form.storage.value == storage
    model, calibration = form.restore(network, context().data.train)
    assert calibration is None
    content = convert.convert(model, form.storage)
    expectations.expect(audit.read(content), storage=form.storage)
    images = context().data.validation.images
    agreement = np.mean(benchmark.predict(content, images) == model(images / np.float32(255)).numpy().argmax(1))
    assert agreement == 1.0 if storage == "float32" else agreement > 0.95


def test_equal_networks_make_equal_bytes(pruned):
    network, made = pruned
    for stage in (ptq.PTQ(bits=8, calibration_samples=32), qat.QAT(8, 32, finetune=0, learning_rate=0.001)):
        contents = set()
        for _ in range(2):
            checkpoints.fresh(0)
            contents.add(written(stage, stage.apply(network, made).network, made)[1])
        assert len(contents) == 1


def test_a_network_that_the_converter_refuses_is_told_in_one_line():
    import tensorflow as tf
    import tf_keras as keras

    image = keras.Input((8, 8, 1), name="image")
    model = keras.Model(image, keras.layers.Lambda(lambda x: tf.linalg.det(x[..., 0]))(image))
    with pytest.raises(convert.ExportError, match="the converter refused the network: ") as refused:
        convert.convert(model, Storage.FLOAT32)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "fields", "where"),
    [
        (ptq.PTQ, {"bits": 9}, "bits"),
        (ptq.PTQ, {"bits": 8.0}, "bits"),
        (ptq.PTQ, {"bits": None}, "bits"),
        (ptq.PTQ, {"bits": 1}, "bits"),
        (ptq.PTQ, {"per_layer_bits": {"conv1": 9}}, "per_layer_bits.conv1"),
        (ptq.PTQ, {"per_layer_bits": 4}, "per_layer_bits"),
        (ptq.PTQ, {"first_last_bits": 0}, "first_last_bits"),
        (ptq.PTQ, {"weight_range": "mse"}, "weight_range"),
        (ptq.PTQ, {"calibration_samples": 0}, "calibration_samples"),
        (ptq.PTQ, {"activations": 4}, "activations"),
        (ptq.PTQ, {"per_layer_bits": "car"}, "per_layer_bits"),
        (ptq.PTQ, {"per_layer_bits": "auto"}, "per_layer_bits"),
        (ptq.PTQ, {"per_layer_bits": "auto", "mean_bits": 4, "budget_kib": 9}, "per_layer_bits"),
        (ptq.PTQ, {"per_layer_bits": "auto", "mean_bits": 1.5}, "mean_bits"),
        (ptq.PTQ, {"per_layer_bits": "auto", "budget_kib": 0}, "budget_kib"),
        (ptq.PTQ, {"per_layer_bits": "auto", "budget_kib": 9, "sparse": True}, "budget_kib"),
        (ptq.PTQ, {"mean_bits": 4}, "mean_bits"),
        (ptq.PTQ, {"budget_kib": 9}, "budget_kib"),
        (ptq.PTQ, {"activations": 8.0}, "activations"),
        (qat.QAT, {"finetune": -1, "learning_rate": 0.1}, "finetune"),
        (qat.QAT, {"finetune": 1, "learning_rate": 0}, "learning_rate"),
    ],
)
def test_bad_values_are_refused(kind, fields, where):
    with pytest.raises(ConfigError) as refused:
        kind(**{"bits": 8, "calibration_samples": 1, **fields})
    assert refused.value.where == where


AUTO = {"bits": 8, "calibration_samples": 64, "per_layer_bits": "auto"}


def found(stage, network, made):
    """The network quantised with the bits that the search before it finds."""
    return stage.apply(stage.bit_search.apply(network, made).network, made).network


def test_bits_are_found_within_a_mean(pruned):
    network, made = pruned
    stage = ptq.PTQ(**AUTO, mean_bits=5)
    bits = found(stage, network, made).bits
    sizes = {
        name: int(np.prod(kernel.shape)) for name, kernel in checkpoints.every_kernel(checkpoints.restore(network)).items()
    }
    mean = sum(bits[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert 4.5 < mean <= 5
    assert set(found(ptq.PTQ(**AUTO, mean_bits=8), network, made).bits.values()) <= {7, 8}
    assert set(found(ptq.PTQ(**AUTO, mean_bits=2), network, made).bits.values()) == {2}
    fixed = [*found(ptq.PTQ(**AUTO, mean_bits=6.5, first_last_bits=8), network, made).bits.values()]
    assert (fixed[0], fixed[-1]) == (8, 8)
    assert min(fixed) < 8
    with pytest.raises(
        ConfigError, match=r"quant.mean_bits: expected at least [2-6.0-9]+, with such first_last_bits; received 2"
    ):
        found(ptq.PTQ(**AUTO, mean_bits=2, first_last_bits=8), network, made)
    # What is found answers about as the network did, or more so, than the same number of bits for all.
    images = made.data.validation.images / np.float32(255)
    expected = checkpoints.restore(network)(images).numpy()

    def loss(stage):
        return mixed_precision.divergence(expected, written(stage, found(stage, network, made), made)[0](images).numpy())

    assert loss(stage) < 1.05 * loss(ptq.PTQ(bits=5, calibration_samples=64))


def test_a_budget_in_kib_is_kept_by_the_file_and_used(pruned):
    network, made = pruned

    class Written:
        def file(self, network, form):
            return written(form, network, made)[1]

    sizes = {}
    for bits in (4, 8):
        stage = ptq.PTQ(bits=bits, calibration_samples=64)
        sizes[bits] = len(Written().file(found(stage, network, made), stage))
    budget = (sizes[4] + sizes[8]) / 2
    stage = ptq.PTQ(**AUTO, budget_kib=budget / 1024)
    within = found(stage, network, replace(made, files=Written()))
    assert set(within.bits.values()) == {4, 8}
    assert len(Written().file(within, stage)) <= budget
    stage = ptq.PTQ(**AUTO, budget_kib=1.0)
    with pytest.raises(ConfigError, match=r"quant.budget_kib: expected at least about [0-9.]+, .*; received 1.0") as refused:
        found(stage, network, replace(made, files=Written()))
    assert abs(float(refused.value.expected.split()[3].rstrip(",")) - sizes[4] / 1024) < 0.1

    # The bytes besides the kernels change with the bits: where that alone decides, the file with the fewest is weighed.
    class Padded(Written):
        def file(self, network, form):
            return super().file(network, form) + bytes(500 if 8 in network.bits.values() else 0)

    fewest = found(ptq.PTQ(**AUTO, budget_kib=(sizes[4] + 8) / 1024), network, replace(made, files=Padded()))
    assert set(fewest.bits.values()) == {4}


def test_sensitivity_is_measured_on_training_images_that_calibration_does_not_see(context, digits):
    made = context(model=CNN(filters=(4,), units=()), data=digits)
    seen = []
    stage = ptq.PTQ(**AUTO | {"calibration_samples": 10_000}, mean_bits=4)
    checkpoints.fresh(0)
    network = checkpoints.snapshot(made.model.build(made.data.input_shape, 10))
    answers = bit_search.loop.Predictor

    class Watched(answers):
        def __call__(self, images):
            seen.append(images)
            return super().__call__(images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bit_search.loop, "Predictor", Watched)
        bits = found(stage, network, made)
    calibrated = {image.tobytes() for image in stage.restore(bits, made.data.train)[1].images}
    measured = {image.tobytes() for image in seen[0]}
    train = {image.tobytes() for image in made.data.train.images}
    assert len(seen[0]) == 512
    assert len(calibrated) + len(measured) > 0.99 * len(train)
    assert measured <= train
    assert not calibrated & measured


def test_bits_are_found_for_qat_too(pruned):
    network, made = pruned
    stage = qat.QAT(**AUTO, mean_bits=4.5, finetune=1, learning_rate=0.001)
    checkpoints.fresh(0)
    after = found(stage, network, made)
    assert 5 <= max(after.bits.values()) <= 8
    _, content = written(stage, after, made)
    expectations.expect(audit.read(content), storage=Storage.INTEGER, bits=after.bits, zeros=network.zeros)
