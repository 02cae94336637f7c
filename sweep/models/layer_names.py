"""Renames layers whose names are ambiguous in a `.tflite` file, for the conversion and the audit of the file.

The name of a tensor is a path: the network, the layer, the operation, with the prefix `quant_` for a fake-quantised layer. So a
layer whose name has a slash (`conv1/conv`, as in keras.applications) or the prefix `quant_` could not be identified. It gets
another name in a full-integer file; messages to the user have the user's name.
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
    """Layer name to name in a file: the same if it is unambiguous, else a new unique one.

    Args:
        names: all layer names of a network.
    """
    names = tuple(names)
    used = {name for name in names if _PLAIN.fullmatch(name)}
    renamed = {}
    for name in names:
        if name not in used:
            base = "layer_" + re.sub(r"[^A-Za-z0-9.-]", "_", name)
            number, candidate = 1, base
            while candidate in used:
                number, candidate = number + 1, f"{base}_{number + 1}"
            used.add(candidate)
            renamed[name] = candidate
        else:
            renamed[name] = name
    return renamed


def in_a_file(network: Checkpoint) -> Checkpoint:
    """The network with its layers' names in a full-integer file; the network itself if none changes.

    Args:
        network: a float network; the weights are unchanged.
    """
    import tf_keras as keras

    config = json.loads(network.architecture)["config"]
    layers = [layer["config"]["name"] for layer in config["layers"]]
    # The network's name is on the path too; it may equal a layer's.
    title, renamed = plain([config["name"]])[config["name"]], plain(layers)
    if title == config["name"] and all(old == new for old, new in renamed.items()):
        return network

    def renamed_layer(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "name": renamed[layer.name]})

    model = keras.models.clone_model(checkpoints.architecture(network), clone_function=renamed_layer)
    description = json.loads(model.to_json())
    description["config"]["name"] = title

    def rekeyed(values: Mapping[str, T]) -> dict[str, T]:
        return {renamed[name]: value for name, value in values.items()}

    return replace(
        network,
        architecture=json.dumps(description),
        masks=rekeyed(network.masks),
        clusters=rekeyed(network.clusters),
        filters=rekeyed(network.filters),
        bits=rekeyed(network.bits),
    )


def with_user_names(text: str, network: Checkpoint) -> str:
    """Replaces the layer names of a file in a message by the user's.

    Args:
        text: a message about a full-integer file of the network.
        network: the network with the user's layer names.
    """
    layers = [layer["config"]["name"] for layer in json.loads(network.architecture)["config"]["layers"]]
    originals = {new: old for old, new in plain(layers).items() if old != new}
    if not originals:
        return text
    longest_first = "|".join(re.escape(name) for name in sorted(originals, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z0-9_.-])(quant_)?({longest_first})(?![A-Za-z0-9_-])", lambda match: originals[match[2]], text)
