"""Opens and measures a `.tflite` file of any origin on a data set."""

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
from sweep.pipeline.cache import Cache
from sweep.pipeline.measurement import of_foreign_file
from sweep.pipeline.memo import Memo
from sweep.pipeline.predictions import on_target, predictions
from sweep.pipeline.protocols import Target
from sweep.tflite import audit, benchmark, endpoints, userfiles
from sweep.tflite.interface import Interface

_FILE = "file.json"


@dataclass(frozen=True, eq=False)
class ForeignFile:
    """A file whose input and output match a data set.

    Attributes:
        path: the path of the file.
        content: its bytes.
        facts: its audit.
        interface: the scaling of the input and the meaning of the output.
        scaling: the scaling of the input, as a sentence.
        outputs: the number of values in its output.
    """

    path: Path
    content: bytes
    facts: audit.Audit
    interface: Interface
    scaling: str
    outputs: int

    @property
    def digest(self) -> str:
        """The sha256 (hex) of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    def metrics(self, data: Data, target: Target, memo: Memo, threads: int, progress: Progress) -> Metrics:
        """The metrics of a trial's file, without those that depend on the training.

        Args:
            data: the data set that it was opened for.
            target: the device that the file is for.
            memo: the stage cache.
            threads: the number of interpreters that run at once.
            progress: shows that the file is measured.

        Raises:
            ConfigError: for a file that LiteRT cannot run, or whose output has another length than the file declares.
            Unfit: for a file that does not run on the target.
        """
        try:
            if (outputs := benchmark.outputs(self.content)) != self.outputs:
                raise ConfigError(str(self.path), f"{self.outputs} outputs, as the file says", f"{outputs} when it is run")
            target.rehearsed(self.content)  # fails sooner than the predictions
            splits = predictions(self.content, data, memo, threads=threads, progress=progress, interface=self.interface)
            device = on_target(self.content, target, data, memo, threads=threads, progress=progress, interface=self.interface)
            measured = of_foreign_file(self.content, self.facts, *splits, device)
        except benchmark.MeasureError as error:
            raise ConfigError(str(self.path), "a file that LiteRT runs", str(error)) from error
        return Metrics.of(measured)


def opened(path: Path, data: Data, value_range: tuple[float, float] | None = None) -> ForeignFile:
    """Reads a file and checks that it matches a data set. Nothing is run.

    Args:
        path: the path of the file.
        data: the data set.
        value_range: the real values of black and white at the input; None to infer them from the file.

    Raises:
        ConfigError: for a file that is missing or damaged, has several inputs or outputs, or whose shapes do not match.
    """
    where = str(path)
    content = userfiles.read(path)
    try:
        signature, facts = endpoints.read(content), audit.read(content)
    except audit.AuditError as error:
        raise ConfigError(where, "a .tflite file with one image as its input and scores as its output", str(error)) from error
    if signature.shape != data.input_shape:
        raise ConfigError(where, f"an input of {_shown(data.input_shape)} ({data.name})", _shown(signature.shape))
    if signature.outputs != data.classes and not (signature.outputs == 1 and data.classes == 2):
        raise ConfigError(where, f"{data.classes} outputs, one a class ({data.name})", signature.outputs)
    if value_range is not None:
        for value in value_range:
            require_number("--range", value, -1e6, 1e6)
        if not value_range[0] < value_range[1]:
            raise ConfigError("--range", "the value of black, then a larger one of white", f"{value_range}")
    try:
        interface = signature.interface(value_range)
    except endpoints.UnknownRangeError as error:
        expected = "an input that takes 0 to 1, 0 to 255 or -1 to 1, or the values of black and white in --range"
        raise ConfigError(where, expected, f"{signature.input_type} of {error}") from error
    return ForeignFile(
        path, content, facts, interface, _scaling(signature, interface, chosen=value_range is not None), signature.outputs
    )


def record(
    file: ForeignFile, data: Data, target: Target, folder: Path, *, store: Path, threads: int, progress: Progress
) -> Metrics:
    """Measures a file, and writes its metrics (`metrics.json`) and its description (`file.json`).

    Args:
        file: the file, opened for `data`.
        data: the data set.
        target: the device that the file is for.
        folder: the output folder; the files of an earlier run are removed first.
        store: the folder of the stage cache.
        threads: the number of interpreters that run at once.
        progress: shows that the file is measured.

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
    """A shape as text: `32x32x3`."""
    return "x".join(map(str, shape)) or "a single number"


def _scaling(signature: endpoints.Endpoints, interface: Interface, *, chosen: bool) -> str:
    """Describes the scaling of the input, and where it is from."""
    values = f"{signature.input_type.lower()} input, pixels as {interface.low:g} to {interface.high:g}"
    if chosen:
        return f"{values}, as given"
    if signature.span is None:
        return values if signature.input_type == "UINT8" else f"{values}, since floats do not tell (--range says otherwise)"
    return f"{values}, since its scale and zero point span {signature.span[0]:.4g} to {signature.span[1]:.4g}"
