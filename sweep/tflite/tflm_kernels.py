"""The operators of TensorFlow Lite for Microcontrollers (TFLM), and the operators and planning memory that a file requires.

Nothing is run: a kernel may still refuse a file's types, such as float16 and dynamic-range weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sweep.tflite import schema
from sweep.tflite.weight_storage import TYPES

_NAMES = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO
    CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
    GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND
    LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2
    PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
    SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
    VAR_HANDLE WHILE ZEROS_LIKE
"""
KERNELS = frozenset(_NAMES.split())
"""The builtin operators that TFLM's `MicroMutableOpResolver` has a method for, as of the pinned `tflite-micro`."""
_IRREGULAR = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
# TFLM's temporary data, in bytes on a 64-bit machine, an upper bound for a 32-bit one. During memory planning: per tensor
# (AllocationInfo in micro_allocation_info.h) and per buffer (per_buffer_size in greedy_memory_planner.h). While an operator is
# prepared: per tensor and channel (TfLiteTensor, TfLiteAffineQuantization, alignment), and for requests of scratch buffers.
_PLANNED_TENSOR, _PLANNED_BUFFER = 32, 40
_PREPARED_TENSOR, _PREPARED_CHANNEL, _PREPARED_SCRATCH = 160, 4, 192
_ALIGNMENT = 16


def method(operator: str) -> str:
    """The method of TFLM's `MicroMutableOpResolver` that adds an operator: `AddArgMax` for `ARG_MAX`.

    Args:
        operator: the name of an operator in `KERNELS`.
    """
    words = (word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))
    return "Add" + _IRREGULAR.get(operator, "".join(words))


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a file.

    Attributes:
        type: the name of its type in the schema (`INT8`).
        elements: the number of elements.
    """

    type: str
    elements: int


@dataclass(frozen=True)
class Needs:
    """The requirements of a file on TFLM.

    Attributes:
        operators: the names of the operators in all subgraphs, sorted and distinct; `CUSTOM` for a custom operator.
        inputs: the inputs of the main subgraph.
        outputs: the outputs of the main subgraph.
        planning_bytes: an upper bound for the memory, beyond that of the activations, that the main subgraph needs while its
            operators are prepared and its memory is planned. TFLM does not include it in the reported arena, but a network with
            small activations does not start without it.
    """

    operators: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    planning_bytes: int

    @property
    def missing(self) -> tuple[str, ...]:
        """The operators that TFLM has no kernel for."""
        return tuple(operator for operator in self.operators if operator not in KERNELS)


def needs(content: bytes) -> Needs:
    """Reads the requirements of a file on TFLM.

    Args:
        content: the file's bytes.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
    """
    model, codes, types = schema.parsed(content)
    graph = model.subgraphs[0]
    tensors = [Tensor(types[tensor.type], math.prod(map(int, _listed(tensor.shape)))) for tensor in graph.tensors]
    return Needs(
        operators=tuple(sorted({codes[op.opcodeIndex] for part in model.subgraphs for op in _listed(part.operators)})),
        inputs=tuple(tensors[index] for index in graph.inputs),
        outputs=tuple(tensors[index] for index in graph.outputs),
        planning_bytes=_planning_bytes(model, tensors),
    )


def _planning_bytes(model: Any, tensors: list[Tensor]) -> int:
    """The memory for preparation or planning beyond the largest activations of an operator, which the arena has anyway.

    All activations of an operator are in memory at once.
    """
    graph = model.subgraphs[0]
    activations = {index for index, tensor in enumerate(graph.tensors) if not len(_listed(model.buffers[tensor.buffer].data))}
    max_activation_bytes, preparation, used_activations = 0, 0, set()
    for operator in _listed(graph.operators):
        operands = [index for index in (*_listed(operator.inputs), *_listed(operator.outputs)) if index >= 0]
        channels = sum(_scales(graph.tensors[index]) for index in operands)
        operator_bytes = _PREPARED_SCRATCH + _PREPARED_TENSOR * len(operands) + _PREPARED_CHANNEL * channels
        preparation = max(preparation, operator_bytes)
        operator_activations = activations.intersection(operands)
        used_activations |= operator_activations
        activation_bytes = sum(_aligned_bytes(tensors[index]) for index in operator_activations)
        max_activation_bytes = max(max_activation_bytes, activation_bytes)
    planning = _PLANNED_TENSOR * len(tensors) + _PLANNED_BUFFER * len(used_activations)
    return max(0, max(preparation, planning) - max_activation_bytes)


def _scales(tensor: Any) -> int:
    """The number of a tensor's scales: the number of channels for per-channel quantisation."""
    return 0 if tensor.quantization is None else len(_listed(tensor.quantization.scale))


def _aligned_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor in the arena, rounded down; 0 for an unknown type, so that the sum is a lower bound."""
    bits = TYPES[tensor.type].bits if tensor.type in TYPES else 0
    return tensor.elements * bits // 8 // _ALIGNMENT * _ALIGNMENT


def _listed(vector: Any) -> Any:
    """A vector of a parsed file; empty where it is absent."""
    return () if vector is None else vector
