"""MLflow's backend store and artifact store: a SQLite database with a folder, or a server."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweep.core.errors import ConfigError
from sweep.tracking.database import address

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else MLflow adds the working directory's uv.lock to a model
}


@dataclass(frozen=True)
class Backend:
    """An MLflow database or server.

    Args:
        uri: `sqlite:///FILE` or the URL of a server.
        artifacts: the folder or URI for the artifacts of a new experiment; None for the default.
    """

    uri: str
    artifacts: str | None

    @property
    def database(self) -> Path | None:
        """The database's absolute path; None for a server.

        Raises:
            ConfigError: `uri` for a scheme that is neither SQLite nor HTTP.
        """
        path = self.uri.removeprefix("sqlite:///")
        if path != self.uri and path and path != ":memory:":
            return Path(path).absolute()
        with suppress(ValueError):  # unclosed brackets, an invalid port
            parts = urlsplit(self.uri)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return None
        raise ConfigError("uri", "sqlite:///FILE, http://HOST:PORT or https://HOST", self.uri)

    @property
    def artifact_folder(self) -> Path | None:
        """The absolute artifact folder of a new experiment; None for a URI, or if the server chooses it."""
        if self.artifacts is not None and "://" in self.artifacts:
            return None
        if (database := self.database) is None:
            return None
        return database.parent / "artifacts" if self.artifacts is None else Path(self.artifacts).absolute()

    @property
    def artifact_location(self) -> str | None:
        """The artifact URI of a new experiment; None leaves it to the server."""
        if self.artifacts is not None and "://" in self.artifacts:
            return self.artifacts
        return None if (folder := self.artifact_folder) is None else folder.as_uri()

    def client(self) -> MlflowClient:
        """An MLflow client with little logging, which gives up on a server within about ten seconds."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # Without its messages about retries, the error about an unreachable server is the only line.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        # The same for its tracebacks when the disk is full.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        from mlflow.tracking import MlflowClient

        uri = self.uri if (database := self.database) is None else address(database)
        return MlflowClient(uri, uri)
