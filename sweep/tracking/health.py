"""Whether runs could be logged, without creating anything."""

from __future__ import annotations

import re

from sweep.core.errors import ConfigError
from sweep.tracking.backend import Backend
from sweep.tracking.database import require_mlflow
from sweep.tracking.failures import error_text


def state(uri: str) -> str:
    """Whether a database or a server can be used, in a few words.

    Args:
        uri: as `tracking.uri`.

    Raises:
        ConfigError: at `uri`, for another file than an MLflow database, one of another version of MLflow, or a server that does
            not answer.
    """
    backend = Backend(uri, None)
    shown = re.sub(r"//[^@/]*@", "//", uri)  # without credentials
    database = backend.database
    if database is not None:
        if not database.exists() and not database.is_symlink():
            return f"{shown} is created by the first run"
        require_mlflow(database)
    try:
        count = len(backend.client().search_experiments(max_results=1000))
    except Exception as error:  # MLflow's own, SQLAlchemy's, Alembic's and JSON's
        expected = (
            "a server that answers" if database is None else f"this version's schema (mlflow db upgrade {shown}, after a copy)"
        )
        raise ConfigError("uri", expected, f"{shown} ({error_text(error)})") from error
    return f"{shown} answers: {count} experiments"
