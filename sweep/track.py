"""What MLflow is told: one parent run a sweep, one child run a trial, written when the trial has ended.

The only module that knows MLflow, and it imports it only when something is logged. It decides nothing: names, values and times
are those of the record. Every trial's files are logged as they are; the model of a trial on the front can become an MLflow
model besides, which loads, registers and serves where this project is not installed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import posixpath
import re
import sqlite3
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote, urlsplit

import numpy as np

from sweep import grids, native, served
from sweep.records import ConfigError, TrialRecord, require_text

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Param
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

_PARENT = "mlflow.parentRunId"
_DESCRIPTION = "mlflow.note.content"
_PARAM_LIMIT, _TAG_LIMIT, _KEY_LIMIT = 6000, 8000, 250
_DIGEST = 12  # characters of the content hash in the UI's data set column; the tag holds all of it
_COMPARABLE = 100  # runs in one link: the description that holds it is a tag
_MODEL = "model"  # an MLflow model's name within its run: runs:/ID/model
_NEEDED = ("ai-edge-litert", "numpy")  # by `served`
_PATH_LIMIT, _NAME_LIMIT = 3500, 255  # bytes that a file system takes, with room below the folder
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or it puts the uv.lock of the working directory into a model
}


class TrackingError(RuntimeError):
    """MLflow could not be told. What was to be logged is still in its folder."""


class Tracker(Protocol):
    """Where sweeps and trials are logged."""

    def prepare(self) -> None:
        """Make sure that runs can be logged; called once, by the parent process, before anything trains.

        Raises:
            ConfigError: for a place where nothing can be logged; its keys are relative to `tracking`.
        """

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Begin the parent run of a sweep.

        Args:
            name: the run's name.
            params: what was swept, and how.
            tags: further facts.
            description: Markdown, shown above the run.
            resume: the run of an earlier start of this sweep, to go on with; if it is gone, a new one begins.

        Returns:
            The run's id, for `parent_run_id` and `close_sweep`; None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails.
        """

    def close_sweep(
        self,
        run_id: str | None,
        *,
        status: Status,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        description: str,
        front: Sequence[str] = (),
    ) -> None:
        """End the parent run, and any child of it that is still running; a link that compares trials joins the description.

        Args:
            run_id: what `open_sweep` returned.
            status: how the sweep ended.
            metrics: metric name to value.
            artifacts: files to keep with the run.
            description: Markdown, in place of the first one.
            front: the runs to compare, best first; with fewer than two of them all finished trials are compared.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_trial(self, record: TrialRecord) -> str | None:
        """Log one ended trial, with every file of its folder, below `parent_run_id` where there is one.

        Returns:
            The run's id; None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Make an ended trial's `.tflite` an MLflow model of its run, once: a run that has its model keeps it.

        Args:
            run_id: what `log_trial` returned.
            file: the `.tflite`.

        Returns:
            The model's id, which `mlflow.pyfunc.load_model` and `mlflow.register_model` take as `models:/ID` (or
            `runs:/RUN_ID/model`); None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails, and for a file that cannot be read or run.
        """


@dataclass(frozen=True)
class NoTracking:
    """Logs nothing."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """No run, hence None."""
        return None

    def close_sweep(
        self,
        run_id: str | None,
        *,
        status: Status,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        description: str,
        front: Sequence[str] = (),
    ) -> None:
        """Nothing to close."""

    def log_trial(self, record: TrialRecord) -> str | None:
        """No run, hence None."""
        return None

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """No model, hence None."""
        return None


@dataclass(frozen=True)
class MLflow:
    """Logs to an MLflow database or server.

    Args:
        uri: `sqlite:///FILE` (relative to the working directory, or absolute with a fourth slash), or a server's address.
        experiment: the experiment's name; it is created when missing.
        artifacts: the folder, or the URI, that a new experiment keeps its files under; None for `artifacts` beside the
            database. A server keeps its own place, unless this is a URI.
        parent_run_id: the sweep's run, for `log_trial` to nest under.
    """

    uri: str
    experiment: str
    artifacts: str | None
    parent_run_id: str | None

    def prepare(self) -> None:
        """Create what is missing (the database, the experiment) and make sure that it can be written to.

        Raises:
            ConfigError: `uri` for a scheme that is neither SQLite nor HTTP, a folder or file that cannot be written, a file
                that is not an MLflow database, a server that does not answer in about ten seconds, or not as MLflow does;
                `artifacts` for a folder that cannot be written; `experiment` for one that cannot be used.
        """
        require_text("uri", self.uri)
        require_text("experiment", self.experiment)
        if self.artifacts is not None:
            require_text("artifacts", self.artifacts)
        for name in ("uri", "experiment", "artifacts"):
            if not (text := str(getattr(self, name))).isprintable():
                raise ConfigError(name, "a text on one line", text)
        if (database := self._database()) is None:
            self._prepare_experiment("an MLflow server that answers")
            return
        require_writable("uri", database.parent)
        database.parent.mkdir(parents=True, exist_ok=True)
        if "://" not in (location := self._artifact_location() or ""):
            require_writable("artifacts", Path(location))
        with _locked(database.parent):
            _require_mlflow(database)
            self._prepare_experiment("an MLflow database of this version of MLflow")

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Begin (or go on with) the parent run; see `Tracker`.

        Raises:
            TrackingError: when MLflow fails.
        """
        with _telling("of the sweep"):
            from mlflow.entities import RunTag

            client = self._client()
            named = _tags({**tags, _DESCRIPTION: description})
            if resume and self._alive(client, resume):
                client.update_run(resume, status="RUNNING")
                client.log_batch(resume, tags=[RunTag(key, value) for key, value in named.items()])
                return resume
            run_id: str = client.create_run(self._experiment_id(client), tags=named, run_name=name).info.run_id
            client.log_batch(run_id, params=_params(params))
            return run_id

    def close_sweep(
        self,
        run_id: str | None,
        *,
        status: Status,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        description: str,
        front: Sequence[str] = (),
    ) -> None:
        """End the parent run and what still runs below it; see `Tracker`.

        Raises:
            TrackingError: when MLflow fails.
        """
        if run_id is None:
            return
        with _telling("of the sweep's end"):
            from mlflow.entities import Metric, RunTag

            client, now = self._client(), round(time.time() * 1000)
            experiment_id = client.get_run(run_id).info.experiment_id
            finished = []
            for child_id, child_status in self._children(client, experiment_id, run_id):
                if child_status == "RUNNING":
                    client.set_terminated(child_id, "KILLED")
                elif child_status == "FINISHED":
                    finished.append(child_id)
            link = _comparison(front, "trials of the front", experiment_id) or _comparison(finished, "trials", experiment_id)
            description = description[: _TAG_LIMIT - len(link)] + link
            client.log_batch(
                run_id,
                metrics=[Metric(_key(name), float(value), now, 0) for name, value in metrics.items()],
                tags=[RunTag(_DESCRIPTION, description)],
            )
            for path in artifacts:
                client.log_artifact(run_id, str(path))
            client.set_terminated(run_id, status)

    def log_trial(self, record: TrialRecord) -> str | None:
        """Log one ended trial with its own start and end; see `Tracker`.

        The swept overrides come first among the parameters. A curve is a metric `stage/name` with one step an epoch. NaN is
        logged as it is. A failed trial's run is FAILED with the reason in its tag `error`; that of one which was stopped
        early is KILLED, the reason in `pruned`.

        Raises:
            TrackingError: when MLflow fails.
        """
        with _telling(f"of {record.name}"):
            client = self._client()
            start, end = round(record.start * 1000), round(record.end * 1000)
            parent = {_PARENT: self.parent_run_id} if self.parent_run_id else {}
            word = "pruned" if record.pruned else "error"
            reason = {word: record.error} if record.error is not None else {}
            tags = _tags({**record.tags, **reason, **parent})
            run = client.create_run(self._experiment_id(client), start_time=start, tags=tags, run_name=record.name)
            run_id: str = run.info.run_id
            client.log_batch(
                run_id, metrics=_metrics(record, end), params=_params({**record.swept, **record.params, **record.swept})
            )
            _log_dataset(client, run_id, record.tags)
            files = sorted(path for path in record.folder.iterdir() if path.is_file()) if record.folder.is_dir() else []
            for path in files:
                client.log_artifact(run_id, str(path))
            if record.error is not None and f"{word}.txt" not in (path.name for path in files):
                client.log_text(run_id, record.error, f"{word}.txt")
            client.set_terminated(run_id, "KILLED" if record.pruned else "FAILED" if record.error else "FINISHED", end)
            return run_id

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Make an ended trial's `.tflite` an MLflow model of its run; see `Tracker`.

        The model predicts as `served.Network` does, whose module it brings along. As MLflow does it, the model shows its run's
        parameters and metrics; learning curves and what is not a number stay with the run.

        Raises:
            TrackingError: when MLflow fails, and for a file that cannot be read or run.
        """
        if run_id is None:
            return None
        with _telling(f"of the model {file}"):
            client = self._client()
            run = client.get_run(run_id)
            experiment_id, mine = run.info.experiment_id, f"source_run_id = '{run_id}' AND name = '{_MODEL}'"
            for found in client.search_logged_models([experiment_id], mine):
                if found.status == "READY":
                    return str(found.model_id)
                client.delete_logged_model(found.model_id)  # of a start that ended, or that MLflow failed, half-way

            from mlflow.entities import LoggedModelOutput, Metric

            signature = _signature(file)
            model = client.create_logged_model(experiment_id, _MODEL, run_id, params=run.data.params)
            with tempfile.TemporaryDirectory() as folder:
                _save_model(model, file, signature, folder)
                client.log_model_artifacts(model.model_id, folder)
            # With the time of the run's own metrics these are no second points of its.
            told = {name: value for name, value in run.data.metrics.items() if "/" not in name and math.isfinite(value)}
            end, model_id = run.info.end_time, str(model.model_id)
            client.log_batch(run_id, [Metric(name, value, end, 0, model_id) for name, value in told.items()])
            client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
            client.finalize_logged_model(model_id, "READY")
            return model_id

    def _database(self) -> Path | None:
        """The database's absolute path; None for a server."""
        path = self.uri.removeprefix("sqlite:///")
        if path != self.uri and path and path != ":memory:":
            return Path(path).absolute()
        with suppress(ValueError):  # brackets of an address that do not close, a port that is no number
            parts = urlsplit(self.uri)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return None
        raise ConfigError("uri", "sqlite:///FILE, http://HOST:PORT or https://HOST", self.uri)

    def _artifact_location(self) -> str | None:
        """Where a new experiment keeps its files: a URI or an absolute path; None leaves it to the server."""
        database = self._database()
        if self.artifacts is not None and "://" in self.artifacts:
            return self.artifacts
        if database is None:
            return None
        return str(database.parent / "artifacts" if self.artifacts is None else Path(self.artifacts).absolute())

    def _client(self) -> MlflowClient:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # Its retries would stand above our own line about a server that does not answer.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        # And its tracebacks above our line about a full disk.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        from mlflow.tracking import MlflowClient

        uri = self.uri if (database := self._database()) is None else _address(database)
        return MlflowClient(uri, uri)

    def _prepare_experiment(self, expected: str) -> None:
        """Create the experiment unless it is there."""
        place = re.sub(r"//[^@/]*@", "//", self.uri)
        try:
            client = self._client()
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                location = self._artifact_location()
                if location is not None and "://" not in location:
                    location = Path(location).as_uri()
                client.create_experiment(self.experiment, location)
                return
        except Exception as error:  # MLflow's own, SQLAlchemy's, Alembic's and JSON's: all are about the URI
            raise ConfigError("uri", expected, f"{place} ({_reason(error)})") from error
        if found.name != self.experiment:
            raise ConfigError("uri", expected, f"{place} (it knows no experiments)")
        if found.lifecycle_stage != "active":
            raise ConfigError("experiment", "an experiment that is not deleted", self.experiment)

    def _experiment_id(self, client: MlflowClient) -> str:
        if (found := client.get_experiment_by_name(self.experiment)) is None:
            raise TrackingError(f"MLflow has no experiment {self.experiment} any more; start again to create it")
        return str(found.experiment_id)

    def _alive(self, client: MlflowClient, run_id: str) -> bool:
        """Whether a run is there, in this experiment, and not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            info = client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(info.lifecycle_stage == "active" and info.experiment_id == self._experiment_id(client))

    def _children(self, client: MlflowClient, experiment_id: str, run_id: str) -> Iterator[tuple[str, str]]:
        """(id, status) of every child run, the oldest first."""
        token = None
        while True:
            page = client.search_runs(
                [experiment_id], f"tags.`{_PARENT}` = '{run_id}'", order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from ((run.info.run_id, run.info.status) for run in page)
            if not (token := page.token):
                return


def _address(database: Path) -> str:
    """The URI of a database, in whose path no letter is read as more than a letter.

    MLflow would make the folders of a plain `sqlite:` URI itself, escapes and all.
    """
    path = re.sub("[%?#]", lambda letter: f"%{ord(letter[0]):02X}", str(database))
    return f"sqlite:///{path}" if path == str(database) else f"sqlite+pysqlite:///{path}"


def comparison_link(run_ids: Sequence[str], experiment_id: str) -> str:
    """The address, within MLflow's UI, of the page that compares runs.

    Args:
        run_ids: the runs, in the order of the columns.
        experiment_id: the experiment they are in.

    Returns:
        A path that begins with `/#/compare-runs`, escaped so that it can stand in Markdown.
    """
    runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (list(run_ids), [experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}"


def _comparison(run_ids: Sequence[str], what: str, experiment_id: str) -> str:
    """A paragraph that links to the comparison of these runs; empty with fewer than two of them."""
    if len(run_ids) < 2:
        return ""
    shown, total = run_ids[:_COMPARABLE], len(run_ids)
    which = f"the {total} {what}" if total == len(shown) else f"the first {len(shown)} of {total} {what}"
    return f"\n\n[Compare {which}]({comparison_link(shown, experiment_id)})"


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what MLflow and the file system raise into a TrackingError."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"MLflow could not be told {what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def require_writable(where: str, folder: Path) -> None:
    """Refuse a folder that cannot be created or written in.

    The superuser may write anywhere; a folder that nobody has write permission for is meant to be left alone all the same.

    Raises:
        ConfigError: with the nearest existing folder, or the file in its place.
    """
    if len(os.fsencode(folder)) > _PATH_LIMIT or any(len(os.fsencode(part)) > _NAME_LIMIT for part in folder.parts):
        raise ConfigError(where, "a folder with a name that the system takes", str(folder))
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir() or not _writable(existing):
        received = f"{folder}, where {existing} is {_kind(existing)}"
        raise ConfigError(where, "a folder that can be written to", received)


def _kind(path: Path) -> str:
    """What is there, in words."""
    if path.is_dir():
        return "read-only"
    return "a file" if path.exists() else "a link that leads nowhere"


def _writable(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)) and os.access(path, os.W_OK)


def _require_mlflow(database: Path) -> None:
    """Refuse a file that is there and that is not a writable MLflow database, before MLflow adds its tables to it."""
    try:
        regular = stat.S_ISREG(database.stat().st_mode)
    except FileNotFoundError:
        if not database.resolve().parent.is_dir():  # a link that leads nowhere: SQLite would try for long
            raise ConfigError("uri", "a file that can be written to", f"{database} (a link that leads nowhere)") from None
        return
    except OSError as error:
        raise ConfigError("uri", "a file that can be written to", f"{database} ({error.strerror})") from error
    if not regular or not _writable(database):
        raise ConfigError("uri", "a file that can be written to", str(database))
    try:
        connection = sqlite3.connect(database, timeout=10)
        try:
            connection.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError("uri", "an MLflow database, or a file that does not exist yet", f"{database} ({error})") from error
    if tables and not {"alembic_version", "experiments", "runs"} <= tables:
        raise ConfigError(
            "uri", "an MLflow database, or a file that does not exist yet", f"{database} (another SQLite database)"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: MLflow crashes when two of them create the same database."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key(name: str) -> str:
    """The nearest name that MLflow takes: `model@distill.teacher` becomes `model_distill.teacher`."""
    plain = re.sub(r"[^/\w.\- ]", "_", name.lstrip("+~"))
    return posixpath.normpath(plain).lstrip("./")[:_KEY_LIMIT] or "_"


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    source = {"mlflow.source.name": "sweep", "mlflow.source.type": "LOCAL"}
    return {name[:_KEY_LIMIT]: value[:_TAG_LIMIT] for name, value in {**source, **tags}.items()}


def _params(params: Mapping[str, str]) -> list[Param]:
    from mlflow.entities import Param

    named = {_key(name): value[:_PARAM_LIMIT] for name, value in params.items()}
    return [Param(name, value) for name, value in named.items()]


def _metrics(record: TrialRecord, timestamp: int) -> list[Metric]:
    """The trial's metrics and, one step an epoch, its learning curves."""
    from mlflow.entities import Metric

    metrics = [Metric(_key(name), float(value), timestamp, 0) for name, value in record.metrics.items()]
    for stage, curves in record.curves.items():
        for name, values in curves.items():
            metrics += [Metric(_key(f"{stage}/{name}"), float(value), timestamp, epoch) for epoch, value in enumerate(values)]
    return metrics


def _log_dataset(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Name the data set as the run's input, where the record knows it."""
    if "dataset" not in tags or "data_hash" not in tags:
        return
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    name, content = tags["dataset"], tags["data_hash"]
    dataset = Dataset(name, content[:_DIGEST], "code", json.dumps({"tags": {"data_hash": content}}))
    inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:  # another process was the first to name this data set, in between MLflow's look and its insert
        client.log_inputs(run_id, inputs)


def _signature(file: Path) -> ModelSignature:
    """What the network of a `.tflite` takes and gives, any number of images at a time, by the file's own tensors."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    content = file.read_bytes()
    if damage := grids.damage(content):  # LiteRT may not survive a file that was damaged on the disk
        raise ValueError(damage)
    with native.caught():
        network = served.Network(content)
    shapes = (-1, *network.shape[1:]), (-1, network.classes)
    inputs, outputs = (Schema([TensorSpec(np.dtype(np.float32), shape)]) for shape in shapes)
    return ModelSignature(inputs, outputs)


def _save_model(model: LoggedModel, file: Path, signature: ModelSignature, folder: str) -> None:
    """Write the files of an MLflow model: the `.tflite`, its loader, and what that needs, so that MLflow need not run it."""
    from mlflow.models import Model

    with warnings.catch_warnings():  # that importing this gives about a class of its own
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        from mlflow.pyfunc import save_model

    meta = Model(
        artifact_path=model.artifact_location, run_id=model.source_run_id, model_uuid=model.model_id, model_id=model.model_id
    )
    save_model(
        folder,
        loader_module=served.__name__.rpartition(".")[2],
        data_path=str(file),
        code_paths=[served.__file__],
        mlflow_model=meta,
        signature=signature,
        input_example=np.zeros((1, *signature.inputs.inputs[0].shape[1:]), np.float32),
        pip_requirements=[f"{name}=={version(name)}" for name in _NEEDED],
    )
