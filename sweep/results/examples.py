"""The record of one image that a trial's file classifies right: `example.json` in the trial's folder."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.core import jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.trial_files import TrialFile

_SPLIT = "test"


@dataclass(frozen=True)
class Example:
    """An image of the test split, as a file takes it, and what the file answers.

    Attributes:
        number: which image of the split, from 0.
        label: its class, from 0, which the file gives.
        input: the bytes of the input tensor, in the file's own type.
        output: the bytes of the output tensor as LiteRT gives it, in the file's own type.
    """

    number: int
    label: int
    input: bytes
    output: bytes

    def record(self, content: bytes) -> dict[str, Any]:
        """What is written of it: bytes in base64, and the SHA-256 of the file that it belongs to."""
        return {
            "split": _SPLIT,
            "number": self.number,
            "label": self.label,
            "input": base64.b64encode(self.input).decode(),
            "output": base64.b64encode(self.output).decode(),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def read(folder: Path, content: bytes) -> Example | None:
    """The example in a trial's folder; None where the trial left none.

    Args:
        folder: the trial's.
        content: the bytes of the trial's file.

    Raises:
        ConfigError: for a record that is damaged, or of another file.
    """
    path = folder / TrialFile.EXAMPLE
    if not path.exists():
        return None
    record = jsonfiles.read(path)
    digest = hashlib.sha256(content).hexdigest()
    if (recorded := jsonfiles.get(path, record, "sha256", str)) != digest:
        raise ConfigError(f"{path}: sha256", digest, recorded)
    number, label = (jsonfiles.get(path, record, name, int) for name in ("number", "label"))
    return Example(number, label, _decoded(path, record, "input"), _decoded(path, record, "output"))


def _decoded(path: Path, record: dict[str, Any], name: str) -> bytes:
    text = jsonfiles.get(path, record, name, str)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{path}: {name}", "bytes in base64", text) from error
