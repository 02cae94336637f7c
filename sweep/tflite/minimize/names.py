"""Leaves out the names in a `.tflite` file, which an interpreter does not need."""

from __future__ import annotations

from typing import Any


def strip(model: Any) -> None:
    """Leaves out the names of tensors and graphs and the signature.

    Of several signatures all stay: they are the only way to the graphs behind the first.

    Args:
        model: a `ModelT`, changed in place.
    """
    for graph in model.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
    if len(model.signatureDefs or []) <= 1:
        model.signatureDefs = None
