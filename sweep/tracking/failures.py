"""Conversion of MLflow's errors to TrackingError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweep.tracking.tracker import TrackingError


def error_text(error: BaseException) -> str:
    """The class and the first line of an error's innermost cause."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


@contextmanager
def tracking_errors(what: str) -> Iterator[None]:
    """Turns any error of MLflow or the file system into a TrackingError that names what was logged."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"MLflow could not log {what}: {error_text(error)}") from error
