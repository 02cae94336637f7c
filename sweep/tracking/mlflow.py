"""What MLflow is told: one parent run a sweep, one child run a trial, written when the trial has ended.

The only module that knows MLflow, and it imports it only when something is logged. It decides nothing: names, values and times
are those of the record. Every trial's files are logged as they are; the model of a trial on the front can become an MLflow
model besides, which loads, registers and serves where this project is not installed.
"""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweep.core.errors import ConfigError, require_text
from sweep.core.types import TrialRecord
from sweep.core.writable import require_writable
from sweep.tracking.database import address, error_text, locked, require_mlflow
from sweep.tracking.payload import (
    DESCRIPTION,
    MODEL,
    PARENT,
    TAG_LIMIT,
    comparison,
    log_dataset,
    metric_key,
    model_signature,
    run_metrics,
    run_params,
    run_tags,
    save_model,
)
from sweep.tracking.tracker import TrackingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.tracking.tracker import Status


_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or it puts the uv.lock of the working directory into a model
}


@dataclass(frozen=True)
class MLflow:
    """Logs to an MLflow database or server.

    Args:
        uri: `sqlite:///FILE` (relative to the working directory, or absolute with a fourth slash), or a server's address.
        experiment: the experiment's name; it is created when missing.
        artifacts: the folder, or the URI, that a new experiment keeps its files under; None for `artifacts` beside the
            database. A server keeps its own place, unless this is a URI.
    """

    uri: str
    experiment: str
    artifacts: str | None

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
        with locked(database.parent):
            require_mlflow(database)
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
            named = run_tags({**tags, DESCRIPTION: description})
            if resume and self._alive(client, resume):
                client.update_run(resume, status="RUNNING")
                client.log_batch(resume, tags=[RunTag(key, value) for key, value in named.items()])
                return resume
            run_id: str = client.create_run(self._experiment_id(client), tags=named, run_name=name).info.run_id
            client.log_batch(run_id, params=run_params(params))
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
            link = comparison(front, "trials of the front", experiment_id) or comparison(finished, "trials", experiment_id)
            description = description[: TAG_LIMIT - len(link)] + link
            client.log_batch(
                run_id,
                metrics=[Metric(metric_key(name), float(value), now, 0) for name, value in metrics.items()],
                tags=[RunTag(DESCRIPTION, description)],
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
            parent = {PARENT: record.parent_run_id} if record.parent_run_id else {}
            word = "pruned" if record.pruned else "error"
            reason = {word: record.error} if record.error is not None else {}
            tags = run_tags({**record.tags, **reason, **parent})
            run = client.create_run(self._experiment_id(client), start_time=start, tags=tags, run_name=record.name)
            run_id: str = run.info.run_id
            client.log_batch(
                run_id, metrics=run_metrics(record, end), params=run_params({**record.swept, **record.params, **record.swept})
            )
            log_dataset(client, run_id, record.tags)
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
            experiment_id, mine = run.info.experiment_id, f"source_run_id = '{run_id}' AND name = '{MODEL}'"
            for found in client.search_logged_models([experiment_id], mine):
                if found.status == "READY":
                    return str(found.model_id)
                client.delete_logged_model(found.model_id)  # of a start that ended, or that MLflow failed, half-way

            from mlflow.entities import LoggedModelOutput, Metric

            signature = model_signature(file)
            model = client.create_logged_model(experiment_id, MODEL, run_id, params=run.data.params)
            with tempfile.TemporaryDirectory() as folder:
                save_model(model, file, signature, folder)
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

        uri = self.uri if (database := self._database()) is None else address(database)
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
            raise ConfigError("uri", expected, f"{place} ({error_text(error)})") from error
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
                [experiment_id], f"tags.`{PARENT}` = '{run_id}'", order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from ((run.info.run_id, run.info.status) for run in page)
            if not (token := page.token):
                return


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what MLflow and the file system raise into a TrackingError."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"MLflow could not be told {what}: {error_text(error)}") from error
