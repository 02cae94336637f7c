"""A function in a process of its own: what it returns, raises, and dies of."""

from __future__ import annotations

import os
import signal
import time

import pytest

from sweep.core import isolated


def half(number: int) -> float:
    if number < 0:
        os.write(2, b"native code says why\n")
        raise ValueError("expected\na number of at least 0")
    return number / 2


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def sleep() -> None:
    time.sleep(60)


def test_a_result_comes_back():
    assert isolated.call(half, 3, seconds=60) == 1.5


@pytest.mark.parametrize(
    ("function", "arguments", "seconds", "reason"),
    [
        (half, (-1,), 60, "^expected a number of at least 0 native code says why$"),
        (die, (signal.SIGSEGV,), 60, "^its process died: signal 11, SIGSEGV$"),
        (die, (signal.SIGKILL,), 60, "^its process died: signal 9, SIGKILL: killed, likely for want of memory$"),
        (os._exit, (3,), 60, "^its process died: exit code 3$"),
        (sleep, (), 1, "^it took more than 1 s$"),
    ],
)
def test_a_failure_is_told_in_a_line(function, arguments, seconds, reason):
    with pytest.raises(isolated.FailedError, match=reason):
        isolated.call(function, *arguments, seconds=seconds)
