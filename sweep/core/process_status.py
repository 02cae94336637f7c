"""Crash reports of supervised processes: each has a temporary folder, where it writes its current stage.

Native code (the converter, an interpreter) can crash a process without a Python exception, and the system can kill it. The
supervising process survives, reports the stage of the crash, and removes the folder.
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

_STATUS_FILE = "doing.json"


@dataclass(frozen=True)
class Status:
    """The last status of a supervised process.

    Attributes:
        stage: the running stage (`during convert`) or the last one (`after convert`); empty before the first.
        folder: the output folder of the run; None before it is known.
    """

    stage: str = ""
    folder: Path | None = None


class _Current:
    """The status of this process and the file it is written to; None for a process without a supervisor."""

    path: Path | None = None
    status = Status()


def make_folder() -> Path:
    """Creates the temporary folder of a child process that is about to start."""
    return Path(tempfile.mkdtemp(prefix="sweep-"))


def use_folder(folder: Path) -> None:
    """Makes the folder the temporary folder of this process, for its status and all of its temporary files."""
    _Current.path, _Current.status = folder / _STATUS_FILE, Status()
    os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)))
    tempfile.tempdir = None  # reset the cached default


def begin(folder: Path | None) -> None:
    """Writes that a run begins, with its output folder if it is known."""
    _write(Status("", folder))


def set_stage(stage: str) -> None:
    """Writes the running stage (`during convert`) or the last one (`after convert`)."""
    _write(Status(stage, _Current.status.folder))


def _write(status: Status) -> None:
    _Current.status = status
    if _Current.path is not None:
        folder = None if status.folder is None else str(status.folder.absolute())
        with suppress(OSError):  # a full disk is reported by the code that writes results
            _Current.path.write_text(json.dumps({"stage": status.stage, "folder": folder}))


def last_status(folder: Path) -> Status:
    """The last status of the process of a folder; an empty one if it wrote none, or an incomplete one."""
    try:
        content = json.loads((folder / _STATUS_FILE).read_text())
        return Status(content["stage"], None if content["folder"] is None else Path(content["folder"]))
    except (OSError, ValueError, KeyError):
        return Status()


def remove_folder(folder: Path) -> None:
    """Removes the folder of a process that has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def death_message(code: int | None, status: Status) -> str:
    """A line that says how and at which stage a process died.

    Args:
        code: the exit code, the negated number of the signal that killed it, or None if unknown.
        status: its last status.
    """
    return f"the process that ran the trial is gone ({cause(code)})" + (f" {status.stage}" if status.stage else "")


def cause(code: int | None) -> str:
    """Returns what ended a process: its exit code, or the number and the name of the signal.

    Args:
        code: the exit code, minus the signal that ended the process, or None where it is unknown.
    """
    if code is None or code >= 0:
        return f"exit code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    return f"signal {number}, {name}" + (": killed, likely for want of memory" if name == "SIGKILL" else "")
