"""Which channels of a network hang together, and the network without some of them.

Every channel is a token. A full convolution or a dense layer makes new tokens, one a filter; additions unite those of their
inputs, concatenations line them up, flattening repeats them, and what works on each channel by itself (batch normalisation,
depthwise convolutions, activations, pooling) hands them on. Tokens of the image and of the logits stay. Tokens that were united
are one group: they can only go together. What is removed is chosen by `prune`; nothing here trains.
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

# Layers that keep their channels apart (or, a softmax, all of them), by their Keras names.
_CHANNELWISE = frozenset(
    {
        "Activation", "ActivityRegularization", "AveragePooling2D", "BatchNormalization", "Cropping2D", "DepthwiseConv2D",
        "Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LeakyReLU",
        "MaxPooling2D", "PReLU", "ReLU", "Rescaling", "Softmax", "SpatialDropout2D", "UpSampling2D", "ZeroPadding2D",
    }
)  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_KINDS = {"conv": ("Conv2D", "SeparableConv2D"), "dense": ("Dense",)}
_MAKERS = frozenset(name for names in _KINDS.values() for name in names)
_KNOWN = _MAKERS | _CHANNELWISE | _ELEMENTWISE | {"Concatenate", "Flatten", "Reshape"}
_STAYS = 0  # the token of what cannot be removed
_NO_GROUP = -1


@dataclass(frozen=True, eq=False)
class Wiring:
    """How the channels of a network hang together.

    Attributes:
        groups: those that can be removed, each as the (layer, filter) pairs that make its channels, in the network's order.
        inputs: layer name to the group of each channel that it takes, int (channels,); -1 for one that stays.
        outputs: the same of the channels that it gives.
    """

    groups: tuple[tuple[tuple[str, int], ...], ...]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def filters(self) -> dict[str, int]:
        """Layer name to its number of filters, for the layers that can lose some."""
        names = dict.fromkeys(name for group in self.groups for name, _ in group)
        return {name: len(self.outputs[name]) for name in names}


def wire(model: Any, layers: str = "all") -> Wiring:
    """Follow the channels through a network.

    Args:
        model: a float Keras model, Sequential or functional, channels last.
        layers: whose filters can be removed: `conv` (full convolutions), `dense` or `all`.

    Raises:
        ConfigError: naming the first layer whose channels cannot be followed.
    """
    return _Walk(model, layers).wiring()


def cut(network: Checkpoint, wiring: Wiring, dropped: Collection[int]) -> Checkpoint:
    """The network without some of its channels: the same answers as with those channels held at zero.

    Args:
        network: a float network.
        wiring: its wiring.
        dropped: numbers of the groups to remove.

    Returns:
        The smaller network, its masks cut with it, and the layers' filters counted.

    Raises:
        EquivalenceError: when it answers otherwise than the network whose layers do not see those channels.
    """
    import tf_keras as keras

    before = checkpoints.restore(network)
    keep_in, keep_out = (
        {name: ~np.isin(numbers, list(dropped)) for name, numbers in side.items()} for side in (wiring.inputs, wiring.outputs)
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
            values = [_sliced(layer, one, keep_in[name], keep_out[name]) for one in layer.weights]
            after.get_layer(name).set_weights(values)
        if name in masks:
            masks[name] = masks[name][..., keep_in[name], :][..., keep_out[name]]
    _require_equivalent(before, after, keep_in)
    filters = {
        name: (network.filters.get(name, (count,))[0], int(keep_out[name].sum())) for name, count in wiring.filters.items()
    }
    return replace(checkpoints.snapshot(after, masks), filters={**network.filters, **filters})


def _require_equivalent(before: Any, after: Any, keep_in: Mapping[str, Array]) -> None:
    """Refuse a network without some channels that answers otherwise than the whole one, of which no kernel sees these channels.

    The kernels of `before` lose what they make of them.
    """
    for layer in before.layers:
        if type(layer).__name__ in _MAKERS:
            first = layer.weights[0]  # of a separable convolution, the depthwise one
            first.assign(first.numpy() * keep_in[layer.name][:, np.newaxis])
    images = equivalence.images(before.input_shape[1:]) / np.float32(255)
    expected, found = (model(images, training=False).numpy() for model in (before, after))
    equivalence.require(equivalence.Step.REMOVAL, expected, found)


def _shrink(kind: str, config: dict[str, Any], keep: Mapping[str, Array]) -> None:
    """Write the smaller number of channels into a layer's configuration, where it holds one."""
    if kind in _MAKERS:
        config["units" if kind == "Dense" else "filters"] = int(keep[config["name"]].sum())
    elif kind == "Reshape":
        config["target_shape"] = [*config["target_shape"][:-1], int(keep[config["name"]].sum())]


def _sliced(layer: Any, weight: Any, keep_in: Array, keep_out: Array) -> Array:
    """One weight of a layer, for the channels that stay."""
    values: Array = weight.numpy()
    kind, role = type(layer).__name__, weight.name.rpartition("/")[2].removesuffix(":0")
    if role == "pointwise_kernel":
        keep_in = np.repeat(keep_in, layer.depth_multiplier)
    if role == "depthwise_kernel":
        axes = {-2: keep_in}
    elif role == "pointwise_kernel" or (kind in _MAKERS and role == "kernel"):
        axes = {-2: keep_in, -1: keep_out}
    else:
        axes = {-1: keep_out}
    for axis, keep in axes.items():
        values = np.compress(keep, values, axis=axis)
    return values


class _Walk:
    """One walk through a network, from the image to the logits."""

    def __init__(self, model: Any, layers: str) -> None:
        self._model, self._layers = model, layers
        self._above = [_STAYS]  # a union-find: token to a token of its group, the root to itself
        self._at: dict[Any, Array] = {}  # tensor to the token of each of its channels
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}
        self._makers: list[str] = []

    def wiring(self) -> Wiring:
        for tensor in self._model.inputs:
            self._at[tensor.ref()] = np.full(tensor.shape[-1], _STAYS)
        for layer in self._model.layers:
            self._visit(layer)
        for tensor in self._model.outputs:
            self._unite(self._at[tensor.ref()], np.array([_STAYS]))
        members: dict[int, list[tuple[str, int]]] = {}
        for name in self._makers:
            for number, token in enumerate(self._outputs[name]):
                members.setdefault(self._root(token), []).append((name, number))
        members.pop(_STAYS, None)
        numbers = {root: number for number, root in enumerate(members)}
        inputs, outputs = (
            {
                name: np.array([numbers.get(self._root(token), _NO_GROUP) for token in tokens], int)
                for name, tokens in side.items()
            }
            for side in (self._inputs, self._outputs)
        )
        return Wiring(tuple(map(tuple, members.values())), inputs, outputs)

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
        incoming = [self._at[tensor.ref()] for tensor in tensors]
        if kind in _MAKERS:
            outgoing = self._made(layer, kind)
        elif kind in _CHANNELWISE:
            outgoing = self._handed_on(layer, kind, incoming[0])
        elif kind in _ELEMENTWISE:
            outgoing = self._united(incoming, gates=kind == "Multiply")
        elif kind == "Concatenate":
            last = layer.axis in (-1, len(layer.output.shape) - 1)
            outgoing = np.concatenate(incoming) if last else self._united(incoming, gates=False)
        else:
            outgoing = self._reshaped(layer, incoming[0])
        if _mixes(layer):
            self._unite(outgoing, np.array([_STAYS]))
        self._inputs[layer.name], self._outputs[layer.name] = incoming[0], outgoing
        self._at[layer.output.ref()] = outgoing

    def _made(self, layer: Any, kind: str) -> Array:
        if getattr(layer, "groups", 1) != 1:
            raise _refused(layer, f"a convolution in {layer.groups} groups")
        count = layer.output.shape[-1]
        if self._layers != "all" and kind not in _KINDS[self._layers]:
            return np.full(count, _STAYS)
        self._makers.append(layer.name)
        first = len(self._above)
        self._above += range(first, first + count)
        return np.arange(first, first + count)

    def _handed_on(self, layer: Any, kind: str, tokens: Array) -> Array:
        if kind == "BatchNormalization" and list(layer.axis) != [len(layer.output.shape) - 1]:
            raise _refused(layer, "a normalisation along another axis than the channels")
        if kind == "Rescaling" and (np.ndim(layer.scale) or np.ndim(layer.offset)):
            self._unite(tokens, np.array([_STAYS]))
        return np.repeat(tokens, layer.depth_multiplier) if kind == "DepthwiseConv2D" else tokens

    def _united(self, incoming: list[Array], *, gates: bool) -> Array:
        widest = max(incoming, key=len)
        for tokens in incoming:
            if len(tokens) == len(widest):
                self._unite(tokens, widest)
            else:  # one channel that meets all: what is zero stays so only when it is multiplied
                self._unite(tokens if gates else np.concatenate([tokens, widest]), np.array([_STAYS]))
        return widest

    def _reshaped(self, layer: Any, tokens: Array) -> Array:
        shape = layer.output.shape[1:]
        if len(shape) == 1:
            return np.tile(tokens, shape[0] // len(tokens))
        if shape[-1] != len(tokens):
            raise _refused(layer, "a reshaping that takes channels apart")
        return tokens

    def _unite(self, one: Array, other: Array) -> None:
        for mine, theirs in np.broadcast(one, other):
            low, high = sorted((self._root(mine), self._root(theirs)))
            self._above[high] = low

    def _root(self, token: int) -> int:
        while self._above[token] != token:
            self._above[token] = self._above[self._above[token]]
            token = self._above[token]
        return int(token)


def _mixes(layer: Any) -> bool:
    """Whether a channel that goes would change what the layer makes of the others."""
    return type(layer).__name__ == "Softmax" or getattr(getattr(layer, "activation", None), "__name__", "") == "softmax"


def _refused(layer: Any, reason: str) -> ConfigError:
    return ConfigError("", "a network whose channels can be followed", f"{layer.name} ({reason})")
