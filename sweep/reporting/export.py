"""The export of a model: its file, its source for a device, and its model card, in a folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from sweep.core.errors import ConfigError, require_integer
from sweep.core.trial_files import TrialFile
from sweep.reporting import card, firmware
from sweep.results import examples
from sweep.results.budget import Budget, known
from sweep.results.sweeps import Sweep, Trial
from sweep.tflite import flatbuffer, tflm_kernels

_MOST_ARENA = 2**31 - 1
_EDITABLE = (firmware.RESOLVER, firmware.EXAMPLE, firmware.MAIN)
"""Files that users may edit. The card has their hashes, so an edited one is not overwritten."""


def export(sweep: Sweep, trial: Trial, folder: Path, budget: Budget) -> None:
    """Write a trial's export: the whole folder aside, then in its place.

    Args:
        sweep: the trial's.
        trial: what to export.
        folder: where to.
        budget: what was asked for, which the card repeats.

    Raises:
        ConfigError: for a folder that holds anything but an earlier export, or a trial whose records or file are damaged.
        OSError: where the folder cannot be written.
    """
    path = trial.folder / firmware.MODEL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(str(path), "the file that the trial measured", "nothing") from None
    if len(content) != (size := trial.metrics["size_bytes"]):
        raise ConfigError(str(path), f"the {size} bytes that the trial measured", f"{len(content)} bytes")
    if not _may_replace(folder):
        raise ConfigError("--to", "a new or empty folder, or an earlier export", str(folder))
    folder = folder.absolute()
    sources = _sources(trial, content)
    texts = {card.CARD: card.card(sweep, trial, content, sources, budget), **sources.texts}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".aside") as scratch:
        fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
        fresh.mkdir()
        shutil.copyfile(path, fresh / firmware.MODEL)
        for name, text in texts.items():
            (fresh / name).write_bytes(text.encode())
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)


def _sources(trial: Trial, content: bytes) -> firmware.Sources:
    """The source files of a trial's model, from its records."""
    try:
        needs = tflm_kernels.needs(content)
    except flatbuffer.DamagedError as error:
        raise ConfigError(str(trial.folder / firmware.MODEL), "the .tflite file that the trial measured", str(error)) from error
    arena_bytes = trial.metrics["arena_bytes"] if known(trial, "arena_bytes") else None
    if arena_bytes is not None:
        require_integer(str(trial.folder / "metrics.json: arena_bytes"), arena_bytes, 1, _MOST_ARENA)
    example = examples.read(trial.folder, content)
    try:
        arena = None if arena_bytes is None else int(arena_bytes)
        return firmware.sources(content, needs, arena, example, trial.class_names)
    except ValueError as error:
        raise ConfigError(str(trial.folder / TrialFile.EXAMPLE), "an example of the trial's file", str(error)) from error


def _may_replace(folder: Path) -> bool:
    """Whether a folder is new, empty, or an earlier export with nothing added to it and no source in it changed."""
    if not folder.exists() and not folder.is_symlink():
        return True
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    earlier = folder / card.CARD
    if not names <= {card.CARD, firmware.MODEL, firmware.HEADER, *_EDITABLE} or not earlier.is_file():
        return False
    text = earlier.read_text(errors="replace")
    return text.startswith(card.MARK) and all(_is_listed(folder / name, text) for name in names.intersection(_EDITABLE))


def _is_listed(path: Path, text: str) -> bool:
    """Whether a card lists the file as it is."""
    return path.is_file() and f"| `{path.name}` |" in text and hashlib.sha256(path.read_bytes()).hexdigest() in text
