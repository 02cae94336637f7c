"""Packs a `.tflite` file from anywhere, which may have any inputs, or not run here at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sweep.core import isolated
from sweep.core.errors import ConfigError
from sweep.tflite import litert, tflm
from sweep.tflite.minimize import lossless

Runtime = Callable[[bytes, int], list[bytes]]
"""What a file answers to so many random inputs, the same each time; an error for one that it cannot run."""
RUNTIMES: Mapping[str, Runtime] = {"LiteRT": litert.random_answers, "TFLM": tflm.random_answers}
_INPUTS = 10  # random ones, for each runtime
_SECONDS = 300.0  # for a runtime on one file


class OtherAnswersError(RuntimeError):
    """The packed file answers otherwise than the file."""


def destination(source: Path, to: Path | None) -> Path:
    """Where the packed file goes.

    Args:
        source: the file.
        to: what the user asked for; None for beside the file, with `.packed` before the suffix.

    Raises:
        ConfigError: for the file itself, a folder, or a folder that is not there.
    """
    if to is None:
        to = source.with_name(f"{source.name.removesuffix('.tflite')}.packed.tflite")
    if to.is_dir() or not to.parent.is_dir():
        raise ConfigError("--to", "a file in a folder that exists", str(to))
    if to.exists() and to.samefile(source):
        raise ConfigError("--to", "another file than the one that is packed", str(to))
    return to


def packed(content: bytes, *, strip: bool) -> tuple[bytes, str]:
    """A file in fewer bytes, and in one line how it is known to be the same.

    Its operators, tensors and values are compared. So are its answers to random inputs, in each runtime that runs the file.

    Args:
        content: the bytes of a `.tflite`.
        strip: whether names are left out.

    Returns:
        The bytes, which are those of `content` where they could not be fewer, and the line.

    Raises:
        DamagedError, NotPackedError: as `lossless.packed`.
        OtherAnswersError: for a file that would answer otherwise.
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
            found = isolated.call(runtime, smaller, _INPUTS, seconds=_SECONDS)
        except isolated.FailedError as error:
            raise OtherAnswersError(f"{name} runs the file, but not the packed one: {error}") from error
        if found != expected:
            raise OtherAnswersError(f"the packed file would answer otherwise in {name}")
        ran.append(name)
    proof = "all operators, tensors and values are the same"
    if ran:
        proof += f", and to the bit the answers to {_INPUTS} random inputs in {' and '.join(ran)}"
    return smaller, "; ".join([proof, *failed])
