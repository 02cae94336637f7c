"""The tracker that logs to MLflow: a parent run for each sweep, and a child run for each ended trial.

Names, values and times are those of the record. The files of a trial are its artifacts; those on the front become MLflow models
too, which load, register and serve without this project. MLflow is imported only when something is logged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.core.errors import ConfigError, require_text
from sweep.core.types import TrialRecord
from sweep.tracking import models
from sweep.tracking.backend import Backend
from sweep.tracking.experiment import Experiment, child_runs
from sweep.tracking.failures import tracking_errors
from sweep.tracking.payload import (
    DESCRIPTION,
    PARENT,
    TAG_LIMIT,
    comparison,
    log_dataset,
    metric_key,
    run_metrics,
    run_params,
    run_tags,
)
from sweep.tracking.tracker import Status


@dataclass(frozen=True)
class MLflow:
    """Logs to an MLflow database or server.

    Args:
        uri: `sqlite:///FILE` (relative to the working directory, or absolute with a fourth slash), or the URL of a server.
        experiment: the experiment's name; it is created when missing.
        artifacts: the folder or URI for the artifacts of a new experiment; None for `artifacts` beside the database. A server
            uses its own store unless this is a URI.
    """

    uri: str
    experiment: str
    artifacts: str | None

    def prepare(self) -> None:
        """Creates the database and the experiment if they are missing, and checks that they are writable.

        Raises:
            ConfigError: at `uri` for a scheme that is neither SQLite nor HTTP, a folder or file that is not writable, a file
                that is no MLflow database, or a server that is no MLflow server or does not answer in about ten seconds; at
                `artifacts` for a folder that is not writable; at `experiment` for a deleted experiment.
        """
        require_text("uri", self.uri)
        require_text("experiment", self.experiment)
        if self.artifacts is not None:
            require_text("artifacts", self.artifacts)
        for name in ("uri", "experiment", "artifacts"):
            if not (text := str(getattr(self, name))).isprintable():
                raise ConfigError(name, "a text on one line", text)
        self._experiment.prepare()

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Begins or resumes the parent run; the arguments are those of `Tracker.open_sweep`.

        Raises:
            TrackingError: when MLflow fails.
        """
        with tracking_errors("the sweep"):
            from mlflow.entities import RunTag

            client = self._experiment.backend.client()
            mlflow_tags = run_tags({**tags, DESCRIPTION: description})
            if resume and self._experiment.holds(client, resume):
                client.update_run(resume, status="RUNNING")
                client.log_batch(resume, tags=[RunTag(key, value) for key, value in mlflow_tags.items()])
                return resume
            run_id: str = client.create_run(self._experiment.identifier(client), tags=mlflow_tags, run_name=name).info.run_id
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
        """Endpoints the parent run and its running children; the arguments are those of `Tracker.close_sweep`.

        Raises:
            TrackingError: when MLflow fails.
        """
        if run_id is None:
            return
        with tracking_errors("the end of the sweep"):
            from mlflow.entities import Metric, RunTag

            client, now = self._experiment.backend.client(), round(time.time() * 1000)
            experiment_id = client.get_run(run_id).info.experiment_id
            finished = []
            for child_id, child_status in child_runs(client, experiment_id, run_id):
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
        """Logs an ended trial with its own start and end times.

        The swept overrides come first among the parameters. A learning curve is a metric `stage/name` with one step an epoch.
        NaN is logged as NaN. The run of a failed trial is FAILED, with the reason in the tag `error`; that of a pruned trial is
        KILLED, with the reason in the tag `pruned`.

        Raises:
            TrackingError: when MLflow fails.
        """
        with tracking_errors(record.name):
            client = self._experiment.backend.client()
            start, end = round(record.start * 1000), round(record.end * 1000)
            parent = {PARENT: record.parent_run_id} if record.parent_run_id else {}
            key = "pruned" if record.pruned else "error"
            reason = {key: record.error} if record.error is not None else {}
            tags = run_tags({**record.tags, **reason, **parent})
            run = client.create_run(self._experiment.identifier(client), start_time=start, tags=tags, run_name=record.name)
            run_id: str = run.info.run_id
            client.log_batch(
                run_id, metrics=run_metrics(record, end), params=run_params({**record.swept, **record.params, **record.swept})
            )
            log_dataset(client, run_id, record.tags)
            files = sorted(path for path in record.folder.iterdir() if path.is_file()) if record.folder.is_dir() else []
            for path in files:
                client.log_artifact(run_id, str(path))
            if record.error is not None and f"{key}.txt" not in (path.name for path in files):
                client.log_text(run_id, record.error, f"{key}.txt")
            client.set_terminated(run_id, "KILLED" if record.pruned else "FAILED" if record.error else "FINISHED", end)
            return run_id

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Logs the `.tflite` of an ended trial as an MLflow model of its run.

        Raises:
            TrackingError: when MLflow fails, and for a file that cannot be read or run.
        """
        if run_id is None:
            return None
        with tracking_errors(f"the model {file}"):
            return models.log(self._experiment.backend.client(), run_id, file)

    @property
    def _experiment(self) -> Experiment:
        return Experiment(Backend(self.uri, self.artifacts), self.experiment)
