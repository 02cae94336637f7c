"""The dependency graph of a network's channels, and the removal of groups of channels.

Every channel is a token. A full convolution or a dense layer produces new tokens, one per filter. Additions unite the tokens of
their inputs, concatenations concatenate them, flattening repeats them, and channelwise layers (batch normalisation, depthwise
convolutions, activations, pooling) pass them on. Tokens of the image and of the logits are fixed. United tokens form a group,
whose channels can only be removed together. `filters` chooses the groups; nothing here trains.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Checkpoint
from sweep.models import checkpoints, equivalence

# Layers that pass each channel on by itself (a softmax fixes them all), by their Keras names.
_CHANNELWISE = frozenset(
    {
        "Activation", "ActivityRegularization", "AveragePooling2D", "BatchNormalization", "Cropping2D", "DepthwiseConv2D",
        "Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LeakyReLU",
        "MaxPooling2D", "PReLU", "ReLU", "Rescaling", "Softmax", "SpatialDropout2D", "UpSampling2D", "ZeroPadding2D",
    }
)  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_KINDS = {"conv": ("Conv2D", "SeparableConv2D"), "dense": ("Dense",)}
_PRODUCERS = frozenset(name for names in _KINDS.values() for name in names)
_KNOWN = _PRODUCERS | _CHANNELWISE | _ELEMENTWISE | {"Concatenate", "Flatten", "Reshape"}
_FIXED = 0  # the token of the channels that cannot be removed
_NO_GROUP = -1


@dataclass(frozen=True, eq=False)
class DependencyGraph:
    """The groups of dependent channels of a network.

    Attributes:
        groups: the removable groups, each as the (layer, filter) pairs that produce its channels, in the network's order.
        inputs: layer name to the group of each input channel, int (channels,); -1 for a channel that cannot be removed.
        outputs: layer name to the group of each output channel, likewise.
    """

    groups: tuple[tuple[tuple[str, int], ...], ...]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def filters(self) -> dict[str, int]:
        """Layer name to its number of filters, for the layers with removable filters."""
        names = dict.fromkeys(name for group in self.groups for name, _ in group)
        return {name: len(self.outputs[name]) for name in names}


def trace(model: Any, layers: str = "all") -> DependencyGraph:
    """Traces the channels of a network.

    Args:
        model: a float Keras model, Sequential or functional, channels last.
        layers: whose filters can be removed: `conv` (full convolutions), `dense` or `all`.

    Returns:
        The dependency graph.

    Raises:
        ConfigError: naming the first layer whose channels cannot be followed.
    """
    return _Tracer(model, layers).traced()


def remove_channels(network: Checkpoint, graph: DependencyGraph, dropped: Collection[int]) -> Checkpoint:
    """Removes groups of channels. The logits are those of the network with these channels set to zero.

    Args:
        network: a float network.
        graph: its dependency graph.
        dropped: numbers of the groups to remove.

    Returns:
        The smaller network with its masks sliced and its filter counts updated.

    Raises:
        EquivalenceError: when its logits differ from those of the network that ignores these channels.
    """
    import tf_keras as keras

    before = checkpoints.restore(network)
    keep_in, keep_out = (
        {name: ~np.isin(numbers, list(dropped)) for name, numbers in side.items()} for side in (graph.inputs, graph.outputs)
    )
    description = json.loads(network.architecture)
    for entry in description["config"]["layers"]:
        entry.pop("build_config", None)  # shapes of the larger network
        _shrink(entry["class_name"], entry["config"], keep_out)
    after = keras.models.model_from_json(json.dumps(description))
    masks = dict(network.masks)
    for layer in before.layers:
        name = layer.name
        if layer.weights:
            values = [_sliced(layer, weight, keep_in[name], keep_out[name]) for weight in layer.weights]
            after.get_layer(name).set_weights(values)
        if name in masks:
            masks[name] = masks[name][..., keep_in[name], :][..., keep_out[name]]
    _require_equivalent(before, after, keep_in)
    filters = {
        name: (network.filters.get(name, (count,))[0], int(keep_out[name].sum())) for name, count in graph.filters.items()
    }
    return replace(checkpoints.snapshot(after, masks), filters={**network.filters, **filters})


def _require_equivalent(before: Any, after: Any, keep_in: Mapping[str, Array]) -> None:
    """Refuses a smaller network whose logits differ from those of the whole one with the removed input channels zeroed.

    The kernels of `before` are changed in place.
    """
    for layer in before.layers:
        if type(layer).__name__ in _PRODUCERS:
            first = layer.weights[0]  # of a separable convolution, the depthwise one
            first.assign(first.numpy() * keep_in[layer.name][:, np.newaxis])
    images = equivalence.images(before.input_shape[1:]) / np.float32(255)
    expected, logits = (model(images, training=False).numpy() for model in (before, after))
    equivalence.require(equivalence.Step.REMOVAL, expected, logits)


def _shrink(kind: str, config: dict[str, Any], keep: Mapping[str, Array]) -> None:
    """Writes the smaller number of channels into a layer's configuration, where it holds one."""
    if kind in _PRODUCERS:
        config["units" if kind == "Dense" else "filters"] = int(keep[config["name"]].sum())
    elif kind == "Reshape":
        config["target_shape"] = [*config["target_shape"][:-1], int(keep[config["name"]].sum())]


def _sliced(layer: Any, weight: Any, keep_in: Array, keep_out: Array) -> Array:
    """A weight of a layer without the removed channels."""
    values: Array = weight.numpy()
    kind, role = type(layer).__name__, weight.name.rpartition("/")[2].removesuffix(":0")
    if role == "pointwise_kernel":
        keep_in = np.repeat(keep_in, layer.depth_multiplier)
    if role == "depthwise_kernel":
        axes = {-2: keep_in}
    elif role == "pointwise_kernel" or (kind in _PRODUCERS and role == "kernel"):
        axes = {-2: keep_in, -1: keep_out}
    else:
        axes = {-1: keep_out}
    for axis, keep in axes.items():
        values = np.compress(keep, values, axis=axis)
    return values


class _Tracer:
    """Traces the channels of one network from the image to the logits."""

    def __init__(self, model: Any, layers: str) -> None:
        self._model, self._layers = model, layers
        self._parent = [_FIXED]  # union-find: token to its parent, a root to itself
        self._tokens: dict[Any, Array] = {}  # tensor to the token of each of its channels
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}
        self._producers: list[str] = []

    def traced(self) -> DependencyGraph:
        for tensor in self._model.inputs:
            self._tokens[tensor.ref()] = np.full(tensor.shape[-1], _FIXED)
        for layer in self._model.layers:
            self._visit(layer)
        for tensor in self._model.outputs:
            self._unite(self._tokens[tensor.ref()], np.array([_FIXED]))
        members: dict[int, list[tuple[str, int]]] = {}
        for name in self._producers:
            for number, token in enumerate(self._outputs[name]):
                members.setdefault(self._root(token), []).append((name, number))
        members.pop(_FIXED, None)
        numbers = {root: number for number, root in enumerate(members)}
        inputs, outputs = (
            {
                name: np.array([numbers.get(self._root(token), _NO_GROUP) for token in tokens], int)
                for name, tokens in side.items()
            }
            for side in (self._inputs, self._outputs)
        )
        return DependencyGraph(tuple(map(tuple, members.values())), inputs, outputs)

    def _visit(self, layer: Any) -> None:
        kind = type(layer).__name__
        if kind == "InputLayer":
            return
        if kind not in _KNOWN:
            raise _refused(layer, kind)
        if len(layer.inbound_nodes) != 1:
            raise _refused(layer, "used more than once")
        if getattr(layer, "data_format", None) == "channels_first":
            raise _refused(layer, "channels first")
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        incoming = [self._tokens[tensor.ref()] for tensor in tensors]
        if kind in _PRODUCERS:
            outgoing = self._produced(layer, kind)
        elif kind in _CHANNELWISE:
            outgoing = self._passed_on(layer, kind, incoming[0])
        elif kind in _ELEMENTWISE:
            outgoing = self._united(incoming, gates=kind == "Multiply")
        elif kind == "Concatenate":
            last = layer.axis in (-1, len(layer.output.shape) - 1)
            outgoing = np.concatenate(incoming) if last else self._united(incoming, gates=False)
        else:
            outgoing = self._reshaped(layer, incoming[0])
        if _mixes_channels(layer):
            self._unite(outgoing, np.array([_FIXED]))
        self._inputs[layer.name], self._outputs[layer.name] = incoming[0], outgoing
        self._tokens[layer.output.ref()] = outgoing

    def _produced(self, layer: Any, kind: str) -> Array:
        if getattr(layer, "groups", 1) != 1:
            raise _refused(layer, f"a convolution in {layer.groups} groups")
        count = layer.output.shape[-1]
        if self._layers != "all" and kind not in _KINDS[self._layers]:
            return np.full(count, _FIXED)
        self._producers.append(layer.name)
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count)

    def _passed_on(self, layer: Any, kind: str, tokens: Array) -> Array:
        if kind == "BatchNormalization" and list(layer.axis) != [len(layer.output.shape) - 1]:
            raise _refused(layer, "a normalisation along another axis than the channels")
        if kind == "Rescaling" and (np.ndim(layer.scale) or np.ndim(layer.offset)):
            self._unite(tokens, np.array([_FIXED]))
        return np.repeat(tokens, layer.depth_multiplier) if kind == "DepthwiseConv2D" else tokens

    def _united(self, incoming: list[Array], *, gates: bool) -> Array:
        widest = max(incoming, key=len)
        for tokens in incoming:
            if len(tokens) == len(widest):
                self._unite(tokens, widest)
            else:  # a broadcast channel: a channel of zeros stays zero only under multiplication
                self._unite(tokens if gates else np.concatenate([tokens, widest]), np.array([_FIXED]))
        return widest

    def _reshaped(self, layer: Any, tokens: Array) -> Array:
        shape = layer.output.shape[1:]
        if len(shape) == 1:
            return np.tile(tokens, shape[0] // len(tokens))
        if shape[-1] != len(tokens):
            raise _refused(layer, "a reshaping that takes channels apart")
        return tokens

    def _unite(self, tokens: Array, others: Array) -> None:
        for token, other in np.broadcast(tokens, others):
            low, high = sorted((self._root(token), self._root(other)))
            self._parent[high] = low

    def _root(self, token: int) -> int:
        while self._parent[token] != token:
            self._parent[token] = self._parent[self._parent[token]]
            token = self._parent[token]
        return int(token)


def _mixes_channels(layer: Any) -> bool:
    """Whether the removal of a channel changes the layer's output of the others."""
    return type(layer).__name__ == "Softmax" or getattr(getattr(layer, "activation", None), "__name__", "") == "softmax"


def _refused(layer: Any, reason: str) -> ConfigError:
    return ConfigError("", "a network whose channels can be followed", f"{layer.name} ({reason})")
