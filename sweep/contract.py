"""What a network must be to be trained, compressed and written: checked on the built Keras model, before anything trains.

The checks are of behaviour where that shows it, so that a layer nobody thought of is caught too: the model is asked for
answers, brought back from its description as every later stage will do it, built a second time, and counted in its own file.
What a model carries is honoured (losses that its layers add, constraints, frozen layers, weights that `build` sets) or refused
by the name of its layer. Whether a rewritten network (cut, wrapped for quantisation, converted) answers as before is not asked.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from sweep import audit, grids, models
from sweep.records import Array, ConfigError, Spec

_IMAGES = 3
_CLOSE = 1e-4  # relative: sums in another order
_LARGE = 100.0  # of a last layer's weights, so that a bounded activation shows its bounds
_BELOW = -2.0  # what logits fall below then, and no activation does: SELU ends at -1.76


def build(spec: Spec, input_shape: tuple[int, int, int], classes: int) -> Any:
    """The Keras model that a spec builds.

    Args:
        spec: the network.
        input_shape: (height, width, channels) of an image.
        classes: how many there are.

    Raises:
        ConfigError: without a key, for a `build` that fails or returns anything but a Sequential or functional Keras 2 model.
    """
    import tf_keras as keras

    expected = f"a Sequential or functional Keras 2 model (tf_keras) from build({input_shape}, {classes})"
    try:
        model = spec.build(input_shape, classes)
    except (ConfigError, MemoryError):
        raise
    except Exception as error:  # the user's own code: whatever it raises is what is wrong with it
        raise ConfigError("", expected, f"{type(error).__name__}: {_reason(error)}") from error
    if not isinstance(model, keras.Model):
        kind = type(model)
        keras_3 = " (of Keras 3)" if kind.__module__.partition(".")[0] == "keras" else ""
        raise ConfigError("", expected, f"{kind.__name__}{keras_3}")
    if not _of_keras(type(model)):
        raise ConfigError("", expected, f"a subclass ({type(model).__name__}), whose code a checkpoint does not hold")
    return model


def require(spec: Spec, input_shape: tuple[int, int, int], classes: int, seed: int) -> None:
    """Refuse a network that no stage can work with.

    Args:
        spec: the network.
        input_shape: (height, width, channels) of an image.
        classes: how many logits there must be.
        seed: of its fresh weights.

    Raises:
        ConfigError: without a key, naming the layer where there is one.
    """
    before = _settings()
    try:
        models.fresh(seed)
        model = build(spec, input_shape, classes)
        if changed := [f"{name} {value}" for name, value in _settings().items() if value != before[name]]:
            raise ConfigError("", "a build that leaves Keras's own settings alone", ", ".join(changed))
        _require_ends(model, input_shape, classes)
        _require_layers(model, spec)
        models.fresh(seed)
        _require_equal_builds(model, build(spec, input_shape, classes))
        _require_answers(model, input_shape, classes)
        _require_restorable(model, input_shape)
        _require_logits(model, input_shape, classes)
    finally:
        _set(before)


def require_counted(model: Any, facts: audit.Audit) -> None:
    """Refuse a network of whose kernels the file shows more, fewer or others.

    Args:
        model: a Keras model.
        facts: what its float32 file holds, made with weights that are all different from zero.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    expected = "layers whose weights the file holds as kernels (convolutions and dense layers)"
    have = {layer: sum(map(_size, _kernel_weights(layer))) for layer in _parts(model)}
    if sum(have.values()) == sum(kernel.size for kernel in facts.kernels):
        return
    shown = {grids.layer_of(kernel.name) for kernel in facts.kernels}
    missing = [layer for layer, size in have.items() if size and layer.name not in shown]
    raise ConfigError("", expected, _told(*missing) or "kernels that none of them has")


def require_targets(model: Any, layers: str, *, removed: bool = False) -> None:
    """Refuse a network without kernels of a kind, or with a frozen one among them.

    Args:
        model: a Keras model.
        layers: `conv`, `dense` or `all`.
        removed: whether it is their filters that go, which other kinds of layer have too (see `channels`).

    Raises:
        ConfigError: at `layers` for a network without such kernels, else without a key, naming the layers.
    """
    targets = models.kernels(model, layers)
    if not targets and not removed:
        raise ConfigError("layers", "a kind of layer that the model has", layers)
    _refuse_frozen(model, targets)


def require_true_sparsity(model: Any, layers: str, facts: audit.Audit) -> None:
    """Refuse layers that the file counts with those that are pruned: its sparsity would not be the one asked for.

    Args:
        model: a Keras model.
        layers: `conv`, `dense` or `all`.
        facts: what its float32 file holds.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    if sum(map(_size, models.kernels(model, layers).values())) != facts.weights(layers):
        known = models.every_kernel(model)
        others = [layer for layer in _parts(model) if layer.name not in known and _kernel_weights(layer)]
        raise ConfigError("", "Conv2D and Dense layers alone, as the file counts others with them", _told(*others))


def require_wrappable(model: Any) -> None:
    """Refuse what is lost where layers are wrapped for quantisation-aware training: what is frozen, and losses of activations.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    _refuse_frozen(model, models.every_kernel(model))
    if active := [layer for layer in _layers(model) if getattr(layer, "activity_regularizer", None) is not None]:
        raise ConfigError("", "losses of weights alone", f"{_told(*active)} with an activity_regularizer")


def _refuse_frozen(model: Any, names: Collection[str]) -> None:
    if frozen := [layer for layer in model.layers if layer.name in names and not layer.trainable]:
        raise ConfigError("", "layers that may change", f"{_told(*frozen)} with trainable=False")


def _settings() -> dict[str, Any]:
    """Keras's own settings, which outlive a model."""
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


def _require_ends(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """One input of images in any number, one output of logits."""
    import tensorflow as tf

    taken = f"one float32 input (n, {', '.join(map(str, input_shape))})"
    if not model.inputs:
        raise ConfigError("", f"{taken}, by an Input or an input_shape", "a model that is not built")
    given = f"one float32 output, logits (n, {classes})"
    ends = ((taken, model.inputs, model.input, (None, *input_shape)), (given, model.outputs, model.output, (None, classes)))
    for expected, tensors, whole, shape in ends:
        found = ", ".join(_tensor(tensor) for tensor in tensors)
        if len(tensors) != 1:
            raise ConfigError("", expected, f"{len(tensors)}: {found}")
        if isinstance(whole, dict):
            raise ConfigError("", expected, f"a mapping of it: {', '.join(map(str, whole))}")
        if tensors[0].type_spec != tf.TensorSpec(shape, tf.float32, tensors[0].type_spec.name):
            raise ConfigError("", expected, found)


def _tensor(tensor: Any) -> str:
    """A symbolic tensor for people: its type, its shape and where it comes from."""
    spec = tensor.type_spec
    shape = "of unknown shape"
    if spec.shape.rank is not None:
        lengths = ["n", *("any" if length is None else str(length) for length in spec.shape[1:])]
        if spec.shape.rank and spec.shape[0] is not None:
            lengths[0] = str(spec.shape[0])
        shape = f"({', '.join(lengths[: spec.shape.rank])})"
    kind = "" if type(spec).__name__ == "TensorSpec" else f"{type(spec).__name__.removesuffix('Spec')} "
    return f"{kind}{spec.dtype.name} {shape} of {_told(tensor._keras_history.layer)}"


def _require_layers(model: Any, spec: Spec) -> None:
    """What each layer, those inside of others too, may be."""
    if getattr(model, "optimizer", None) is not None or getattr(model, "compiled_loss", None) is not None:
        raise ConfigError("", "a model that is not compiled: `train` says how it learns", "its own optimizer or loss")
    for layer in _layers(model):
        if type(layer).__name__ == "AddMetric" or getattr(layer, "_metrics", None):
            raise ConfigError("", "layers without metrics of their own", _told(layer))
        for policy in {layer.compute_dtype, *(weight.dtype.name for weight in layer.weights if weight.dtype.is_floating)}:
            if policy not in (None, "float32"):
                raise ConfigError("", "layers that compute in float32", f"{_told(layer)} in {layer.dtype_policy.name}")
        if getattr(layer, "dynamic", False):
            raise ConfigError("", "layers that TensorFlow can compile", f"{_told(layer)}, which is dynamic")
        if not _of_keras(type(layer)) and not _imported_with(type(layer), spec):
            expected = f"layers of Keras, or of classes that {type(spec).__module__} defines or imports outside of any function"
            raise ConfigError("", expected, _told(layer))
    if not model.trainable_weights:
        raise ConfigError("", "a network with weights to train", f"{len(model.weights)} weights, none trainable")


def _of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "tf_keras"


def _imported_with(kind: type, spec: Spec) -> bool:
    """Whether a class is there as soon as its spec is: a checkpoint is restored without building the network first."""
    if "<locals>" in kind.__qualname__:
        return False
    home = inspect.getmodule(type(spec))
    if home is None or kind.__module__ == home.__name__:
        return True
    roots = {getattr(value, "__name__", "") for value in vars(home).values() if inspect.ismodule(value)}
    return any(value is kind for value in vars(home).values()) or any(
        f"{kind.__module__}.".startswith(f"{root}.") for root in roots if root
    )


def _require_equal_builds(one: Any, other: Any) -> None:
    """Two builds from the same seed are the same network: their checkpoints, cache keys and files must be."""
    expected = "the same network from every call of build with the same seed"
    mine, theirs = _description(one), _description(other)
    for layer, again in zip(mine.get("layers", ()), theirs.get("layers", ()), strict=False):
        if layer != again:
            names = [entry["config"].get("name") for entry in (layer, again)]
            difference = " and ".join(map(str, names)) if names[0] != names[1] else f"two different layers called {names[0]}"
            raise ConfigError("", expected, difference)
    if mine != theirs:
        raise ConfigError("", expected, f"{len(one.layers)} and {len(other.layers)} layers, joined otherwise")
    for weight, again in zip(one.weights, other.weights, strict=True):
        if not np.array_equal(weight.numpy(), again.numpy()):
            raise ConfigError("", expected, f"other weights: {weight.name.removesuffix(':0')}")


def _description(model: Any) -> dict[str, Any]:
    """The network as every checkpoint keeps it.

    Raises:
        ConfigError: naming the layer that has no description.
    """
    import tf_keras as keras

    try:
        described: dict[str, Any] = json.loads(model.to_json())["config"]
    except Exception as error:  # of a layer's own get_config
        raise _not_restorable(model, lambda layer: json.dumps(keras.layers.serialize(layer)), error) from error
    return described


def _not_restorable(model: Any, attempt: Callable[[Any], object], error: Exception) -> ConfigError:
    """What to say of a network of which the attempt fails: the first layer with which it does, and why."""
    for layer in model.layers:
        try:
            attempt(layer)
        except Exception as reason:  # noqa: BLE001 - it is told
            return ConfigError("", _RESTORABLE, f"{_told(layer)}: {_reason(reason)}")
    return ConfigError("", _RESTORABLE, f"{type(error).__name__}: {_reason(error)}")


_RESTORABLE = "layers that come back from their description (get_config) without code"


def _require_answers(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """Finite logits for images, the same whenever they are asked for and whatever else is in the batch."""
    images = _images(input_shape)
    expected = f"logits ({_IMAGES}, {classes}) for {_IMAGES} images"
    try:
        answers = model(images, training=False)
        again, alone = model(images, training=False), model(images[1:2], training=False)
    except Exception as error:  # of TensorFlow, or of a layer's own code
        raise ConfigError("", expected, f"{type(error).__name__}: {_reason(error)}") from error
    if tuple(answers.shape) != (_IMAGES, classes):
        raise ConfigError("", expected, f"answers of shape {tuple(answers.shape)}")
    if not np.isfinite(answers.numpy()).all():
        raise ConfigError("", f"finite {expected}", "NaN or infinite ones")
    if not _close(answers, again):
        layer = _first_difference(model, _outputs(model, images), _outputs(model, images))
        raise ConfigError("", "the same answers to the same images", f"other ones each time, from {layer}")
    if not _close(answers[1:2], alone):
        whole = {name: [part[1:2] for part in parts] for name, parts in _outputs(model, images).items()}
        layer = _first_difference(model, whole, _outputs(model, images[1:2]))
        raise ConfigError("", "answers to an image that do not depend on the others of its batch", f"those of {layer}")


def _require_restorable(model: Any, input_shape: tuple[int, int, int]) -> None:
    """The network that a checkpoint brings back is this one: it answers, learns and holds back as this one does."""
    import tf_keras as keras

    # All different, so that nothing is hidden by a factor of 1 or a bias of 0; no larger than they were.
    draws = np.random.default_rng(0)
    weights = [
        (value * draws.uniform(0.9, 1.1, value.shape) + draws.uniform(0, 0.02, value.shape)).astype(value.dtype)
        if np.issubdtype(value.dtype, np.floating)
        else value
        for value in model.get_weights()
    ]
    try:
        model.set_weights(weights)
        restored = models.restore(models.snapshot(model))
    except Exception as error:  # of a layer's own code
        raise _not_restorable(model, lambda layer: keras.layers.deserialize(keras.layers.serialize(layer)), error) from error
    for weight, again in zip(model.weights, restored.weights, strict=True):
        mine, theirs = ((one.name, one.trainable, type(one.constraint).__name__) for one in (weight, again))
        if mine != theirs:
            raise ConfigError("", _RESTORABLE, f"{mine[0]} as {theirs}, which was {mine}")
    images = _images(input_shape)

    def learnt(one: Any, *, training: bool) -> list[Array]:
        """The answers, the losses that layers add, and the weights, which a call in training may move."""
        keras.utils.set_random_seed(0)
        one.set_weights(weights)
        answers = one(images, training=training).numpy()
        return [answers, np.array([float(loss) for loss in one.losses]), *one.get_weights()]

    for training in (False, True):
        first, second, back = (learnt(one, training=training) for one in (model, model, restored))
        if all(map(_close, first, second)) and not all(map(_close, first, back)):
            layer = _first_difference(model, *(_outputs(one, images) for one in (model, restored)))
            raise ConfigError("", _RESTORABLE, f"another network, from {layer} on")


def _outputs(model: Any, images: Array) -> dict[str, list[Array]]:
    """Layer name to what the layer gives for images, of each layer that is used once."""
    import tf_keras as keras

    layers = [layer for layer in model.layers if len(layer.inbound_nodes) == 1]
    probe = keras.Model(model.inputs, [layer.output for layer in layers])
    values = _flat(probe(images, training=False))
    return {layer.name: [np.asarray(values.pop(0)) for _ in _flat(layer.output)] for layer in layers}


def _first_difference(model: Any, one: Mapping[str, list[Array]], other: Mapping[str, list[Array]]) -> str:
    """The first layer of which two sets of outputs differ; the last one where none does."""
    for name, parts in one.items():
        if not all(map(_close, parts, other[name])):
            return _told(model.get_layer(name))
    return _told(model.layers[-1])


def _require_logits(model: Any, input_shape: tuple[int, int, int], classes: int) -> None:
    """Answers that can be any number: the loss and the distillation take the softmax themselves."""
    draws = np.random.default_rng(0)
    layers, last = _last_with_weights(model)
    for layer in layers:
        values = []
        for weight in layer.weights:
            turns = np.where(np.arange(weight.shape[-1] if weight.shape.rank else 1) % 2, -1, 1)
            moving = "moving_" in weight.name or not weight.dtype.is_floating
            values.append(weight.numpy() if moving else turns * draws.uniform(0.5, 1, weight.shape) * _LARGE)
        layer.set_weights(values)
    answers = model(_images(input_shape), training=False).numpy()
    low, high = answers.min(), answers.max()
    if low > _BELOW and low != high:
        activation = getattr(getattr(last, "activation", None), "__name__", "")
        where = f"{_told(last)}{f', {activation}' if activation else ''}"
        expected = f"logits (n, {classes}), of either sign and any size: no activation after the last layer"
        raise ConfigError("", expected, f"values in [{low:.3g}, {high:.3g}] from {where}")


def _last_with_weights(model: Any) -> tuple[list[Any], Any]:
    """The last layers with weights on each way back from the output, and the last layer that computes."""
    last = model.outputs[0]._keras_history.layer
    waiting, seen, found = [last], set(), []
    while type(last).__name__ in ("Dropout", "Flatten", "Reshape"):
        last = _before(last, model)[0]
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if layer.weights:
            found.append(layer)
        else:
            waiting += _before(layer, model)
    return found, last


def _before(layer: Any, model: Any) -> list[Any]:
    """The layers that a layer takes from."""
    nodes = [node for node in layer.inbound_nodes if any(node in nodes for nodes in model._nodes_by_depth.values())]
    return [parent for node in nodes for parent in _flat(node.inbound_layers)]


def _layers(model: Any) -> Iterator[Any]:
    """Every layer, those inside of others too, each once."""
    yield from model._flatten_layers(include_self=False, recursive=True)


def _parts(model: Any) -> Iterator[Any]:
    """The layers of a network, and in place of a network inside it the layers of that."""
    import tf_keras as keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _parts(layer)
        else:
            yield layer


def _kernel_weights(layer: Any) -> list[Any]:
    """A layer's kernels: of a layer of one's own, every weight of two dimensions or more."""
    own = not _of_keras(type(layer))
    roles = [(weight, weight.name.rpartition("/")[2]) for weight in layer.weights]
    return [one for one, role in roles if "kernel" in role or "embeddings" in role or (own and _rank(one) > 1)]


def _rank(weight: Any) -> int:
    return len(weight.shape)


def _size(weight: Any) -> int:
    return int(np.prod(weight.shape))


def _images(input_shape: tuple[int, int, int]) -> Array:
    images: Array = np.random.default_rng(0).random((_IMAGES, *input_shape), np.float32)
    return images


def _close(one: Any, other: Any) -> bool:
    mine, theirs = np.asarray(one), np.asarray(other)
    largest = max(float(np.abs(mine).max(initial=0)), 1e-6)
    return mine.shape == theirs.shape and bool(
        (np.abs(mine - theirs) <= _CLOSE * largest).all() or np.array_equal(mine, theirs)
    )


def _flat(value: Any) -> list[Any]:
    import tensorflow as tf

    parts: list[Any] = tf.nest.flatten(value)
    return parts


def _told(*layers: Any) -> str:
    return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text.partition(". ")[0][:300] or type(error).__name__
