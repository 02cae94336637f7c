"""The command in a sweep's record goes on with it, and makes its files again where they are gone."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import CONF
from test_sweeper import launcher, loader, master, swept  # noqa: F401 - fixtures


def command(tmp_path):
    [path] = tmp_path.glob("sweeps/*/sweep.json")
    return shlex.split(json.loads(path.read_text())["command"])


def test_the_command_has_every_override_as_it_was_given(loader, master, launcher, tmp_path):  # noqa: F811
    given = ["prune.sparsity=0.5,0.8", "distill=kd", "pipeline.order=[distill, prune, 'quant']"]
    swept(launcher, loader, master, *given)
    assert command(tmp_path)[:4] == ["python", "-m", "sweep.main", "-m"]
    assert command(tmp_path)[4:] == [f"output={tmp_path}", "sweep.name=s1", "tracking=none", *given]


@pytest.mark.slow
def test_the_command_makes_the_same_files(tmp_path):
    conf = tmp_path / "my conf"
    (conf / "model").mkdir(parents=True)
    (conf / "experiment").mkdir()
    (conf / "other.yaml").write_text("defaults:\n  - config\n  - _self_\nseed: 3\n")
    (conf / "experiment" / "two.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /quant: none\nhydra: {sweeper: {params: {prune.sparsity: '0.5,0.6'}}}\n"
    )
    shutil.copy(CONF / "model" / "lenet5.yaml", conf / "model" / "my net.yaml")
    words = [
        "-cd", "my conf", "-m", "-cn", "other", "+experiment=two", "model='my net'", "model.width=0.2", "train.epochs=1",
        "dataset.limit=64", "prune.finetune=0", "tracking=none", "output=out", "hydra.sweeper.max_failure_rate=0.4",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "sweep.main", *words], cwd=tmp_path, check=True, capture_output=True)
    [folder] = (tmp_path / "out" / "sweeps").iterdir()
    again = command(tmp_path / "out")
    first = {path.parent.name: path.read_bytes() for path in folder.glob("*/model.tflite")}
    assert len(first) == 2
    ran = subprocess.run([sys.executable, *again[1:]], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "nothing left to run" in ran.stderr
    shutil.rmtree(tmp_path / "out")
    subprocess.run([sys.executable, *again[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert {path.parent.name: path.read_bytes() for path in folder.glob("*/model.tflite")} == first
    assert command(tmp_path / "out") == again
