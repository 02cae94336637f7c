"""Removes the names from a `.tflite` file; an interpreter does not need them."""

from __future__ import annotations

from typing import Any


def strip(model: Any) -> None:
    """Removes the names of tensors and graphs, and the signature.

    Several signatures are kept, since they are the entry points of the graphs after the first.

    Args:
        model: a `ModelT`, changed in place.
    """
    for graph in model.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
    if len(model.signatureDefs or []) <= 1:
        model.signatureDefs = None
