"""Counts the weights, zeros, levels and multiply-accumulates of a `.tflite` file from its own tensors and operators.

Only the main subgraph is read, and nothing is run. The counts depend on how the converter (TensorFlow 2.21) writes a network:

- A Keras Conv2D always becomes a CONV_2D: with one input channel, 1x1, on a 1x1 image, as large as its image, dilated or
  grouped. A Dense always becomes a FULLY_CONNECTED, also on four-dimensional inputs and with one unit; a DepthwiseConv2D a
  DEPTHWISE_CONV_2D, also with one channel. So the operator identifies the layers that pruning targets. (Conv1D and the
  pointwise half of SeparableConv2D are CONV_2D.)
- A layer used twice shares its kernel tensor, so a kernel counts once, with one bias. (Fake-quantised, each use stores its own
  copy, in INT8 even at 4 bits; quantised by the converter, its name does not contain the layer's.)
- Equal constants are merged. A bias still counts with each kernel, or float and int8 files would disagree about biases of
  zeros. An all-zero kernel counts at each use, since all layers that pruning has emptied share one tensor.
- A convolution without bias gets a bias of zeros.
- A BatchNorm that cannot be folded becomes MUL and ADD; their constants, like the slopes of a PReLU, are not `parameters`.
- Dynamic-range quantisation applies to kernels of at least 1,024 elements, including depthwise and transposed convolutions.
- A layer without fake quantisation of its weights is stored as INT8 with up to 255 levels, whatever the bits of its neighbours.
  TFMOT's n-bit scheme produces such a layer from a Conv, Depthwise or Dense that is followed directly by a ReLU *layer* (a
  fused `activation="relu"`, or a BatchNorm in between, is fine). `expect` refuses such a file below 8 bits.
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
"""The kinds of layers that pruning targets, as builtin operators."""
_FLOATS = frozenset({"FLOAT64", "FLOAT32", "FLOAT16", "BFLOAT16"})


class AuditError(RuntimeError):
    """The file cannot be read, or differs from its configuration."""


@dataclass(frozen=True)
class Kernel:
    """The weight tensor of a compute operator, as stored.

    Attributes:
        operator: the builtin operator that it belongs to (`CONV_2D`).
        name: the tensor's name, or `tensor N` where names were stripped.
        type: the stored type (`INT4`), before any DEQUANTIZE.
        shape: (c_out, h, w, c_in); depthwise (1, h, w, c_out); fully connected (units, c_in).
        size: the number of weights.
        zeros: the number of weights whose real value is zero: the stored value equals the zero point (of the channel).
        levels: the number of distinct stored values.
        bits: stored bits per weight: 32, 16, 8, 4 or 2. For a sparse tensor the indices are included.
        related_names: the names of its operator's outputs and other inputs, which may contain the layer's name where the
            tensor's own does not.
    """

    operator: str
    name: str
    type: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    levels: int
    bits: float
    related_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The counts of a file.

    Attributes:
        kernels: weight tensors of its compute operators (convolutions, depthwise, transposed and fully connected), in order.
        parameters: the number of elements of those kernels and their biases.
        nonzero_parameters: the number of parameters whose real value is not zero.
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
        """The total number of filters (output channels) of the full convolutions and dense layers."""
        return sum(kernel.shape[0] for kernel in self._targets("all"))

    def weights(self, layers: str) -> int:
        """The number of weights of the targeted kernels.

        Args:
            layers: `conv`, `dense` or `all` (both). Depthwise and transposed kernels are never targets.

        Raises:
            ConfigError: for other `layers`.
        """
        return sum(kernel.size for kernel in self._targets(layers))

    def zeros(self, layers: str) -> int:
        """The number of weights of the targeted kernels that are exactly zero.

        Args:
            layers: as in `weights`.

        Raises:
            ConfigError: for other `layers`.
        """
        return sum(kernel.zeros for kernel in self._targets(layers))

    def sparsity(self, layers: str) -> float:
        """The fraction of the targeted kernels' weights that are exactly zero, in [0, 1]; 0 without such kernels.

        Args:
            layers: as in `weights`.

        Raises:
            ConfigError: for other `layers`.
        """
        size = self.weights(layers)
        return self.zeros(layers) / size if size else 0.0

    def _targets(self, layers: str) -> list[Kernel]:
        require_choice("layers", layers, tuple(TARGETS))
        return [kernel for kernel in self.kernels if kernel.operator in TARGETS[layers]]


def read(content: bytes) -> Audit:
    """Counts the kernels, parameters and operators of a `.tflite` file.

    Args:
        content: the file's bytes.

    Raises:
        AuditError: for bytes that are not a well-formed `.tflite` file with one input and one output, or that store weights in
            an unsupported way (such as sparse tensors in another format than compressed rows).
    """
    with audit_errors():
        return File(content).audit()


def same(first: Audit, second: Audit) -> bool:
    """Whether two files have the same kernels by operator, shape, zeros and levels, and the same parameters and MACs.

    Names, types and sparse storage are ignored.
    """

    def counts(audit: Audit) -> list[tuple[object, ...]]:
        return [(kernel.operator, kernel.shape, kernel.zeros, kernel.levels) for kernel in audit.kernels]

    return counts(first) == counts(second) and (first.parameters, first.macs) == (second.parameters, second.macs)


@contextmanager
def audit_errors() -> Iterator[None]:
    """Turns the exceptions of reading a damaged file into an AuditError.

    Raises:
        AuditError: with a message of one line.
    """
    try:
        with flatbuffer.damage_errors():
            yield
    except flatbuffer.DamagedError as error:
        cause = error.__cause__
        raise (cause if isinstance(cause, AuditError) else AuditError(str(error))) from error


class File:
    """The main subgraph of a parsed file; takes the file's bytes.

    Attributes:
        types: the name of each tensor's type.
        inputs, outputs: the indices of the input and output tensors.
        operators: (builtin name, indices of the inputs, indices of the outputs) of each operator, in the order of execution.
        restored_from: output to input of the DEQUANTIZE, QUANTIZE and DENSIFY operators, as tensor indices.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
    """

    def __init__(self, content: bytes) -> None:
        model, codes, types = schema.parsed(content)
        graph = model.subgraphs[0]
        self.buffers = model.buffers
        self.tensors = graph.tensors
        self.types = [types[tensor.type] for tensor in self.tensors]
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.operators = [(codes[operator.opcodeIndex], operator.inputs, operator.outputs) for operator in graph.operators]
        restoring = [(inputs, outputs) for operator, inputs, outputs in self.operators if operator in schema.RESTORING]
        self.restored_from = {outputs[0]: inputs[0] for inputs, outputs in restoring}

    def audit(self) -> Audit:
        """Counts the kernels, parameters and operators; raises as `read`."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise AuditError(f"expected one input and one output, found {len(self.inputs)} and {len(self.outputs)}")
        kernels: dict[tuple[int, int], Kernel] = {}
        parameters = nonzero = macs = 0
        for position, (operator, inputs, outputs) in enumerate(self.operators):
            if operator not in OPERANDS:
                continue
            operands = OPERANDS[operator]
            macs += self._macs(operator, inputs, outputs)
            index = self._constant(inputs[operands.kernel])
            if index is None:  # a product of two activations
                continue
            kernel = self._kernel(operator, index, [*outputs, *inputs])
            key = index, position if kernel.zeros == kernel.size else -1
            if key in kernels:
                continue
            kernels[key] = kernel
            parameters += kernel.size
            nonzero += kernel.size - kernel.zeros
            bias = self._constant(inputs[operands.bias]) if len(inputs) > operands.bias else None
            if bias is not None:
                values = self._values(bias)
                parameters += values.size
                nonzero += values.size - self._zeros(bias, values)
        used = {index for _, inputs, outputs in self.operators for index in (*inputs, *outputs) if index >= 0}
        return Audit(
            kernels=tuple(kernels.values()),
            parameters=parameters,
            nonzero_parameters=nonzero,
            macs=macs // self._shape(self.inputs[0])[0],
            input_type=self.types[self.inputs[0]],
            output_type=self.types[self.outputs[0]],
            operators=tuple(operator for operator, _, _ in self.operators),
            float_tensors=tuple(self._name(index) for index in sorted(used) if self.types[index] in _FLOATS),
        )

    def stored_by_layer(self) -> dict[str, Array]:
        """Keras layer to the stored values of its kernel, in the tensor's shape; only where the name has the layer."""
        kernels = {}
        for operator, inputs, _ in self.operators:
            index = self._constant(inputs[OPERANDS[operator].kernel]) if operator in OPERANDS else None
            if index is not None and (layer := schema.layer_of(self._name(index))) is not None:
                kernels[layer] = self._values(index)
        return kernels

    def _kernel(self, operator: str, index: int, operands: list[int]) -> Kernel:
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
            related_names=tuple(self._name(other) for other in operands if other >= 0 and other != index),
        )

    def _bits(self, index: int, size: int) -> float:
        tensor = self.tensors[index]
        if tensor.sparsity is None:
            return TYPES[self.types[index]].bits
        return 8 * (len(self.buffers[tensor.buffer].data) + sparse.index_bytes(tensor.sparsity)) / size

    def _macs(self, operator: str, inputs: list[int], outputs: list[int]) -> int:
        kernel, output_size = self._shape(inputs[1]), math.prod(self._shape(outputs[0]))
        if operator == "TRANSPOSE_CONV":  # every input element is multiplied by each weight of its channel
            return math.prod(self._shape(inputs[2])) * math.prod(kernel[:3])
        if operator == "DEPTHWISE_CONV_2D":
            return output_size * math.prod(kernel[:3])
        return output_size * math.prod(kernel[1:])

    def _constant(self, index: int) -> int | None:
        """The constant (its index) that a tensor is or is restored from, as by DEQUANTIZE; None for an activation."""
        for _ in range(1 + len(self.operators)):
            if index < 0:
                return None
            data = self.buffers[self.tensors[index].buffer].data
            if data is not None and len(data):
                return index
            if index not in self.restored_from:
                return None
            index = self.restored_from[index]
        raise AuditError(f"the tensor {self._name(index)!r}: expected a constant, found a cycle")

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
        broadcast_shape = [1] * values.ndim
        broadcast_shape[quantization.quantizedDimension] = len(points)  # a zero point for each channel
        return int(np.count_nonzero(values == np.reshape(points, broadcast_shape)))

    def _shape(self, index: int) -> tuple[int, ...]:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(length) for length in shape)

    def _name(self, index: int) -> str:
        name: Any = self.tensors[index].name
        return bytes(name).decode(errors="replace") if name else f"tensor {index}"
