"""Counts the kernels, zeros, levels, bits and operations of a `.tflite` file from its tensors and operators.

Only the main subgraph is read, and nothing is run.

The behaviour of the converter (TensorFlow 2.21) that the counts rely on:

- A Keras Conv2D is always a CONV_2D: with one input channel, 1x1, on a 1x1 image, as large as its image, dilated, grouped. A
  Dense is always a FULLY_CONNECTED, on four-dimensional inputs and with one unit too; a DepthwiseConv2D a DEPTHWISE_CONV_2D,
  with one channel too. So the operator is the kind of layer. (Conv1D and the pointwise half of SeparableConv2D are CONV_2D.)
- A layer used twice shares its kernel tensor, so a kernel counts once, with one bias. (Fake-quantised, each use stores a copy
  of its own, in INT8 even at 4 bits; quantised by the converter, its name does not tell the layer.)
- Equal constants are merged. A bias still counts with each kernel, or float and int8 files would disagree about biases of
  zeros; an all-zero kernel counts at each use, since layers whose weights are all pruned share one.
- A convolution without bias gets a bias of zeros.
- A BatchNorm that could not be folded becomes MUL and ADD; their constants, like the slopes of a PReLU, are not `parameters`.
- Dynamic range quantises kernels of at least 1,024 elements, those of depthwise and transposed convolutions too.
- A layer whose weights carry no fake quantisation is stored as INT8 with up to 255 levels, whatever the bits of its neighbours:
  this is how TFMOT's n-bit scheme leaves a Conv, Depthwise or Dense with a ReLU *layer* right after it (a fused
  `activation="relu"`, or a BatchNorm in between, is fine). `expect` refuses such a file below 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.core.errors import require_choice
from sweep.core.types import Array
from sweep.tflite import flatbuffer, schema
from sweep.tflite.minimize import sparse
from sweep.tflite.weight_storage import OPERANDS, TYPES, packed_bytes, unpack

TARGETS: Mapping[str, tuple[str, ...]] = {
    "conv": ("CONV_2D",),
    "dense": ("FULLY_CONNECTED",),
    "all": ("CONV_2D", "FULLY_CONNECTED"),
}
"""The kinds of layers that pruning targets, as operators."""
_FLOATS = frozenset({"FLOAT64", "FLOAT32", "FLOAT16", "BFLOAT16"})


class AuditError(RuntimeError):
    """The file cannot be read, or is not as expected."""


@dataclass(frozen=True)
class Kernel:
    """One weight tensor of a compute operator, as stored.

    Attributes:
        operator: the builtin operator that it belongs to (`CONV_2D`).
        name: the tensor's name, or `tensor N` where names were stripped.
        type: the stored type (`INT4`), before any DEQUANTIZE.
        shape: (c_out, h, w, c_in); depthwise (1, h, w, c_out); fully connected (units, c_in).
        size: the number of weights.
        zeros: the number of weights that equal the zero point (of their channel), so that their real value is zero.
        levels: the number of distinct stored values.
        bits: stored bits per weight: 32, 16, 8, 4 or 2; for a sparse tensor with the bits of its indices.
        beside: the names of the operator's outputs and other inputs, which may have the name of the layer where the tensor's
            own name does not.
    """

    operator: str
    name: str
    type: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    levels: int
    bits: float
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The counts of a file.

    Attributes:
        kernels: weight tensors of its compute operators (convolutions, depthwise, transposed and fully connected), in order.
        parameters: the elements of those kernels and of their biases.
        nonzero_parameters: those of them whose real value is not zero.
        macs: multiply-accumulates of those operators for one image.
        input_type: type of the input tensor (`INT8`).
        output_type: type of the output tensor.
        operators: builtin names, in the order of execution.
        float_tensors: names of the float tensors that any operator reads or writes; empty for a full-integer file.
    """

    kernels: tuple[Kernel, ...]
    parameters: int
    nonzero_parameters: int
    macs: int
    input_type: str
    output_type: str
    operators: tuple[str, ...]
    float_tensors: tuple[str, ...]

    @property
    def weight_bits(self) -> float:
        """Mean stored bits per weight over all kernels; 0 without any."""
        size = sum(kernel.size for kernel in self.kernels)
        return sum(kernel.size * kernel.bits for kernel in self.kernels) / size if size else 0.0

    @property
    def distinct_weight_levels(self) -> int:
        """The largest number of distinct stored values in one kernel; 0 without any."""
        return max((kernel.levels for kernel in self.kernels), default=0)

    @property
    def filters(self) -> int:
        """The number of filters (output channels) of all full convolutions and dense layers."""
        return sum(kernel.shape[0] for kernel in self._targets("all"))

    def weights(self, layers: str) -> int:
        """The number of weights of the targeted kernels.

        Args:
            layers: see `zeros`.

        Raises:
            ConfigError: for other `layers`.
        """
        return sum(kernel.size for kernel in self._targets(layers))

    def zeros(self, layers: str) -> int:
        """The number of weights of the targeted kernels that are exactly zero.

        Args:
            layers: `conv`, `dense` or `all` (both). Depthwise and transposed kernels are never targets.

        Raises:
            ConfigError: for other `layers`.
        """
        return sum(kernel.zeros for kernel in self._targets(layers))

    def sparsity(self, layers: str) -> float:
        """The fraction of the targeted kernels' weights that are exactly zero, in [0, 1]; 0 without such kernels.

        Args:
            layers: see `zeros`.

        Raises:
            ConfigError: for other `layers`.
        """
        size = self.weights(layers)
        return self.zeros(layers) / size if size else 0.0

    def _targets(self, layers: str) -> list[Kernel]:
        require_choice("layers", layers, tuple(TARGETS))
        return [kernel for kernel in self.kernels if kernel.operator in TARGETS[layers]]


def read(content: bytes) -> Audit:
    """Audits a file.

    Args:
        content: the bytes of a `.tflite`.

    Raises:
        AuditError: for bytes that are no such file, truncated or inconsistent, and for an unknown storage of weights (a sparse
            tensor that is not compressed by rows).
    """
    with audit_errors():
        return File(content).audit()


def same(first: Audit, second: Audit) -> bool:
    """Whether two files have the same kernels, regardless of names and storage."""

    def facts(audit: Audit) -> list[tuple[object, ...]]:
        return [(kernel.operator, kernel.shape, kernel.zeros, kernel.levels) for kernel in audit.kernels]

    return facts(first) == facts(second) and (first.parameters, first.macs) == (second.parameters, second.macs)


@contextmanager
def audit_errors() -> Iterator[None]:
    """Turns a DamagedError into an AuditError."""
    try:
        with flatbuffer.damage_errors():
            yield
    except flatbuffer.DamagedError as error:
        cause = error.__cause__
        raise (cause if isinstance(cause, AuditError) else AuditError(str(error))) from error


class File:
    """A parsed file, with its tensors and operators by index."""

    def __init__(self, content: bytes) -> None:
        model, codes, types = schema.parsed(content)
        graph = model.subgraphs[0]
        self.buffers = model.buffers
        self.tensors = graph.tensors
        self.types = [types[tensor.type] for tensor in self.tensors]
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.operators = [(codes[operator.opcodeIndex], operator.inputs, operator.outputs) for operator in graph.operators]
        self.source = {outputs[0]: inputs[0] for operator, inputs, outputs in self.operators if operator in schema.RESTORING}

    def audit(self) -> Audit:
        """Counts everything."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise AuditError(f"expected one input and one output, found {len(self.inputs)} and {len(self.outputs)}")
        kernels: dict[tuple[int, int], Kernel] = {}
        parameters = nonzero = macs = 0
        for position, (operator, inputs, outputs) in enumerate(self.operators):
            if operator not in OPERANDS:
                continue
            at_kernel, at_bias = OPERANDS[operator]
            macs += self._macs(operator, inputs, outputs)
            index = self._stored(inputs[at_kernel])
            if index is None:  # a product of two activations
                continue
            kernel = self._kernel(operator, index, [*outputs, *inputs])
            key = index, position if kernel.zeros == kernel.size else -1
            if key in kernels:
                continue
            kernels[key] = kernel
            parameters += kernel.size
            nonzero += kernel.size - kernel.zeros
            bias = self._stored(inputs[at_bias]) if len(inputs) > at_bias else None
            if bias is not None:
                values = self._values(bias)
                parameters += values.size
                nonzero += values.size - self._zeros(bias, values)
        touched = {index for _, inputs, outputs in self.operators for index in (*inputs, *outputs) if index >= 0}
        return Audit(
            kernels=tuple(kernels.values()),
            parameters=parameters,
            nonzero_parameters=nonzero,
            macs=macs // self._shape(self.inputs[0])[0],
            input_type=self.types[self.inputs[0]],
            output_type=self.types[self.outputs[0]],
            operators=tuple(operator for operator, _, _ in self.operators),
            float_tensors=tuple(self._name(index) for index in sorted(touched) if self.types[index] in _FLOATS),
        )

    def stored_by_layer(self) -> dict[str, Array]:
        """Keras layer to the stored values of its kernel."""
        kernels = {}
        for operator, inputs, _ in self.operators:
            index = self._stored(inputs[OPERANDS[operator].kernel]) if operator in OPERANDS else None
            if index is not None and (layer := schema.layer_of(self._name(index))) is not None:
                kernels[layer] = self._values(index)
        return kernels

    def _kernel(self, operator: str, index: int, beside: list[int]) -> Kernel:
        values = self._values(index)
        return Kernel(
            operator=operator,
            name=self._name(index),
            type=self.types[index],
            shape=self._shape(index),
            size=values.size,
            zeros=self._zeros(index, values),
            levels=len(np.unique(values)),
            bits=self._bits(index, values.size),
            beside=tuple(self._name(other) for other in beside if other >= 0 and other != index),
        )

    def _bits(self, index: int, size: int) -> float:
        tensor = self.tensors[index]
        if tensor.sparsity is None:
            return TYPES[self.types[index]].bits
        return 8 * (len(self.buffers[tensor.buffer].data) + sparse.index_bytes(tensor.sparsity)) / size

    def _macs(self, operator: str, inputs: list[int], outputs: list[int]) -> int:
        kernel, produced = self._shape(inputs[1]), math.prod(self._shape(outputs[0]))
        if operator == "TRANSPOSE_CONV":  # every input element meets each weight of its channel
            return math.prod(self._shape(inputs[2])) * math.prod(kernel[:3])
        if operator == "DEPTHWISE_CONV_2D":
            return produced * math.prod(kernel[:3])
        return produced * math.prod(kernel[1:])

    def _stored(self, index: int) -> int | None:
        """The index of the constant that a tensor is or is restored from, as by DEQUANTIZE; None for an activation."""
        for _ in range(1 + len(self.operators)):
            if index < 0:
                return None
            data = self.buffers[self.tensors[index].buffer].data
            if data is not None and len(data):
                return index
            if index not in self.source:
                return None
            index = self.source[index]
        raise AuditError(f"the tensor {self._name(index)!r}: expected a source, found a cycle")

    def _values(self, index: int) -> Array:
        """The stored values of a constant, unpacked, in its shape."""
        tensor, kind, shape = self.tensors[index], self.types[index], self._shape(index)
        where = f"the tensor {self._name(index)!r}"
        if kind not in TYPES:
            raise AuditError(f"{where}: expected one of {', '.join(TYPES)}, found {kind}")
        bits, dtype = TYPES[kind]
        size = math.prod(shape)
        data = np.frombuffer(self.buffers[tensor.buffer].data, np.uint8)
        if tensor.sparsity is not None:
            try:
                return sparse.dense(data.view(dtype), tensor.sparsity, shape)
            except ValueError as error:
                raise AuditError(f"{where}: {error}") from error
        if data.size != (expected := packed_bytes(size, bits)):
            raise AuditError(f"{where}: expected {expected} bytes for {kind} {list(shape)}, found {data.size}")
        return (unpack(data, bits)[:size] if bits < 8 else data.view(dtype)).reshape(shape)

    def _zeros(self, index: int, values: Array) -> int:
        """The number of stored values that equal their zero point."""
        quantization = self.tensors[index].quantization
        points: Any = () if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
        if len(points) <= 1:
            return int(np.count_nonzero(values == (points[0] if len(points) else 0)))
        along = [1] * values.ndim
        along[quantization.quantizedDimension] = len(points)  # one for each channel
        return int(np.count_nonzero(values == np.reshape(points, along)))

    def _shape(self, index: int) -> tuple[int, ...]:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(length) for length in shape)

    def _name(self, index: int) -> str:
        name: Any = self.tensors[index].name
        return bytes(name).decode(errors="replace") if name else f"tensor {index}"
