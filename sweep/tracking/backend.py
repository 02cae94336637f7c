"""Where MLflow keeps its runs and their files: a database beside a folder, or a server."""

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
    "MLFLOW_UV_AUTO_DETECT": "false",  # or it puts the uv.lock of the working directory into a model
}


@dataclass(frozen=True)
class Backend:
    """A database or a server of MLflow's.

    Args:
        uri: `sqlite:///FILE` or a server's address.
        artifacts: the folder, or the URI, that a new experiment keeps its files under; None for the default.
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
        with suppress(ValueError):  # brackets of an address that do not close, a port that is no number
            parts = urlsplit(self.uri)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return None
        raise ConfigError("uri", "sqlite:///FILE, http://HOST:PORT or https://HOST", self.uri)

    @property
    def artifact_folder(self) -> Path | None:
        """The absolute folder that a new experiment keeps its files under; None where that is a URI, or the server's choice."""
        if self.artifacts is not None and "://" in self.artifacts:
            return None
        if (database := self.database) is None:
            return None
        return database.parent / "artifacts" if self.artifacts is None else Path(self.artifacts).absolute()

    @property
    def artifact_location(self) -> str | None:
        """The URI that a new experiment keeps its files under; None leaves it to the server."""
        if self.artifacts is not None and "://" in self.artifacts:
            return self.artifacts
        return None if (folder := self.artifact_folder) is None else folder.as_uri()

    def client(self) -> MlflowClient:
        """MLflow's client, which logs little and gives up on a server within about ten seconds."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # Its retries would stand above our own line about a server that does not answer.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        # And its tracebacks above our line about a full disk.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        from mlflow.tracking import MlflowClient

        uri = self.uri if (database := self.database) is None else address(database)
        return MlflowClient(uri, uri)
