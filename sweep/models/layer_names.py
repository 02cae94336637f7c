"""Renames layers whose names a `.tflite` file does not keep apart, while their network is converted and the file is read.

A file's tensors are named by path: the network's name, the layer's, the operation's, with `quant_` before a layer that was
fake-quantised. So a layer whose own name holds a slash (`conv1/conv`, as in keras.applications) or starts with `quant_` could
not be identified. It gets another name for a full-integer file; messages to the user have the user's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sweep.core.types import Checkpoint
from sweep.models import checkpoints

T = TypeVar("T")


_PLAIN = re.compile(r"(?!quant_)[A-Za-z0-9.][A-Za-z0-9_.>-]*")


def plain(names: Iterable[str]) -> dict[str, str]:
    """Name to the name in a file: itself where a file keeps it apart, or else a new unique name.

    Args:
        names: all layer names of a network.
    """
    names = tuple(names)
    taken = {name for name in names if _PLAIN.fullmatch(name)}
    renamed = {}
    for name in names:
        if name not in taken:
            base = "layer_" + re.sub(r"[^A-Za-z0-9.-]", "_", name)
            number, free = 1, base
            while free in taken:
                number, free = number + 1, f"{base}_{number + 1}"
            taken.add(free)
            renamed[name] = free
        else:
            renamed[name] = name
    return renamed


def in_a_file(network: Checkpoint) -> Checkpoint:
    """The network with the names that its layers have in a full-integer file; itself where none changes.

    Args:
        network: a float network; the weights are unchanged.
    """
    import tf_keras as keras

    config = json.loads(network.architecture)["config"]
    layers = [layer["config"]["name"] for layer in config["layers"]]
    # The network's own name is on the path too, and need not differ from its layers'.
    title, renamed = plain([config["name"]])[config["name"]], plain(layers)
    if title == config["name"] and all(old == new for old, new in renamed.items()):
        return network

    def called_otherwise(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "name": renamed[layer.name]})

    model = keras.models.clone_model(checkpoints.architecture(network), clone_function=called_otherwise)
    description = json.loads(model.to_json())
    description["config"]["name"] = title

    def keyed(values: Mapping[str, T]) -> dict[str, T]:
        return {renamed[name]: value for name, value in values.items()}

    return replace(
        network,
        architecture=json.dumps(description),
        masks=keyed(network.masks),
        clusters=keyed(network.clusters),
        filters=keyed(network.filters),
        bits=keyed(network.bits),
    )


def with_user_names(text: str, network: Checkpoint) -> str:
    """Replaces the file's layer names in a message by the user's.

    Args:
        text: a message about a full-integer file of the network.
        network: the network with the user's layer names.
    """
    layers = [layer["config"]["name"] for layer in json.loads(network.architecture)["config"]["layers"]]
    others = {new: old for old, new in plain(layers).items() if old != new}
    if not others:
        return text
    longest_first = "|".join(re.escape(name) for name in sorted(others, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z0-9_.-])(quant_)?({longest_first})(?![A-Za-z0-9_-])", lambda match: others[match[2]], text)
