"""Hydra's own launchers in place of the default one: joblib, Ray, submitit (its local executor, in place of Slurm).

Each runs one sweep of four points, in two batches of two. One trial of the first batch takes its process down, one of the
second raises; the two others must come out as with the default launcher.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from sweep.models import families
from sweep.search import batches

ROOT = Path(__file__).resolve().parents[2]
# What a trial cost and how fast the machine was: no two sweeps agree on these.
TIMES = {"latency_ms", "latency_p10_ms", "latency_p90_ms", "train_seconds", "stages_reused", "seconds_saved"}
WIDTHS = (1, 2, 0.5, 3)
DEAD = "WorkerDied: the process that ran the trial is gone (signal 6, SIGABRT) during check"
REFUSED = (
    "ConfigError: model: expected a Sequential or functional Keras 2 model (tf_keras) from build((8, 8, 1), 10);"
    " received ArithmeticError: on purpose"
)
ERRORS = [None, DEAD, None, REFUSED]


@dataclass(frozen=True, kw_only=True)
class Breaks(families.LeNet5):
    """Takes the process down when its width is 2, raises when it is 3."""

    def build(self, input_shape: families.Shape, classes: int) -> Any:
        if self.width == 2:
            os.abort()
        if self.width == 3:
            raise ArithmeticError("on purpose")
        return super().build(input_shape, classes)


def swept(launcher: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The sweep of six, run in `folder`, with a relative output, though a launcher may run trials in another folder."""
    words = [
        "model._target_=test_other_launchers.Breaks", f"model.width={','.join(map(str, WIDTHS))}", f"hydra/launcher={launcher}",
        "hydra.sweeper.n_jobs=2", "sweep.name=s", "output=mlruns", "dataset.limit=200", "train.epochs=1", "prune=none",
        "quant=none", *more,
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "sweep.main", "-m", *words],
        # Another home, since Ray keeps a token there.
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "HOME": str(folder)},
        cwd=folder, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def trial(folder: Path, number: int, name: str = "trial.json") -> dict[str, Any]:
    return json.loads((folder / "mlruns" / "sweeps" / "s" / f"trial-{number:03d}" / name).read_text())


def untimed(folder: Path, number: int) -> dict[str, Any]:
    return {name: value for name, value in trial(folder, number, "metrics.json").items() if name not in TIMES}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the default launcher's sweep."""
    folder = tmp_path_factory.mktemp("workers")
    process = swept("workers", folder)
    assert "2 of 4 trials failed (trial-001, trial-003)" in process.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "ray", "submitit_local"])
def test_a_sweep_comes_out_as_with_the_default_launcher_its_failures_included(launcher, tmp_path, reference):
    # Ray would otherwise join a cluster that it finds on this machine.
    own = ["hydra.launcher.ray.init.address=local"] if launcher == "ray" else []
    process = swept(launcher, tmp_path, *own)
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for number, error in enumerate(ERRORS):
        folder = tmp_path / "mlruns" / "sweeps" / "s" / f"trial-{number:03d}"
        assert trial(tmp_path, number)["error"] == error, process.stderr
        assert f"threads: {threads}\n" in (folder / "config.yaml").read_text()
        assert (folder / "log").exists()
        if error is None:
            assert untimed(tmp_path, number) == untimed(reference, number)
        else:
            assert (folder / "error.txt").read_text().strip() == error
    assert_logged_below_the_sweep(tmp_path)


def assert_logged_below_the_sweep(folder: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "sweep"]
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run.info.run_id for run in runs if run.info.run_name == "s"]
    children = sorted((run for run in runs if run.info.run_id != parent), key=lambda run: run.info.run_name)
    assert [run.info.run_name for run in children] == [f"trial-{number:03d}" for number in range(len(ERRORS))]
    for number, (run, error) in enumerate(zip(children, ERRORS, strict=True)):
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.info.status == ("FINISHED" if error is None else "FAILED")
        assert trial(folder, number)["run_id"] == (run.info.run_id if error is None else None)


class Launcher:
    """One that loses its batches: it lets the trials of `begun` write what a trial writes, and then raises."""

    def __init__(self, folder: Path, begun: Mapping[int, dict[str, float] | str | None]) -> None:
        self.folder, self.begun, self.task_function = folder, begun, print

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        for number, metrics in self.begun.items():
            folder = self.folder / f"trial-{number:03d}"
            (folder / "config.yaml").touch()
            if isinstance(metrics, str):
                (folder / "pruned.txt").write_text(metrics + "\n")
                if metrics.startswith("refused"):
                    (folder / "known.json").write_text('{"size_bytes": 3072}')
            elif metrics is not None:
                (folder / "metrics.json").write_text(json.dumps(metrics))
        raise TimeoutError("the node is gone")


def lost(folder: Path, begun: Mapping[int, dict[str, float] | str | None]) -> Mapping[int, JobReturn]:
    """What a pool says of the trials 4 and 5 when the launcher loses them."""
    pool = batches.Batches(Launcher(folder, begun), 2, folder)
    for number in (4, 5):
        (folder / f"trial-{number:03d}").mkdir()
        pool.submit(number, [])
    return pool.wait()


def test_of_a_lost_batch_what_has_its_metrics_is_complete_and_the_rest_has_failed(tmp_path):
    told = lost(tmp_path, {4: {"val_accuracy": 0.5}, 5: None})
    assert told[4].status is JobStatus.COMPLETED
    assert told[4].return_value == {"val_accuracy": 0.5, "run_id": None}
    assert told[5].status is JobStatus.FAILED
    assert str(told[5]._return_value) == "the node is gone"


def test_of_a_lost_batch_what_was_stopped_early_is_no_failure(tmp_path):
    assert lost(tmp_path, {4: "trial-000 is ahead", 5: None})[4]._return_value == {"pruned": "trial-000 is ahead"}


def test_of_a_lost_batch_what_was_refused_before_training_is_no_failure_either(tmp_path):
    told = lost(tmp_path, {4: "refused before training", 5: None})[4]
    assert told._return_value == {"pruned": "refused before training", "size_bytes": 3072}


def test_a_launcher_that_cannot_begin_anything_ends_the_sweep(tmp_path):
    with pytest.raises(TimeoutError, match="the node is gone"):
        lost(tmp_path, {})


def test_the_folder_of_a_sweep_may_have_any_name(tmp_path):
    folder = tmp_path / "it's 1, a=b (c)"
    folder.mkdir()
    pool = batches.Batches(Launcher(folder, {}), 1, folder)
    pool.submit(0, ["seed=1"])
    [_, place] = OverridesParser.create().parse_overrides(pool._batch[0])
    assert (place.key_or_group, place.value()) == ("hydra.sweep.dir", str(folder))
