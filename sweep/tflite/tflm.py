"""Runs a `.tflite` file with TensorFlow Lite for Microcontrollers (TFLM): its arena, and its outputs.

The interpreter is that of the package `tflite-micro`, with its reference kernels. It can abort, so it has a process of its own.
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
# Bytes that the interpreter may use. What it reports does not depend on it, and memory that it leaves alone costs nothing.
_ARENAS = (1 << 25, (1 << 31) - 1)
_TOO_SMALL = re.compile(r"missing: \d+|Failed to allocate|Arena size is too small")
_ALLOCATED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_LOAD_SECONDS = 60.0
_RUN_SECONDS = 3600.0


class TflmError(RuntimeError):
    """TFLM does not run the file. The text says in one line what it lacks."""


@dataclass(frozen=True)
class Arena:
    """What TFLM's interpreter allocates for a file, in bytes, as its `print_allocations` says.

    Attributes:
        total: head and tail: the least that a tensor arena must have on this machine, whose pointers have 64 bits.
        head: activations and scratch buffers, which share their memory.
        tail: what stays: the kernels' own data, and the structures that describe tensors and operators.
    """

    total: int
    head: int
    tail: int


def arena(content: bytes) -> Arena:
    """The memory that a file takes.

    Raises:
        TflmError: for a file that TFLM does not load, naming the operator or what else it lacks.
    """
    return _run(content, None)[0]


def answers(content: bytes, images: Array, interface: Interface = OWN) -> tuple[Arena, Array]:
    """The memory that a file takes, and the class of each image.

    Args:
        content: the file's bytes.
        images: uint8 (n, height, width, channels), at least one.
        interface: of a file whose network takes or gives something else than those of this project.

    Returns:
        The arena, and int64 (n,).

    Raises:
        TflmError: as `arena`; for a file that TFLM does not run.
    """
    network = _network(content)
    measured, outputs = _run(content, network.quantised(interface.pixels).take(images))
    if outputs is None or len(outputs) != len(images) or np.isnan(outputs).any():
        raise TflmError("TFLM cannot run the file: it answers with NaN")
    return measured, interface.classes(outputs.reshape(len(images), -1), network.dequantised)


def raw_outputs(content: bytes, images: Array) -> Array:
    """The raw outputs for images.

    Args:
        content: the file's bytes.
        images: uint8 (n, height, width, channels), at least one: pixels, which a file of this project takes divided by 255.

    Returns:
        (n, classes), of the output tensor's type.

    Raises:
        TflmError: for a file that TFLM does not run.
    """
    _, outputs = _run(content, _network(content).quantised(OWN.pixels).take(images))
    if outputs is None:
        raise TflmError("TFLM returned no outputs")
    return outputs


def random_answers(content: bytes, count: int, seed: int = 0) -> list[bytes]:
    """The outputs of any file for random inputs of its own types and shapes, in this process: TFLM may abort it.

    Args:
        content: the bytes of a file with any inputs and outputs.
        count: how many times its main graph is run.
        seed: of the inputs.

    Returns:
        The bytes of each output in order.

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
    draws, outputs = np.random.default_rng(seed), []
    for _ in range(count):
        for index, details in enumerate(inputs):
            interpreter.set_input(litert.random_input(draws, details), index)
        interpreter.invoke()
        outputs += [interpreter.get_output(index).tobytes() for index in range(len(graph.outputs))]
    return outputs


def _network(content: bytes) -> litert.Network:
    """The file in LiteRT, which knows the types, scales and zero points of its ends."""
    with native.caught():
        return litert.Network(content)


def _run(content: bytes, images: Array | None) -> tuple[Arena, Array | None]:
    with tempfile.TemporaryDirectory(prefix="sweep-tflm-") as place:
        folder = Path(place)
        (folder / "network.tflite").write_bytes(content)
        if images is not None:
            np.save(folder / "images.npy", images)
        said = _said(folder, _LOAD_SECONDS if images is None else _RUN_SECONDS)
        found = {name: int(count) for name, count in _ALLOCATED.findall(said)}
        if found.keys() != {"total", "head", "tail"}:
            raise TflmError("TFLM does not say what it allocates")
        return Arena(**found), None if images is None else np.load(folder / "answers.npy")


def _said(folder: Path, seconds: float) -> str:
    """What the process wrote, in the first arena that is large enough."""
    for size in _ARENAS:
        try:
            return external.run("TFLM", ["-P", tflm_process.__file__, str(folder), str(size)], seconds)
        except external.ProgramError as error:
            if size == _ARENAS[-1] or not _TOO_SMALL.search(str(error)):
                raise TflmError(str(error)) from error
    raise AssertionError("there is a last arena")
