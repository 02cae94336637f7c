"""Writes kernels of 2 to 8 bits into a `.tflite` file; the converter supports INT4 and INT8 only.

A grid of 3, 5, 6 or 7 bits is stored in the next larger of the two types. For a fake-quantised network the converter stretches
the grid over the whole range of the type and rounds: 3 bits in INT4, -3…3, become 0, ±2, ±5, ±7. These are not evenly spaced,
so the file does not compute what was trained. `rescale_grids` restores the even spacing. For post-training quantisation the
converter's quantiser supports INT8 only: `round_kernels` rounds the kernels of the float file to any grid before the quantiser,
and `write_kernels` replaces its integers and scales afterwards.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.core.types import Array
from sweep.tflite.schema import layer_of, parsed, store, to_bytes
from sweep.tflite.weight_storage import BIAS, KERNEL, REWRITTEN, TYPES, container, largest, pack, unpack

_LARGEST_INT8 = largest(8)
# XNNPACK accumulates an INT4 kernel's products in 32 bits on top of sixteen times its bias (ai-edge-litert 2.3.0).
_LARGEST_BIAS = 2.0**26


@dataclass(frozen=True, eq=False)
class QuantizedKernel:
    """A kernel and its symmetric quantisation, with a zero point of 0.

    Attributes:
        kernel: the float weights, float32 (weights of a channel, channels), in Keras's order.
        bits: the bits of the grid, 2 to 8; up to 4 are stored as INT4.
        integers: the quantised weights, int8 of the kernel's shape, of magnitudes up to 2^(bits - 1) - 1.
        scales: float32 (channels,), or (1,) for per-tensor quantisation.
    """

    kernel: Array
    bits: int
    integers: Array
    scales: Array

    @property
    def values(self) -> Array:
        """The dequantised weights, float32 of the kernel's shape: integers times scales."""
        values: Array = self.integers * self.scales
        return values


@dataclass(frozen=True, eq=False)
class Calibration:
    """The inputs of the post-training quantisation of a float32 file.

    Attributes:
        images: the calibration images of the activation ranges, uint8 (n, height, width, channels).
        kernels: layer name to its quantised kernel.
        activation_bits: 8 or 16.
    """

    images: Array
    kernels: Mapping[str, QuantizedKernel]
    activation_bits: int = 8


def rescale_grids(content: bytes, bits: Mapping[str, int]) -> bytes:
    """Requantises every kernel to the grid that it was trained on.

    Let C be the largest integer of the stored type, B that of the grid, and k = C // B. A stored integer v becomes
    round(v B / C) k, and the scale is multiplied by C / (B k). The bias, whose scale is the product of the input's and the
    kernel's, is divided by the same factor and rounded.

    Args:
        content: the bytes of a full-integer `.tflite`.
        bits: layer name to the bits of its kernel's grid, 2 to 8.

    Returns:
        The bytes of the new file; `content` itself where B divides C for every layer (2, 4 and 8 bits).
    """
    if all(largest(TYPES[container(width)].bits) % largest(width) == 0 for width in bits.values()):
        return content
    model, codes, types = parsed(content)
    for operator, kernel, layer in _kernels(model, codes):
        width, kind = bits.get(layer), types[kernel.type]
        if width is None or kind not in ("INT4", "INT8"):
            continue
        stored_bits = TYPES[kind].bits
        stored_max, grid_max = largest(stored_bits), largest(width)
        step = stored_max // grid_max
        values = _unpacked(model, kernel, stored_bits)
        store(model, kernel, pack(np.round(values * (grid_max / stored_max)) * step, stored_bits))
        _rescale(model, types, operator, stored_max / (grid_max * step))
    return to_bytes(model)


def round_kernels(content: bytes, kernels: Mapping[str, QuantizedKernel]) -> bytes:
    """Replaces the kernels of a float32 file by their dequantised values.

    The converter folds batch normalisation into a kernel, so each channel of the file's kernel is that of the network times a
    gain. The gains are preserved.

    Args:
        content: the bytes of a float32 `.tflite`.
        kernels: layer name to its quantised kernel.

    Returns:
        The bytes of the new file.

    Raises:
        ValueError: naming a layer whose kernel is not in the file, or has a channel that is not a multiple of the network's.
            The latter follows from batch normalisation before a dense layer, which scales the layer's inputs.
    """
    model, codes, _ = parsed(content)
    for _, tensor, layer, axis in _matching(model, codes, kernels):
        rounded = kernels[layer]
        channels = rounded.kernel.shape[1]
        old = np.moveaxis(np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(tensor.shape), axis, 0)
        folded, original = old.reshape(channels, -1), rounded.kernel.T
        largest_weight = np.arange(channels), np.abs(original).argmax(axis=1)
        divisors = np.where(original[largest_weight] == 0, 1, original[largest_weight])
        gains = (folded[largest_weight] / divisors)[:, None]
        if (np.abs(folded - gains * original) > 1e-5 * np.abs(folded).max(axis=1, keepdims=True)).any():
            raise ValueError(f"expected the kernel of {layer} scaled for each channel at most, found it scaled otherwise")
        new = (gains * rounded.values.T).astype(np.float32).reshape(old.shape)
        store(model, tensor, np.ascontiguousarray(np.moveaxis(new, 0, axis)).ravel().view(np.uint8))
    return to_bytes(model)


def write_kernels(content: bytes, kernels: Mapping[str, QuantizedKernel]) -> bytes:
    """Replaces the INT8 kernels that the converter's quantiser wrote by kernels on grids of their own bits.

    The quantiser's scale of a channel is its largest magnitude over 127, and the channel's largest integer M stands for the
    same magnitude. Let C be the largest integer of the stored type, B that of the grid, and k = C // B. The integers are stored
    times k, and the scale is multiplied by 127 / (M k). (The factor k also makes the scale of the bias finer.)
    A dense layer whose units all get the same scale is stored per tensor. The signs of the quantiser's integers show the
    channels that batch normalisation negated, and its zeros those that it removed.

    Args:
        content: the bytes of a full-integer `.tflite` with INT8 kernels, quantised from the result of `round_kernels`.
        kernels: layer name to its quantised kernel.

    Returns:
        The bytes of the new file.

    Raises:
        ValueError: naming a layer whose kernel is not in the file, or has other values.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    model, codes, types = parsed(content)
    for operator, tensor, layer, axis in _matching(model, codes, kernels):
        old = np.moveaxis(np.frombuffer(model.buffers[tensor.buffer].data, np.int8).reshape(tensor.shape), axis, 0)
        other_axes = tuple(range(1, old.ndim))
        rounded = kernels[layer]
        kind = container(rounded.bits)
        stored_bits = TYPES[kind].bits
        values = rounded.integers.T.astype(np.int32).reshape(old.shape) * (largest(stored_bits) // largest(rounded.bits))
        values *= np.sign((values * old).sum(axis=other_axes, keepdims=True))
        max_integers = np.abs(values).max(axis=other_axes, keepdims=True)
        if (np.abs(old - _LARGEST_INT8 * values / np.maximum(max_integers, 1)) > 0.51).any():
            raise ValueError(f"expected the kernel of {layer} as it was rounded, found other values")
        store(model, tensor, pack(np.moveaxis(values, 0, axis).ravel(), stored_bits))
        tensor.type = getattr(TensorType, kind)
        max_integers = max_integers.ravel()
        factors = np.where(max_integers > 0, _LARGEST_INT8 / np.maximum(max_integers, 1), np.nan)
        _rescale(model, types, operator, factors)
    return to_bytes(model)


def _matching(model: Any, codes: list[str], kernels: Mapping[str, QuantizedKernel]) -> Iterator[tuple[Any, Any, str, int]]:
    """(operator, kernel tensor, Keras layer, axis of the output channels) of each kernel of `kernels`.

    Raises:
        ValueError: after the last kernel, where the file lacks some of `kernels`.
    """
    missing = {name for name, kernel in kernels.items() if kernel.integers.any()}  # the converter merges all-zero kernels
    for operator, tensor, layer in _kernels(model, codes):
        if layer in kernels:
            missing.discard(layer)
            yield operator, tensor, layer, 3 if codes[operator.opcodeIndex] == "DEPTHWISE_CONV_2D" else 0
    if missing:
        raise ValueError(f"expected a kernel of {', '.join(sorted(missing))} in the file, found none")


def _kernels(model: Any, codes: list[str]) -> Iterator[tuple[Any, Any, str]]:
    """(operator, kernel tensor, Keras layer) of each kernel whose name contains the layer's; each tensor once."""
    graph, visited = model.subgraphs[0], set()
    for operator in graph.operators:
        if codes[operator.opcodeIndex] in REWRITTEN and (index := operator.inputs[KERNEL]) not in visited:
            visited.add(index)
            kernel = graph.tensors[index]
            if (layer := layer_of((kernel.name or b"").decode())) is not None:
                yield operator, kernel, layer


def has_saturated_bias(content: bytes) -> bool:
    """Whether the converter saturated a bias of a full-integer `.tflite`: to the smallest or the largest INT32."""
    model, codes, types = parsed(content)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if codes[operator.opcodeIndex] in REWRITTEN and len(operator.inputs) > BIAS and operator.inputs[BIAS] >= 0:
            bias = graph.tensors[operator.inputs[BIAS]]
            if types[bias.type] == "INT32":
                stored = np.frombuffer(model.buffers[bias.buffer].data, np.int32)
                if np.isin(stored, (np.iinfo(np.int32).min, np.iinfo(np.int32).max)).any():
                    return True
    return False


def limit_biases(content: bytes) -> bytes:
    """Limits the biases of INT4 kernels to magnitudes up to 2^26, so that XNNPACK's 32-bit accumulators do not overflow.

    The scale of a bias is the input's times the kernel's, so its integer is large where all weights of a channel are close to
    zero. The scale of such a channel is multiplied by a power of two. The weights that then round to zero are negligible
    relative to such a bias.

    Args:
        content: the bytes of a full-integer `.tflite`.

    Returns:
        The bytes of the new file; `content` itself where all biases are within the limit.
    """
    model, codes, types = parsed(content)
    graph, changed = model.subgraphs[0], False
    for operator in graph.operators:
        if codes[operator.opcodeIndex] not in REWRITTEN or len(operator.inputs) <= BIAS or operator.inputs[BIAS] < 0:
            continue
        kernel, bias = graph.tensors[operator.inputs[KERNEL]], graph.tensors[operator.inputs[BIAS]]
        if (types[kernel.type], types[bias.type]) != ("INT4", "INT32"):
            continue
        magnitudes = np.abs(np.frombuffer(model.buffers[bias.buffer].data, np.int32).astype(float))
        if len(kernel.quantization.scale) == 1:
            magnitudes = magnitudes.max(keepdims=True)
        factors = np.exp2(np.ceil(np.log2(np.maximum(magnitudes / _LARGEST_BIAS, 1))))
        if factors.max() > 1:
            kernel, _ = _unshared(graph, operator, KERNEL), _unshared(graph, operator, BIAS)
            values = _unpacked(model, kernel, 4)[: math.prod(kernel.shape)].reshape(kernel.shape)
            broadcast_shape = np.ones(values.ndim, int)
            broadcast_shape[kernel.quantization.quantizedDimension] = len(factors)
            store(model, kernel, pack(np.rint(values / factors.reshape(broadcast_shape)).ravel(), 4))
            _rescale(model, types, operator, factors)
            changed = True
    return to_bytes(model) if changed else content


def _unpacked(model: Any, tensor: Any, bits: int) -> Array:
    """The integers of a tensor, int8 (n,), including the padding of the last byte."""
    return unpack(np.frombuffer(model.buffers[tensor.buffer].data, np.uint8), bits)


def _unshared(graph: Any, operator: Any, position: int) -> Any:
    """An input tensor of an operator; a new copy if another operator reads it too: the converter merges equal constants."""
    tensor = graph.tensors[index := operator.inputs[position]]
    if sum(int(np.count_nonzero(np.asarray(reader.inputs) == index)) for reader in graph.operators) > 1:
        tensor = copy.deepcopy(tensor)
        graph.tensors.append(tensor)
        operator.inputs[position] = len(graph.tensors) - 1
    return tensor


def _rescale(model: Any, types: dict[int, str], operator: Any, factor: Any) -> None:
    """Multiplies the scales of an operator's kernel by a factor and rescales its bias.

    The factor is a number for all channels, or float (channels,), with NaN for an all-zero channel, which any scale suits.
    """
    graph = model.subgraphs[0]
    kernel = graph.tensors[operator.inputs[KERNEL]].quantization
    old = np.asarray(kernel.scale, np.float64)
    old = np.where(old > 0, old, 1.0)  # the older quantiser assigns a scale of 0 to a channel whose weights and bias are zero
    new = old * factor
    common = np.nanmax(new, initial=0.0)
    dense = len(graph.tensors[operator.inputs[KERNEL]].shape) == 2
    shared = dense and common > 0 and np.nanmin(new, initial=np.inf) > common * (1 - 1e-5)
    new = np.full_like(new, common) if shared else np.where(np.isnan(new), old, new)

    def scales(values: Array) -> Array:
        return (values[:1] if shared else values).astype(np.float32)

    kernel.scale = scales(new)
    kernel.zeroPoint = kernel.zeroPoint[: len(kernel.scale)]
    if len(operator.inputs) > BIAS and operator.inputs[BIAS] >= 0:
        bias = graph.tensors[operator.inputs[BIAS]]
        stored = np.frombuffer(model.buffers[bias.buffer].data, TYPES[types[bias.type]].dtype)
        store(model, bias, np.round(stored * old / new).astype(stored.dtype).view(np.uint8))
        bias.quantization.scale = scales(graph.tensors[operator.inputs[0]].quantization.scale[0] * new)
        bias.quantization.zeroPoint = bias.quantization.zeroPoint[: len(bias.quantization.scale)]
