"""The MLflow experiment that runs are logged to, and its runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.core.errors import ConfigError
from sweep.core.locks import locked
from sweep.core.writable import require_writable
from sweep.tracking.backend import Backend
from sweep.tracking.database import require_mlflow
from sweep.tracking.failures import error_text
from sweep.tracking.payload import PARENT
from sweep.tracking.tracker import TrackingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class Experiment:
    """An experiment by its name, in a database or on a server."""

    backend: Backend
    name: str

    def prepare(self) -> None:
        """Creates the database and the experiment if they are missing, and checks that both are writable.

        Raises:
            ConfigError: at `uri` for a database or server that cannot be used; at `artifacts` for a folder that is not
                writable; at `experiment` for a deleted experiment.
        """
        if (database := self.backend.database) is None:
            self._create("an MLflow server that answers")
            return
        require_writable("uri", database.parent)
        database.parent.mkdir(parents=True, exist_ok=True)
        if (folder := self.backend.artifact_folder) is not None:
            require_writable("artifacts", folder)
        with locked(database.parent):  # MLflow crashes when two processes create the same database
            require_mlflow(database)
            self._create("an MLflow database of this version of MLflow")

    def _create(self, expected: str) -> None:
        """Creates the experiment if it is missing."""
        shown = re.sub(r"//[^@/]*@", "//", self.backend.uri)  # without credentials
        try:
            client = self.backend.client()
            experiment = client.get_experiment_by_name(self.name)
            if experiment is None:
                client.create_experiment(self.name, self.backend.artifact_location)
                return
        except Exception as error:  # MLflow's own, SQLAlchemy's, Alembic's and JSON's: all are about the URI
            raise ConfigError("uri", expected, f"{shown} ({error_text(error)})") from error
        if experiment.name != self.name:
            raise ConfigError("uri", expected, f"{shown} (it knows no experiments)")
        if experiment.lifecycle_stage != "active":
            raise ConfigError("experiment", "an experiment that is not deleted", self.name)

    def identifier(self, client: MlflowClient) -> str:
        """MLflow's id of the experiment.

        Raises:
            TrackingError: when the experiment was deleted.
        """
        if (experiment := client.get_experiment_by_name(self.name)) is None:
            raise TrackingError(f"MLflow has no experiment {self.name} any more; start again to create it")
        return str(experiment.experiment_id)

    def holds(self, client: MlflowClient, run_id: str) -> bool:
        """Whether the experiment has a run that is not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            info = client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(info.lifecycle_stage == "active" and info.experiment_id == self.identifier(client))


def child_runs(client: MlflowClient, experiment_id: str, run_id: str) -> Iterator[tuple[str, str]]:
    """Yields (id, status) of every child of a run, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`{PARENT}` = '{run_id}'", order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from ((run.info.run_id, run.info.status) for run in page)
        if not (token := page.token):
            return
