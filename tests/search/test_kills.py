"""A sweep killed with -9 again and again, at random moments, against one that is not; `SWEEP_TEST_KILLS=20` kills so often."""

from __future__ import annotations

import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SWEEP_TEST_KILLS", "3"))
TRIALS = max(8, 3 * KILLS)  # so many that most kills find something under way
COSTS = {"seconds", "train_seconds", "stages_reused", "seconds_saved", "latency_ms", "latency_p10_ms", "latency_p90_ms"}


def command(output: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "sweep.main", "-m", "dataset.limit=300", "train.epochs=2", "prune.finetune=1"),
        *("model.width=0.5,1", "prune.sparsity=interval(0.2,0.9)", "quant=ptq,qat", "quant.bits=4,8"),
        *(f"hydra.sweeper.n_trials={TRIALS}", "sweep.name=s", f"output={output}"),
    ]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: text for key, text in row.items() if key not in COSTS} for row in csv.DictReader(file)]


def files(folder: Path) -> dict[str, str]:
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("trial-*/model.tflite")}


def test_it_ends_with_the_same_trials_and_the_same_front(tmp_path):
    subprocess.run(command(tmp_path / "whole"), cwd=ROOT, check=True, capture_output=True, timeout=600)
    draw = random.Random(0)
    killed = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            command(tmp_path / "cut"), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as sweep:
            try:
                sweep.communicate(timeout=draw.uniform(1, 25))
            except subprocess.TimeoutExpired:
                killed += 1
                if draw.random() < 0.5:
                    os.killpg(sweep.pid, signal.SIGKILL)  # the workers too
                else:
                    sweep.kill()
    assert killed > KILLS / 2
    end = subprocess.run(command(tmp_path / "cut"), cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert end.returncode == 0, end.stderr
    whole, cut = (tmp_path / name / "sweeps" / "s" for name in ("whole", "cut"))
    assert table(cut / "trials.csv") == table(whole / "trials.csv")
    assert table(cut / "pareto.csv") == table(whole / "pareto.csv")
    assert files(cut) == files(whole)
    assert len(files(whole)) >= 5

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'cut' / 'mlflow.db'}")
    states = [run.info.status for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
    assert "RUNNING" not in states
