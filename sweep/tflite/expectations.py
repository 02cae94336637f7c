"""Checks that a file agrees with its configuration: types, bits, zeros, filters, masks and clusters."""

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


_DYNAMIC_MINIMUM = 1024  # elements


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
        audit: the audit of the file.
        storage: the format. FLOAT32 and FLOAT16 require kernels of that type. DYNAMIC requires INT8 kernels of 1,024 elements
            and more (smaller ones may stay FLOAT32). INTEGER requires integer kernels, integer input and output, and no float
            tensor; the other formats float32 input and output.
        bits: Keras layer to the bit-width of its kernel, for INTEGER only: 2 to 4 require an INT4 kernel, 5 to 8 INT8, also
            for depthwise kernels, with at most 2**bits levels. None accepts both types.
        zeros: the minimum number of zero weights in the targeted kernels.
        layers: the targeted kernels: `conv`, `dense` or `all`.
        filters: the number of filters of all full convolutions and dense layers; None accepts any.
        activations: the bit-width of the input and output of INTEGER.

    Raises:
        AuditError: naming the first tensor that differs, with the expected and the actual value.
        ConfigError: for other `layers`.
    """
    boundary = f"INT{activations}" if storage is Storage.INTEGER else "FLOAT32"
    _require("the input tensor", (boundary,), audit.input_type)
    _require("the output tensor", (boundary,), audit.output_type)
    if not audit.kernels:
        raise AuditError("the operators: expected at least one with a stored kernel, found none")
    for kernel in audit.kernels:
        layer, probable_layer = schema.layer_of(kernel.name), _layer(kernel, bits or {})
        where = f"the {kernel.operator} kernel {kernel.name!r}{f' of the layer {probable_layer!r}' if probable_layer else ''}"
        width = (bits or {}).get(layer or "")
        _require(where, _kernel_types(storage, width, kernel.size), kernel.type)
        if bits and width is None:
            raise AuditError(f"{where}: expected a layer out of {', '.join(bits)}, found {layer or 'none of them'}")
        if storage is Storage.INTEGER and width is not None and kernel.levels > 2**width:
            raise AuditError(f"{where}: expected at most {2**width} levels ({width} bits), found {kernel.levels}")
    if storage is Storage.INTEGER and audit.float_tensors:
        raise AuditError(f"the tensor {audit.float_tensors[0]!r}: expected an integer, found a float")
    if (present := audit.zeros(layers)) < zeros:
        raise AuditError(f"the {' and '.join(TARGETS[layers])} kernels: expected at least {zeros} zeros, found {present}")
    if filters is not None and audit.filters != filters:
        raise AuditError(f"the {' and '.join(TARGETS['all'])} kernels: expected {filters} filters, found {audit.filters}")


def expect_weights(content: bytes, masks: Mapping[str, Array], clusters: Mapping[str, Array]) -> None:
    """Checks that the kernels of a full-integer file respect the masks and the clusters.

    Args:
        content: the bytes of the file, with the names of its tensors.
        masks: Keras layer to the bool mask of its kernel, False for zero.
        clusters: Keras layer to the cluster index of each weight, int of the kernel's shape. A negative gain of batch
            normalisation negates a channel, so distinct magnitudes are counted.

    Raises:
        AuditError: naming the first layer that is missing, or violates its mask or clusters.
    """
    with audit_errors():
        kernels = File(content).stored_by_layer()
    # The converter merges equal kernels under one name, so an all-zero kernel may be absent under its own.
    all_zero = {name for name, mask in masks.items() if name not in kernels and not mask.any()}
    layers = [name for name in {**masks, **clusters} if name not in all_zero]
    for name in layers:
        if name not in kernels:
            raise AuditError(f"the layer {name!r}: expected a kernel in the file, found none")
        keras_shape = (clusters[name] if name in clusters else masks[name]).shape
        shape = (keras_shape[-1], *keras_shape[:-1])  # the file has the output channels first
        if kernels[name].shape != shape or kernels[name].dtype.kind != "i":
            kind = f"{kernels[name].dtype.name} of {kernels[name].shape}"
            raise AuditError(f"the layer {name!r}: expected a kernel of integers of {shape}, found {kind}")
    for name in [name for name in layers if name in masks]:
        if nonzero := np.count_nonzero(kernels[name][~np.moveaxis(masks[name], -1, 0)]):
            raise AuditError(f"the layer {name!r}: expected zeros where weights were pruned, found {nonzero} others")
    for name in [name for name in layers if name in clusters]:
        count, magnitudes = int(clusters[name].max()) + 1, len(np.unique(np.abs(kernels[name].astype(int))))
        if magnitudes > count:
            raise AuditError(f"the layer {name!r}: expected at most {count} values (clusters), found {magnitudes}")


def _layer(kernel: Kernel, layers: Collection[str]) -> str | None:
    """The likely layer of a kernel, by its own name or the names of its operator's other tensors."""
    own = schema.layer_of(kernel.name)
    if own in layers:
        return own
    paths = (path for name in kernel.related_names for path in name.split(";"))
    parts = (part.removeprefix("quant_") for path in paths for part in path.split("/"))
    return next((part for part in parts if part in layers), own)


def _kernel_types(storage: Storage, bits: int | None, size: int) -> tuple[str, ...]:
    """The types that a kernel of `size` weights may have."""
    if storage is Storage.FLOAT32 or storage is Storage.FLOAT16:
        return (storage.name,)
    if storage is Storage.DYNAMIC:
        return ("INT8",) if size >= _DYNAMIC_MINIMUM else ("INT8", "FLOAT32")
    if bits is None:
        return ("INT4", "INT8")
    return (container(bits),)


def _require(where: str, expected: tuple[str, ...], actual: str) -> None:
    if actual not in expected:
        raise AuditError(f"{where}: expected {' or '.join(expected)}, found {actual}")
