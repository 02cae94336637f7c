"""Runs a `.tflite` file with TensorFlow Lite for Microcontrollers (TFLM): its arena, and its outputs.

The interpreter is that of the package `tflite-micro`, with its reference kernels. It may abort its process, so it runs in a
subprocess.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.core import native
from sweep.core.types import Array
from sweep.tflite import external, litert, tflm_process
from sweep.tflite.interface import OWN, Interface

DISTRIBUTION, MODULE = "tflite-micro", "tflite_micro"
# Sizes of the arena in bytes. The reported allocations do not depend on the size, and untouched memory costs nothing.
_ARENAS = (1 << 25, (1 << 31) - 1)
_TOO_SMALL = re.compile(r"missing: \d+|Failed to allocate|Arena size is too small")
_ALLOCATED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_LOAD_SECONDS = 60.0
_RUN_SECONDS = 3600.0


class TflmError(RuntimeError):
    """TFLM does not run the file. The message has the reason, in one line."""


@dataclass(frozen=True)
class Arena:
    """The memory that TFLM's interpreter allocates for a file, in bytes, as its `print_allocations` reports.

    Attributes:
        total: head and tail: the minimum size of the tensor arena on this machine, whose pointers have 64 bits.
        head: activations and scratch buffers, which share memory.
        tail: persistent data: that of the kernels, and the structures that describe tensors and operators.
    """

    total: int
    head: int
    tail: int


def arena(content: bytes) -> Arena:
    """Measures the tensor arena of a file.

    Args:
        content: the file's bytes.

    Raises:
        TflmError: for a file that TFLM does not load, with the missing operator or another reason.
    """
    return _run(content, None)[0]


def predict(content: bytes, images: Array, interface: Interface = OWN) -> tuple[Arena, Array]:
    """Measures the tensor arena of a file, and predicts the class of each image.

    Args:
        content: the file's bytes.
        images: uint8 (n, height, width, channels), at least one.
        interface: the scaling of the input and the meaning of the output.

    Returns:
        The arena, and the classes, int64 (n,).

    Raises:
        TflmError: for a file that TFLM does not run, or with an output that is NaN.
    """
    network = _network(content)
    measured, outputs = _run(content, network.quantised(interface.pixels).take(images))
    if outputs is None or len(outputs) != len(images) or np.isnan(outputs).any():
        raise TflmError("TFLM cannot run the file: an output is NaN or missing")
    return measured, interface.classes(outputs.reshape(len(images), -1), network.dequantised)


def raw_outputs(content: bytes, images: Array) -> Array:
    """Runs a file of this project on images.

    Args:
        content: the file's bytes.
        images: uint8 (n, height, width, channels), at least one. They are divided by 255 and quantised for the input tensor.

    Returns:
        The raw outputs (n, classes), of the output tensor's type.

    Raises:
        TflmError: for a file that TFLM does not run.
    """
    _, outputs = _run(content, _network(content).quantised(OWN.pixels).take(images))
    if outputs is None:
        raise TflmError("TFLM returned no outputs")
    return outputs


def random_outputs(content: bytes, count: int, seed: int = 0) -> list[bytes]:
    """The outputs of a file for random inputs of its own types and shapes. It runs in this process, which TFLM may abort.

    Args:
        content: the bytes of a file with any inputs and outputs.
        count: the number of runs of the main graph.
        seed: the seed of the inputs.

    Returns:
        The bytes of each output, in order.

    Raises:
        TflmError: where TFLM is not installed.
        RuntimeError, ValueError: for a file that TFLM cannot run.
    """
    if not external.installed(MODULE):
        raise TflmError(f"the package {DISTRIBUTION} is not installed")
    from tflite_micro.python.tflite_micro import runtime

    graph = runtime.convert_bytearray_to_object(content).subgraphs[0]
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=_ARENAS[-1])
    inputs = [interpreter.get_input_details(index) for index in range(len(graph.inputs))]
    generator, outputs = np.random.default_rng(seed), []
    for _ in range(count):
        for index, details in enumerate(inputs):
            interpreter.set_input(litert.random_input(generator, details), index)
        interpreter.invoke()
        outputs += [interpreter.get_output(index).tobytes() for index in range(len(graph.outputs))]
    return outputs


def _network(content: bytes) -> litert.Network:
    """The file in LiteRT, for the types, scales and zero points of its input and output."""
    with native.caught():
        return litert.Network(content)


def _run(content: bytes, images: Array | None) -> tuple[Arena, Array | None]:
    with tempfile.TemporaryDirectory(prefix="sweep-tflm-") as temporary:
        folder = Path(temporary)
        (folder / "network.tflite").write_bytes(content)
        if images is not None:
            np.save(folder / "images.npy", images)
        log = _process_output(folder, _LOAD_SECONDS if images is None else _RUN_SECONDS)
        sizes = {name: int(count) for name, count in _ALLOCATED.findall(log)}
        if sizes.keys() != {"total", "head", "tail"}:
            raise TflmError("TFLM did not print its allocations")
        return Arena(**sizes), None if images is None else np.load(folder / "outputs.npy")


def _process_output(folder: Path, seconds: float) -> str:
    """The output of the process, run with the first arena that is large enough."""
    for size in _ARENAS:
        try:
            return external.run("TFLM", ["-P", tflm_process.__file__, str(folder), str(size)], seconds)
        except external.ProgramError as error:
            if size == _ARENAS[-1] or not _TOO_SMALL.search(str(error)):
                raise TflmError(str(error)) from error
    raise AssertionError("there is a last arena")
