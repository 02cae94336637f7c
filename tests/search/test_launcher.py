"""The default launcher for real: a trial that takes its process down, a parent that is killed, several workers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweep.search.worker import _sendable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["dataset.limit=200", "train.epochs=1", "prune=none", "quant=none"]


def command(*arguments: str, output: Path, quick: Sequence[str] = QUICK) -> list[str]:
    return [sys.executable, "-m", "sweep.main", "-m", *arguments, *quick, "sweep.name=s", f"output={output}"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "tests")}


def state(output: Path, number: int) -> dict:
    return json.loads((output / "sweeps" / "s" / f"trial-{number:03d}" / "trial.json").read_text())


def test_a_trial_that_aborts_is_a_failure_with_its_reason_and_the_sweep_goes_on(tmp_path):
    process = subprocess.run(
        command("model._target_=faulty.Aborts", "model.width=1,2,0.5", output=tmp_path),
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert [state(tmp_path, number)["state"] for number in range(3)] == ["COMPLETE", "FAIL", "COMPLETE"]
    reason = "WorkerDied: the process that ran the trial is gone (signal 6, SIGABRT) during check"
    assert state(tmp_path, 1)["error"] == reason
    assert (tmp_path / "sweeps" / "s" / "trial-001" / "error.txt").read_text().strip() == reason
    assert f"trial 2 failed: {reason}" in process.stderr
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "sweep"]
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert states == {"s": "FAILED", "trial-000": "FINISHED", "trial-001": "FAILED", "trial-002": "FINISHED"}


@pytest.mark.parametrize("how", ["parent killed", "worker killed", "interrupted"])
def test_a_sweep_that_is_stopped_loses_nothing_finished_and_goes_on(tmp_path, how):
    marker = tmp_path / "under-way"
    words = command(
        "model._target_=faulty.Waits", f"+model.marker={marker}", "model.width=1,2,0.5", "tracking=none", output=tmp_path
    )
    with subprocess.Popen(
        words,
        env=environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,  # noqa: PLW1509 - it touches no lock
    ) as parent:
        deadline = time.monotonic() + 200
        while not marker.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        workers = children(parent.pid)
        if how == "worker killed":
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
        else:
            parent.send_signal(signal.SIGKILL if how == "parent killed" else signal.SIGINT)
        told = parent.communicate(timeout=200)[1]
    if how == "interrupted":
        assert parent.returncode == 130
        assert "Traceback" not in told
    assert state(tmp_path, 0)["state"] == "COMPLETE"
    deadline = time.monotonic() + 30
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(worker) for worker in workers)
    first = (tmp_path / "sweeps" / "s" / "trial-000" / "model.tflite").stat().st_mtime_ns

    again = subprocess.run(words, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "sweeps" / "s" / "trial-000" / "model.tflite").stat().st_mtime_ns == first
    states = [state(tmp_path, number)["state"] for number in range(3)]
    assert states == ["COMPLETE", "FAIL" if how == "worker killed" else "COMPLETE", "COMPLETE"]


def hears_ctrl_c() -> None:
    """A shell's background job ignores SIGINT, and so would all that the tests start there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def children(process: int) -> list[int]:
    """The pids of a process's children that are workers (multiprocessing's own tracker is none)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            line = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == process and "spawn_main" in line:
            found.append(int(path.parent.name))
    assert found
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_workers_share_the_trials_and_the_cache(tmp_path):
    quick = [*QUICK[:2], "prune.finetune=0", "quant=none", "tracking=none"]
    words = command("prune.sparsity=0.1,0.2,0.3", "hydra.sweeper.n_jobs=2", output=tmp_path, quick=quick)
    process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    metrics = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweeps/s/trial-*/metrics.json"))]
    assert len(metrics) == 3
    assert sum(one["stages_reused"] for one in metrics) == 2  # the training was done once
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for path in tmp_path.glob("sweeps/s/trial-*/config.yaml"):
        assert f"threads: {threads}\n" in path.read_text()


def test_two_sweeps_at_once_share_an_empty_store(tmp_path):
    both = [
        subprocess.Popen(
            [*command("prune.sparsity=0.1,0.2", output=tmp_path, quick=[*QUICK[:2], "prune.finetune=0", "quant=none"])[:-2],
             f"sweep.name={name}", f"output={tmp_path}"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for name in ("one", "other")
    ]  # fmt: skip
    told = [sweep.communicate(timeout=400)[1] for sweep in both]
    assert [sweep.returncode for sweep in both] == [0, 0], told
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
    assert sorted(run.info.run_name for run in runs) == ["one", "other", *["trial-000"] * 2, *["trial-001"] * 2]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_hydras_own_launcher_works_in_its_place(tmp_path):
    quick = [*QUICK[:2], "prune=none", "quant=none", "tracking=none", "hydra/launcher=basic"]
    words = command("model.width=0.5,1", output=tmp_path, quick=quick)
    process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    assert [state(tmp_path, number)["state"] for number in range(2)] == ["COMPLETE", "COMPLETE"]


def test_an_exception_that_cannot_be_sent_is_told_in_words():
    class Local(Exception):
        def __init__(self, one, two):
            super().__init__("what happened")

    assert str(_sendable(Local(1, 2))) == "Local: what happened"
    assert isinstance(_sendable(ValueError("x")), ValueError)
