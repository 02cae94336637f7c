"""Validates a built Keras model before anything trains: it has to be trainable, compressible and convertible.

The checks are behavioural where possible, so that they apply to unknown layers: the model is run, restored from its checkpoint
as in every later stage, built a second time, and counted in its own file. Losses that layers add, constraints, frozen layers
and weights that `build` sets are supported, or refused with the name of the layer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Spec
from sweep.models import checkpoints
from sweep.models.layers import all_layers, last_with_weights, layer_list, of_keras
from sweep.models.probes import close, first_line, random_images
from sweep.models.restorable import first_difference, not_restorable, outputs, require_restorable

_LARGE = 100.0  # magnitude of the last layer's weights, so that a bounded activation saturates
_BELOW = -2.0  # unbounded logits fall below this then; no activation does, since SELU saturates at -1.76


def build(spec: Spec, input_shape: tuple[int, int, int], classes: int) -> Any:
    """The Keras model that a spec builds.

    Args:
        spec: the network.
        input_shape: (height, width, channels) of an image.
        classes: the number of classes.

    Raises:
        ConfigError: without a key, for a `build` that fails or returns anything but a Sequential or functional Keras 2 model.
    """
    import tf_keras as keras

    expected = f"a Sequential or functional Keras 2 model (tf_keras) from build({input_shape}, {classes})"
    try:
        model = spec.build(input_shape, classes)
    except (ConfigError, MemoryError):
        raise
    except Exception as error:  # the user's code may raise anything
        raise ConfigError("", expected, f"{type(error).__name__}: {first_line(error)}") from error
    if not isinstance(model, keras.Model):
        kind = type(model)
        keras_3 = " (of Keras 3)" if kind.__module__.partition(".")[0] == "keras" else ""
        raise ConfigError("", expected, f"{kind.__name__}{keras_3}")
    if not of_keras(type(model)):
        raise ConfigError("", expected, f"a subclass ({type(model).__name__}), whose code a checkpoint does not hold")
    return model


def require(spec: Spec, input_shape: tuple[int, int, int], classes: int, seed: int) -> None:
    """Refuses a network that a stage could not process.

    Args:
        spec: the network.
        input_shape: (height, width, channels) of an image.
        classes: the number of logits.
        seed: the seed of the fresh weights.

    Raises:
        ConfigError: without a key, naming the layer if there is one.
    """
    before = _settings()
    try:
        checkpoints.fresh(seed)
        model = build(spec, input_shape, classes)
        if changed := [f"{name} {value}" for name, value in _settings().items() if value != before[name]]:
            raise ConfigError("", "a build that leaves Keras's own settings alone", ", ".join(changed))
        _require_input_and_output(model, input_shape, classes)
        _require_layers(model, spec)
        checkpoints.fresh(seed)
        _require_equal_builds(model, build(spec, input_shape, classes))
        _require_stable_logits(model, input_shape, classes)
        require_restorable(model, input_shape)
        _require_logits(model, input_shape, classes)
    finally:
        _set(before)


def require_targets(model: Any, layers: str, *, removed: bool = False) -> None:
    """Refuses a network without kernels of a kind, or with a frozen kernel of it.

    Args:
        model: a Keras model.
        layers: `conv`, `dense` or `all`.
        removed: whether filters are removed, for which a network without such kernels is accepted.

    Raises:
        ConfigError: at `layers` for a network without such kernels, else without a key, naming the layers.
    """
    targets = checkpoints.kernels(model, layers)
    if not targets and not removed:
        raise ConfigError("layers", "a kind of layer that the model has", layers)
    _refuse_frozen(model, targets)


def require_wrappable(model: Any) -> None:
    """Refuses frozen layers and activity regularisers, which wrapping for quantisation-aware training would lose.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    _refuse_frozen(model, checkpoints.every_kernel(model))
    if active := [layer for layer in all_layers(model) if getattr(layer, "activity_regularizer", None) is not None]:
        raise ConfigError("", "losses of weights alone", f"{layer_list(*active)} with an activity_regularizer")


def _refuse_frozen(model: Any, names: Collection[str]) -> None:
    if frozen := [layer for layer in model.layers if layer.name in names and not layer.trainable]:
        raise ConfigError("", "layers that may change", f"{layer_list(*frozen)} with trainable=False")


def _settings() -> dict[str, Any]:
    """Keras's global settings."""
    from tf_keras import backend, mixed_precision

    return {
        "global_policy": mixed_precision.global_policy().name,
        "floatx": backend.floatx(),
        "image_data_format": backend.image_data_format(),
        "epsilon": backend.epsilon(),
    }


def _set(settings: Mapping[str, Any]) -> None:
    from tf_keras import backend, mixed_precision

    backend.set_floatx(settings["floatx"])
    backend.set_image_data_format(settings["image_data_format"])
    backend.set_epsilon(settings["epsilon"])
    if mixed_precision.global_policy().name != settings["global_policy"]:
        mixed_precision.set_global_policy(settings["global_policy"])


def _require_input_and_output(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """Requires one input of images and one output of logits, both of any batch size."""
    import tensorflow as tf

    required_input = f"one float32 input (n, {', '.join(map(str, input_shape))})"
    if not model.inputs:
        raise ConfigError("", f"{required_input}, by an Input or an input_shape", "a model that is not built")
    required_output = f"one float32 output, logits (n, {classes})"
    endpoints = (
        (required_input, model.inputs, model.input, (None, *input_shape)),
        (required_output, model.outputs, model.output, (None, classes)),
    )
    for expected, tensors, whole, shape in endpoints:
        actual = ", ".join(_tensor(tensor) for tensor in tensors)
        if len(tensors) != 1:
            raise ConfigError("", expected, f"{len(tensors)}: {actual}")
        if isinstance(whole, dict):
            raise ConfigError("", expected, f"a mapping of it: {', '.join(map(str, whole))}")
        if tensors[0].type_spec != tf.TensorSpec(shape, tf.float32, tensors[0].type_spec.name):
            raise ConfigError("", expected, actual)


def _tensor(tensor: Any) -> str:
    """Describes a symbolic tensor for an error: dtype, shape and layer."""
    spec = tensor.type_spec
    shape = "of unknown shape"
    if spec.shape.rank is not None:
        lengths = ["n", *("any" if length is None else str(length) for length in spec.shape[1:])]
        if spec.shape.rank and spec.shape[0] is not None:
            lengths[0] = str(spec.shape[0])
        shape = f"({', '.join(lengths[: spec.shape.rank])})"
    kind = "" if type(spec).__name__ == "TensorSpec" else f"{type(spec).__name__.removesuffix('Spec')} "
    return f"{kind}{spec.dtype.name} {shape} of {layer_list(tensor._keras_history.layer)}"


def _require_layers(model: Any, spec: Spec) -> None:
    """Requires layers, nested ones included, that can be compiled, restored and trained in float32."""
    if getattr(model, "optimizer", None) is not None or getattr(model, "compiled_loss", None) is not None:
        raise ConfigError("", "a model that is not compiled: `train` says how it learns", "its own optimizer or loss")
    for layer in all_layers(model):
        if type(layer).__name__ == "AddMetric" or getattr(layer, "_metrics", None):
            raise ConfigError("", "layers without metrics of their own", layer_list(layer))
        for policy in {layer.compute_dtype, *(weight.dtype.name for weight in layer.weights if weight.dtype.is_floating)}:
            if policy not in (None, "float32"):
                raise ConfigError("", "layers that compute in float32", f"{layer_list(layer)} in {layer.dtype_policy.name}")
        if getattr(layer, "dynamic", False):
            raise ConfigError("", "layers that TensorFlow can compile", f"{layer_list(layer)}, which is dynamic")
        if not of_keras(type(layer)) and not _imported_with(type(layer), spec):
            expected = f"layers of Keras, or of classes that {type(spec).__module__} defines or imports outside of any function"
            raise ConfigError("", expected, layer_list(layer))
    if not model.trainable_weights:
        raise ConfigError("", "a network with weights to train", f"{len(model.weights)} weights, none trainable")


def _imported_with(kind: type, spec: Spec) -> bool:
    """Whether importing the spec's module imports a class: a checkpoint is restored without building the network first."""
    if "<locals>" in kind.__qualname__:
        return False
    home = inspect.getmodule(type(spec))
    if home is None or kind.__module__ == home.__name__:
        return True
    roots = {getattr(value, "__name__", "") for value in vars(home).values() if inspect.ismodule(value)}
    return any(value is kind for value in vars(home).values()) or any(
        f"{kind.__module__}.".startswith(f"{root}.") for root in roots if root
    )


def _require_equal_builds(first: Any, second: Any) -> None:
    """Requires that two builds with the same seed are equal, since checkpoints, cache keys and files depend on it."""
    expected = "the same network from every call of build with the same seed"
    expected_config, config = _description(first), _description(second)
    for layer, again in zip(expected_config.get("layers", ()), config.get("layers", ()), strict=False):
        if layer != again:
            names = [entry["config"].get("name") for entry in (layer, again)]
            difference = " and ".join(map(str, names)) if names[0] != names[1] else f"two different layers called {names[0]}"
            raise ConfigError("", expected, difference)
    if expected_config != config:
        raise ConfigError("", expected, f"{len(first.layers)} and {len(second.layers)} layers, joined otherwise")
    for weight, again in zip(first.weights, second.weights, strict=True):
        if not np.array_equal(weight.numpy(), again.numpy()):
            raise ConfigError("", expected, f"other weights: {weight.name.removesuffix(':0')}")


def _description(model: Any) -> dict[str, Any]:
    """The configuration of the network in its checkpoint.

    Raises:
        ConfigError: naming the layer that cannot be serialised.
    """
    import tf_keras as keras

    try:
        described: dict[str, Any] = json.loads(model.to_json())["config"]
    except Exception as error:  # from a layer's get_config
        raise not_restorable(model, lambda layer: json.dumps(keras.layers.serialize(layer)), error) from error
    return described


def _require_stable_logits(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """Requires finite logits that are the same at every call and do not depend on the rest of the batch."""
    images = random_images(input_shape)
    expected = f"logits ({len(images)}, {classes}) for {len(images)} images"
    try:
        logits = model(images, training=False)
        again, alone = model(images, training=False), model(images[1:2], training=False)
    except Exception as error:  # from TensorFlow or a layer's own code
        raise ConfigError("", expected, f"{type(error).__name__}: {first_line(error)}") from error
    if tuple(logits.shape) != (len(images), classes):
        raise ConfigError("", expected, f"answers of shape {tuple(logits.shape)}")
    if not np.isfinite(logits.numpy()).all():
        raise ConfigError("", f"finite {expected}", "NaN or infinite ones")
    if not close(logits, again):
        layer = first_difference(model, outputs(model, images), outputs(model, images))
        raise ConfigError("", "the same answers to the same images", f"other ones each time, from {layer}")
    if not close(logits[1:2], alone):
        whole = {name: [part[1:2] for part in parts] for name, parts in outputs(model, images).items()}
        layer = first_difference(model, whole, outputs(model, images[1:2]))
        raise ConfigError("", "answers to an image that do not depend on the others of its batch", f"those of {layer}")


def _require_logits(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """Refuses outputs that are bounded: the losses expect logits and take the softmax themselves."""
    draws = np.random.default_rng(0)
    layers, last = last_with_weights(model)
    for layer in layers:
        values = []
        for weight in layer.weights:
            turns = np.where(np.arange(weight.shape[-1] if weight.shape.rank else 1) % 2, -1, 1)
            moving = "moving_" in weight.name or not weight.dtype.is_floating
            values.append(weight.numpy() if moving else turns * draws.uniform(0.5, 1, weight.shape) * _LARGE)
        layer.set_weights(values)
    logits = model(random_images(input_shape), training=False).numpy()
    low, high = logits.min(), logits.max()
    if low > _BELOW and low != high:
        activation = getattr(getattr(last, "activation", None), "__name__", "")
        where = f"{layer_list(last)}{f', {activation}' if activation else ''}"
        expected = f"logits (n, {classes}), of either sign and any size: no activation after the last layer"
        raise ConfigError("", expected, f"values in [{low:.3g}, {high:.3g}] from {where}")
