"""The SQLite file that MLflow writes to: its URI, its lock, and a check that it is MLflow's."""

from __future__ import annotations

import re
import sqlite3
import stat
from pathlib import Path

from sweep.core.errors import ConfigError
from sweep.core.writable import writable


def address(database: Path) -> str:
    """The URI of a database, with special characters of the path escaped.

    An escaped path needs the scheme `sqlite+pysqlite`: for plain `sqlite`, MLflow creates the folders without unescaping.
    """
    path = re.sub("[%?#]", lambda letter: f"%{ord(letter[0]):02X}", str(database))
    return f"sqlite:///{path}" if path == str(database) else f"sqlite+pysqlite:///{path}"


def require_mlflow(database: Path) -> None:
    """Refuses an existing file that is not a writable MLflow database, before MLflow adds its tables to it.

    Raises:
        ConfigError: at `uri`.
    """
    try:
        regular = stat.S_ISREG(database.stat().st_mode)
    except FileNotFoundError:
        if not database.resolve().parent.is_dir():  # a broken link, which SQLite would retry for long
            raise ConfigError("uri", "a file that can be written to", f"{database} (a link that leads nowhere)") from None
        return
    except OSError as error:
        raise ConfigError("uri", "a file that can be written to", f"{database} ({error.strerror})") from error
    if not regular or not writable(database):
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
