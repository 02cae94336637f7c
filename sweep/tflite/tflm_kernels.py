"""What TensorFlow Lite Micro (TFLM) has kernels for, what a file needs of it, and how much memory it plans with.

Nothing is run: a kernel may still refuse a file's types, as those for float16 and dynamic-range weights do.
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
# Bytes on a 64-bit machine, and no less than on a 32-bit one. What TFLM keeps of a tensor while it plans (AllocationInfo in
# micro_allocation_info.h) and of a buffer (per_buffer_size in greedy_memory_planner.h); what it keeps of an operator's tensors
# while it prepares that (TfLiteTensor, TfLiteAffineQuantization, alignment), and of the scratch buffers that it may ask for.
_PLANNED_TENSOR, _PLANNED_BUFFER = 32, 40
_PREPARED_TENSOR, _PREPARED_CHANNEL, _PREPARED_SCRATCH = 160, 4, 192
_ALIGNMENT = 16


def method(operator: str) -> str:
    """The method of TFLM's `MicroMutableOpResolver` that adds one of `KERNELS`: `AddArgMax` for `ARG_MAX`."""
    words = (word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))
    return "Add" + _IRREGULAR.get(operator, "".join(words))


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a file.

    Attributes:
        type: as the schema names it (`INT8`).
        elements: how many it has.
    """

    type: str
    elements: int


@dataclass(frozen=True)
class Needs:
    """What a file needs of TFLM.

    Attributes:
        operators: the operators that any of its subgraphs uses, each once, by name; `CUSTOM` for one that is no builtin.
        inputs: of the main subgraph.
        outputs: of the main subgraph.
        planning_bytes: at most how much more memory than its activations the main subgraph takes while its operators are
            prepared and its memory is planned. TFLM does not count it among what it uses, and a network with small activations
            does not start without it.
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
    """What a file needs of TFLM.

    Raises:
        DamagedError: for bytes that are no well-formed `.tflite` file.
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
    """What preparing or planning takes beyond the activations of the operator that has the largest: those are held at once."""
    graph = model.subgraphs[0]
    activations = {index for index, tensor in enumerate(graph.tensors) if not len(_listed(model.buffers[tensor.buffer].data))}
    largest, prepared, touched = 0, 0, set()
    for operator in _listed(graph.operators):
        used = [index for index in (*_listed(operator.inputs), *_listed(operator.outputs)) if index >= 0]
        channels = sum(_scales(graph.tensors[index]) for index in used)
        prepared = max(prepared, _PREPARED_SCRATCH + _PREPARED_TENSOR * len(used) + _PREPARED_CHANNEL * channels)
        held = activations.intersection(used)
        touched |= held
        largest = max(largest, sum(_aligned_bytes(tensors[index]) for index in held))
    planned = _PLANNED_TENSOR * len(tensors) + _PLANNED_BUFFER * len(touched)
    return max(0, max(prepared, planned) - largest)


def _scales(tensor: Any) -> int:
    """How many scales a tensor has: one for each channel where it is quantised by channel."""
    return 0 if tensor.quantization is None else len(_listed(tensor.quantization.scale))


def _aligned_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in the arena; 0 for a type that is not counted here, so that the sum stays a lower bound."""
    bits = TYPES[tensor.type].bits if tensor.type in TYPES else 0
    return tensor.elements * bits // 8 // _ALIGNMENT * _ALIGNMENT


def _listed(vector: Any) -> Any:
    """A vector of a parsed file, which leaves an empty one out."""
    return () if vector is None else vector
