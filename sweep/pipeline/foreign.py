"""A `.tflite` file that this project need not have made: whether a data set fits it, and its metrics there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sweep.core import files
from sweep.core.errors import ConfigError, require_number
from sweep.core.metrics import Metrics
from sweep.core.trial_files import TrialFile
from sweep.core.types import Data, Progress
from sweep.devices.fitness import Unfit
from sweep.pipeline.answers import answers, on_target
from sweep.pipeline.cache import Cache
from sweep.pipeline.measurement import of_foreign_file
from sweep.pipeline.memo import Memo
from sweep.pipeline.protocols import Target
from sweep.tflite import audit, benchmark, ends, userfiles
from sweep.tflite.interface import Interface

_FILE = "file.json"


@dataclass(frozen=True, eq=False)
class ForeignFile:
    """A file that fits a data set.

    Attributes:
        path: where it is.
        content: its bytes.
        facts: what was counted on it.
        interface: how images enter it and classes leave it.
        scaling: the same in a sentence.
        outputs: how many numbers an image gets.
    """

    path: Path
    content: bytes
    facts: audit.Audit
    interface: Interface
    scaling: str
    outputs: int

    @property
    def digest(self) -> str:
        """sha256 (hex) of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    def metrics(self, data: Data, target: Target, memo: Memo, threads: int, progress: Progress) -> Metrics:
        """Every metric of the file that a trial's file has too, but for those that only the trial knows.

        Args:
            data: as it was opened for.
            target: what the file is for.
            memo: the stage cache.
            threads: of the interpreter.
            progress: where to say that it measures.

        Raises:
            ConfigError: for a file that LiteRT cannot run, or that gives something else when it is run.
            Unfit: for a file that does not run on the target.
        """
        try:
            if (given := benchmark.outputs(self.content)) != self.outputs:
                raise ConfigError(str(self.path), f"{self.outputs} outputs, as the file says", f"{given} when it is run")
            target.rehearsed(self.content)  # before the images are answered, which takes longer
            answered = answers(self.content, data, memo, threads=threads, progress=progress, interface=self.interface)
            device = on_target(self.content, target, data, memo, threads=threads, progress=progress, interface=self.interface)
            measured = of_foreign_file(self.content, self.facts, *answered, device)
        except benchmark.MeasureError as error:
            raise ConfigError(str(self.path), "a file that LiteRT runs", str(error)) from error
        return Metrics.of(measured)


def opened(path: Path, data: Data, value_range: tuple[float, float] | None = None) -> ForeignFile:
    """Read a file, and refuse one that a data set does not fit. Nothing is run.

    Args:
        path: of the file.
        data: what it is to be measured on.
        value_range: the real values that black and white enter as; None for what the file tells.

    Raises:
        ConfigError: for a file that is missing or damaged, has another number of inputs or outputs than one, or takes or gives
            what the data set does not have.
    """
    where = str(path)
    content = userfiles.read(path)
    try:
        found, facts = ends.read(content), audit.read(content)
    except audit.AuditError as error:
        raise ConfigError(where, "a .tflite file with one image as its input and scores as its output", str(error)) from error
    if found.shape != data.input_shape:
        raise ConfigError(where, f"an input of {_shown(data.input_shape)} ({data.name})", _shown(found.shape))
    if found.outputs != data.classes and not (found.outputs == 1 and data.classes == 2):
        raise ConfigError(where, f"{data.classes} outputs, one a class ({data.name})", found.outputs)
    if value_range is not None:
        for value in value_range:
            require_number("--range", value, -1e6, 1e6)
        if not value_range[0] < value_range[1]:
            raise ConfigError("--range", "the value of black, then a larger one of white", f"{value_range}")
    try:
        interface = found.interface(value_range)
    except ends.UnknownRangeError as error:
        expected = "an input that takes 0 to 1, 0 to 255 or -1 to 1, or the values of black and white in --range"
        raise ConfigError(where, expected, f"{found.input_type} of {error}") from error
    return ForeignFile(
        path, content, facts, interface, _scaling(found, interface, given=value_range is not None), found.outputs
    )


def record(
    file: ForeignFile, data: Data, target: Target, folder: Path, *, store: Path, threads: int, progress: Progress
) -> Metrics:
    """Measure a file, and write its metrics (`metrics.json`) and what they are of (`file.json`).

    Args:
        file: opened for `data`.
        data: what it is measured on.
        target: what it is for.
        folder: where to write; what an earlier run of the same name left there goes first.
        store: the stage cache's folder.
        threads: of the interpreter.
        progress: where to say that it measures.

    Returns:
        The metrics.

    Raises:
        ConfigError: as `ForeignFile.metrics`, and for a file that does not run on the target.
    """
    for name in (TrialFile.METRICS, _FILE):
        (folder / name).unlink(missing_ok=True)
    try:
        metrics = file.metrics(data, target, Memo(Cache(store)), threads, progress)
    except Unfit as error:
        raise ConfigError(str(file.path), f"a file that runs on {target.name}", str(error)) from error
    facts = {
        "path": str(file.path.absolute()),
        "sha256": file.digest,
        "scaling": file.scaling,
        "dataset": data.name,
        "target": target.name,
        "data_hash": data.content_hash,
        "split_hash": data.split_hash,
    }
    files.write_json(folder / _FILE, facts)
    files.write_json(folder / TrialFile.METRICS, dict(metrics))
    return metrics


def _shown(shape: tuple[int, ...]) -> str:
    """A shape as people write it: `32x32x3`."""
    return "x".join(map(str, shape)) or "a single number"


def _scaling(found: ends.Ends, interface: Interface, *, given: bool) -> str:
    """Which values the file is given, and how that is known."""
    values = f"{found.input_type.lower()} input, pixels as {interface.low:g} to {interface.high:g}"
    if given:
        return f"{values}, as given"
    if found.span is None:
        return values if found.input_type == "UINT8" else f"{values}, since floats do not tell (--range says otherwise)"
    return f"{values}, since its scale and zero point span {found.span[0]:.4g} to {found.span[1]:.4g}"
