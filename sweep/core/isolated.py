"""A function in a process of its own: native code that crashes, or never ends, takes nothing else with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sweep.core import native, process_status
from sweep.core.errors import shortened

_SPAWN = multiprocessing.get_context("spawn")  # nothing of this process is inherited
_Result = TypeVar("_Result")


class FailedError(RuntimeError):
    """The function raised an error that it may, or its process died or took too long: which, in one line."""


def call(function: Callable[..., _Result], *arguments: Any, seconds: float) -> _Result:
    """Calls a function of a module in a process of its own, what it writes to stderr caught.

    Args:
        function: what is called; it and its result can be pickled. It raises a RuntimeError or a ValueError where it fails.
        arguments: of the call.
        seconds: how long it may take.

    Returns:
        Its result.

    Raises:
        FailedError: with the reason.
    """
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise FailedError(f"it took more than {seconds:g} s")
        result, error = ours.recv()
    except EOFError:
        process.join()
        raise FailedError(f"its process died: {process_status.cause(process.exitcode)}") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if error:
        raise FailedError(error)
    returned: _Result = result
    return returned


def _work(parent: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with native.caught() as last_line:
        try:
            outcome: tuple[Any, str] = (function(*arguments), "")
        except (RuntimeError, ValueError) as error:
            outcome = (None, shortened(f"{error} {last_line()}") or type(error).__name__)
    parent.send(outcome)
