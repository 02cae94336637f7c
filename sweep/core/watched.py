"""A process that another one watches: it has a temporary folder of its own, and notes there what it is doing.

Native code (the converter, an interpreter) can end a process past all of Python, and the system can kill it. Whoever watches it
survives, says at which stage it went, and removes the folder with all that it left there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NOTE = "doing.json"


@dataclass(frozen=True)
class Doing:
    """What a watched process noted last.

    Attributes:
        stage: which stage is under way, or which has ended; empty before the first.
        folder: of the run's files; None before it is known.
    """

    stage: str = ""
    folder: Path | None = None


class _Notes:
    """Where this process notes what it is doing; nowhere in one that nobody watches."""

    path: Path | None = None
    doing = Doing()


def make() -> Path:
    """A temporary folder for a process that is about to be started, and watched by this one."""
    return Path(tempfile.mkdtemp(prefix="sweep-"))


def enter(folder: Path) -> None:
    """Make the folder that of this process: whatever asks for a temporary file from now on gets one there."""
    _Notes.path, _Notes.doing = folder / _NOTE, Doing()
    os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)))
    tempfile.tempdir = None  # looked up again when it is asked for


def begin(folder: Path | None) -> None:
    """Note where the files of a run go that begins now; None where that is still to be found out."""
    _note(Doing("", folder))


def note(stage: str) -> None:
    """Note which stage is under way (`during convert`) or has ended (`after convert`)."""
    _note(Doing(stage, _Notes.doing.folder))


def _note(doing: Doing) -> None:
    _Notes.doing = doing
    if _Notes.path is not None:
        folder = None if doing.folder is None else str(doing.folder.absolute())
        with suppress(OSError):  # a full disk is told by what writes results
            _Notes.path.write_text(json.dumps({"stage": doing.stage, "folder": folder}))


def last(folder: Path) -> Doing:
    """What the process of this folder noted last; nothing where it noted nothing whole."""
    try:
        noted = json.loads((folder / _NOTE).read_text())
        return Doing(noted["stage"], None if noted["folder"] is None else Path(noted["folder"]))
    except (OSError, ValueError, KeyError):
        return Doing()


def remove(folder: Path) -> None:
    """Remove a watched process's folder, once it is gone."""
    shutil.rmtree(folder, ignore_errors=True)


def death(code: int | None, doing: Doing) -> str:
    """How and where a process died.

    Args:
        code: its exit code, minus the signal that ended it, or None where nobody knows.
        doing: what it noted last.
    """
    return f"the process that ran the trial is gone ({cause(code)})" + (f" {doing.stage}" if doing.stage else "")


def cause(code: int | None) -> str:
    """What a process died of.

    Args:
        code: its exit code, minus the signal that ended it, or None where nobody knows.
    """
    if code is None or code >= 0:
        return f"exit code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    return f"signal {number}, {name}" + (": killed, likely for want of memory" if name == "SIGKILL" else "")
