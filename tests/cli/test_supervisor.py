"""A command whose process dies is told in one line, with its stage, and leaves nothing in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.core import process_status

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, signal, sys, tempfile, time
from pathlib import Path
from sweep.cli import supervisor
from sweep.core import process_status

def command():
    {body}

print("before", flush=True)
code = supervisor.supervised(command)
print("after", code, flush=True)
sys.exit(code)
"""


def script(*lines: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE.format(body="\n    ".join(lines))]


def environment(temporary: Path) -> dict[str, str]:
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}


def run(tmp_path: Path, *lines: str, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*script(*lines), *words],
        env=environment(tmp_path / "temporary"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LEAVES = "Path(tempfile.mkstemp('__autograph_generated_file.py')[1]).write_text('x')"


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_the_commands(tmp_path, code):
    process = run(tmp_path, LEAVES, f"return {code}")
    assert process.returncode == code
    assert process.stdout.splitlines() == ["before", f"after {code}"]
    assert process.stderr == ""
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGTRAP", "SIGKILL"])
def test_a_death_is_told_with_its_signal_and_stage_here_and_in_the_runs_folder(tmp_path, number):
    folder = tmp_path / "run"
    folder.mkdir()
    process = run(
        tmp_path,
        LEAVES,
        f"process_status.begin(Path({str(folder)!r}))",
        "process_status.set_stage('during convert')",
        f"os.kill(os.getpid(), signal.{number})",
        "time.sleep(60)",
    )
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    memory = ": killed, likely for want of memory" if number == "SIGKILL" else ""
    told = f"the process that ran the trial is gone (signal {int(signal.Signals[number])}, {number}{memory}) during convert"
    assert line == f"error: {told}; finished stages are kept, and the same command goes on from them"
    assert (folder / "error.txt").read_text() == f"WorkerDied: {told}\n"
    assert not list((tmp_path / "temporary").iterdir())


def test_a_death_before_the_run_has_a_folder_is_told(tmp_path):
    process = run(tmp_path, "os.abort()")
    assert process.returncode == 1
    assert process.stderr.startswith("error: the process that ran the trial is gone (signal 6, SIGABRT); ")


def test_a_sweep_runs_in_the_process_that_was_started(tmp_path):
    same = run(tmp_path, "return 3 if tempfile.gettempdir() == os.environ['TMPDIR'] == sys.argv[2] else 4",
               words=("-m", str(tmp_path / "temporary")))  # fmt: skip
    assert same.returncode == 3


def started(tmp_path: Path, *lines: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        script("print(os.getpid(), flush=True)", *lines),
        env=environment(tmp_path / "temporary"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,  # noqa: PLW1509 - it touches no lock
    )


def hears_ctrl_c() -> None:
    """A shell's background job ignores SIGINT, and so would all that the tests start there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


WAITS = ("try: time.sleep(60)", "except KeyboardInterrupt:", "    time.sleep(0.5)", "    return 130")


@pytest.mark.parametrize("whom", ["parent", "both"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_the_child_once_and_the_parent_waits_for_its_code(tmp_path, number, whom):
    with started(tmp_path, *WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        process.stdout.readline()
        time.sleep(0.2)  # until the parent has set its own handlers
        (os.killpg if whom == "both" else os.kill)(process.pid, number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "after 130\n", "")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_killed_parent_takes_the_child_along(tmp_path):
    with started(tmp_path, "time.sleep(60)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        child = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_what_was_noted_last_is_read_and_damage_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(process_status._Current, "path", tmp_path / process_status._STATUS_FILE)
    monkeypatch.setattr(process_status._Current, "status", process_status.Status())
    process_status.begin(tmp_path / "run")
    process_status.set_stage("after convert")
    assert process_status.last_status(tmp_path) == process_status.Status("after convert", tmp_path / "run")
    process_status.begin(None)
    assert process_status.last_status(tmp_path) == process_status.Status()
    (tmp_path / process_status._STATUS_FILE).write_text('{"stage"')
    assert process_status.last_status(tmp_path) == process_status.Status()
    assert process_status.last_status(tmp_path / "gone") == process_status.Status()


@pytest.mark.slow
def test_a_plain_run_whose_network_aborts_is_told(tmp_path):
    """Hydra and TensorFlow are there by then, and their threads."""
    environ = {**environment(tmp_path / "temporary"), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    words = ("model._target_=faulty.Aborts", "model.width=2", "tracking=none", "dataset.limit=60", "sweep.name=r")
    for name in ("main", "sensitivity"):
        process = subprocess.run(
            [sys.executable, "-m", f"sweep.{name}", *words, f"output={tmp_path / name}"],
            env=environ, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert process.returncode == 1
        told = "the process that ran the trial is gone (signal 6, SIGABRT) during check"
        assert process.stderr.splitlines()[-1].startswith(f"error: {told}; ")
        assert (tmp_path / name / "runs" / "r" / "error.txt").read_text() == f"WorkerDied: {told}\n"
        assert not list((tmp_path / "temporary").iterdir())
