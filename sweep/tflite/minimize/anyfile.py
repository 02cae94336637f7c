"""Minimises a `.tflite` file of any origin, with any inputs, which LiteRT or TFLM may not be able to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sweep.core import isolated
from sweep.core.errors import ConfigError
from sweep.tflite import litert, tflm
from sweep.tflite.minimize import lossless

Runtime = Callable[[bytes, int], list[bytes]]
"""The outputs of a file for a number of random inputs, the same each time. It raises an error for a file that it cannot run."""
RUNTIMES: Mapping[str, Runtime] = {"LiteRT": litert.random_outputs, "TFLM": tflm.random_outputs}
_INPUTS = 10  # random inputs for each runtime
_SECONDS = 300.0  # time limit of a runtime on a file


class OutputMismatchError(RuntimeError):
    """The outputs of the minimised file differ from those of the original."""


def destination(source: Path, to: Path | None) -> Path:
    """The path of the minimised file.

    Args:
        source: the original file.
        to: the path that the user chose; None for the path of the original with `.packed` before the suffix.

    Raises:
        ConfigError: for the original file, a folder, or a path in a folder that does not exist.
    """
    if to is None:
        to = source.with_name(f"{source.name.removesuffix('.tflite')}.packed.tflite")
    if to.is_dir() or not to.parent.is_dir():
        raise ConfigError("--to", "a file in a folder that exists", str(to))
    if to.exists() and to.samefile(source):
        raise ConfigError("--to", "another file than the one that is packed", str(to))
    return to


def packed(content: bytes, *, strip: bool) -> tuple[bytes, str]:
    """Minimises a file, and checks that it computes the same.

    Its operators, tensors and values are compared, and its outputs for random inputs in each runtime that runs the original.

    Args:
        content: the bytes of a `.tflite`.
        strip: whether names are left out.

    Returns:
        The bytes of the new file, equal to `content` where it would not be smaller, and a line about the checks.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
        NotPackedError: for a file that is too large, depends on its own layout, or has fields of a newer schema.
        OutputMismatchError: where an output differs.
    """
    smaller = lossless.packed(content, strip=strip)
    if smaller == content:
        return content, "nothing can be left out"
    ran, failed = [], []
    for name, runtime in RUNTIMES.items():
        try:
            expected = isolated.call(runtime, content, _INPUTS, seconds=_SECONDS)
        except isolated.FailedError as error:
            failed.append(f"{name} could not run it: {error}")
            continue
        try:
            outputs = isolated.call(runtime, smaller, _INPUTS, seconds=_SECONDS)
        except isolated.FailedError as error:
            raise OutputMismatchError(f"{name} runs the file, but not the packed one: {error}") from error
        if outputs != expected:
            raise OutputMismatchError(f"the outputs of the packed file differ in {name}")
        ran.append(name)
    proof = "all operators, tensors and values are the same"
    if ran:
        proof += f", as are, to the bit, the outputs for {_INPUTS} random inputs in {' and '.join(ran)}"
    return smaller, "; ".join([proof, *failed])
