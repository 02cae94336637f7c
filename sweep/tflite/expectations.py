"""Checks that a file shows what its configuration asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sweep.core.types import Array, Storage
from sweep.tflite import schema
from sweep.tflite.audit import TARGETS, AuditError, File, audit_errors
from sweep.tflite.weight_storage import container

if TYPE_CHECKING:
    from sweep.tflite.audit import Audit, Kernel


_DYNAMIC_MINIMUM = 1024


def expect(
    audit: Audit,
    *,
    storage: Storage,
    bits: Mapping[str, int] | None = None,
    zeros: int = 0,
    layers: str = "all",
    filters: int | None = None,
    activations: int = 8,
) -> None:
    """Checks the counts of a file.

    Args:
        audit: what was read from the file.
        storage: FLOAT32 and FLOAT16 ask for kernels of that type. DYNAMIC asks for INT8 kernels from 1,024 elements up
            (smaller ones may stay FLOAT32). INTEGER asks for integer kernels, integer input and output, and no float
            tensor anywhere; the others for float32 input and output.
        bits: Keras layer to the bits of its kernel's grid, for INTEGER only: 2 to 4 ask for an INT4 kernel, 5 to 8 for INT8,
            depthwise included, with at most 2**bits levels. None accepts either type.
        zeros: at least so many weights of the targeted kernels are exactly zero.
        layers: which kernels those are: `conv`, `dense` or `all`.
        filters: so many filters in all full convolutions and dense layers, where given.
        activations: the bits of INTEGER's input and output.

    Raises:
        AuditError: naming the first tensor that differs, what was expected, and what was found.
        ConfigError: for other `layers`.
    """
    ends = f"INT{activations}" if storage is Storage.INTEGER else "FLOAT32"
    _require("the input tensor", (ends,), audit.input_type)
    _require("the output tensor", (ends,), audit.output_type)
    if not audit.kernels:
        raise AuditError("the operators: expected at least one with a stored kernel, found none")
    for kernel in audit.kernels:
        layer, likely = schema.layer_of(kernel.name), _layer(kernel, bits or {})
        where = f"the {kernel.operator} kernel {kernel.name!r}{f' of the layer {likely!r}' if likely else ''}"
        width = (bits or {}).get(layer or "")
        _require(where, _kernel_types(storage, width, kernel.size), kernel.type)
        if bits and width is None:
            raise AuditError(f"{where}: expected a layer out of {', '.join(bits)}, found {layer or 'none of them'}")
        if storage is Storage.INTEGER and width is not None and kernel.levels > 2**width:
            raise AuditError(f"{where}: expected at most {2**width} levels ({width} bits), found {kernel.levels}")
    if storage is Storage.INTEGER and audit.float_tensors:
        raise AuditError(f"the tensor {audit.float_tensors[0]!r}: expected an integer, found a float")
    if (found := audit.zeros(layers)) < zeros:
        raise AuditError(f"the {' and '.join(TARGETS[layers])} kernels: expected at least {zeros} zeros, found {found}")
    if filters is not None and audit.filters != filters:
        raise AuditError(f"the {' and '.join(TARGETS['all'])} kernels: expected {filters} filters, found {audit.filters}")


def expect_weights(content: bytes, masks: Mapping[str, Array], clusters: Mapping[str, Array]) -> None:
    """Checks that a full-integer file keeps the masks and the clusters.

    Args:
        content: the file's bytes, with its tensors' names.
        masks: Keras layer to bool mask of its kernel's shape, False for zero.
        clusters: Keras layer to the number, from 0, of each weight's cluster, int of the kernel's shape. A negative gain of
            batch normalisation negates a channel, so magnitudes are counted.

    Raises:
        AuditError: naming the first layer that is not in the file, or not as it should be.
    """
    with audit_errors():
        found = File(content).stored_by_layer()
    # The converter merges equal kernels under one name, so all-zero kernels cannot be found by theirs.
    emptied = {name for name, mask in masks.items() if name not in found and not mask.any()}
    asked = [name for name in {**masks, **clusters} if name not in emptied]
    for name in asked:
        if name not in found:
            raise AuditError(f"the layer {name!r}: expected a kernel in the file, found none")
        given = clusters.get(name, masks.get(name))
        shape = None if given is None else (given.shape[-1], *given.shape[:-1])  # the file has the output channels first
        if found[name].shape != shape or found[name].dtype.kind != "i":
            kind = f"{found[name].dtype.name} of {found[name].shape}"
            raise AuditError(f"the layer {name!r}: expected a kernel of integers of {shape}, found {kind}")
    for name in [name for name in asked if name in masks]:
        if wrong := np.count_nonzero(found[name][~np.moveaxis(masks[name], -1, 0)]):
            raise AuditError(f"the layer {name!r}: expected zeros where weights were pruned, found {wrong} others")
    for name in [name for name in asked if name in clusters]:
        most, magnitudes = int(clusters[name].max()) + 1, len(np.unique(np.abs(found[name].astype(int))))
        if magnitudes > most:
            raise AuditError(f"the layer {name!r}: expected at most {most} values (clusters), found {magnitudes}")


def _layer(kernel: Kernel, layers: Collection[str]) -> str | None:
    """The layer that a kernel is likely to be of, by its own name or the names beside it; another where none fits."""
    own = schema.layer_of(kernel.name)
    if own in layers:
        return own
    parts = (part.removeprefix("quant_") for name in kernel.beside for path in name.split(";") for part in path.split("/"))
    return next((part for part in parts if part in layers), own)


def _kernel_types(storage: Storage, bits: int | None, size: int) -> tuple[str, ...]:
    if storage is Storage.FLOAT32 or storage is Storage.FLOAT16:
        return (storage.name,)
    if storage is Storage.DYNAMIC:
        return ("INT8",) if size >= _DYNAMIC_MINIMUM else ("INT8", "FLOAT32")
    if bits is None:
        return ("INT4", "INT8")
    return (container(bits),)


def _require(where: str, expected: tuple[str, ...], found: str) -> None:
    if found not in expected:
        raise AuditError(f"{where}: expected {' or '.join(expected)}, found {found}")
