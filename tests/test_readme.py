"""Every command of the README runs: the sweep's own in small, make's by name."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import real_file

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in re.sub(r"\\\n\s*", "", block).splitlines()]
COMMANDS = [line for line in LINES if line.startswith("python -m sweep.main")]
OTHERS = [line for line in LINES if line.startswith(("python -m sweep.", "python tests/")) and line not in COMMANDS]
TARGETS = {line.split()[1] for line in LINES if line.startswith("make ")}

IN_SMALL = ["train.epochs=1", "prune.finetune=1", "tracking=none"]


def test_there_are_commands_to_run():
    assert len(COMMANDS) >= 4
    assert {"demo", "test", "check", "ui"} <= TARGETS


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, tmp_path):
    words = [sys.executable, *shlex.split(command)[1:], *IN_SMALL, f"output={tmp_path}"]
    if "dataset=mnist" in words:
        words += [f"dataset.path={real_file('mnist.npz')}", "dataset.limit=300"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=400, cwd=ROOT, check=False)
    assert process.returncode == 0, process.stderr
    assert len(list(tmp_path.rglob("model.tflite"))) == (4 if "-m" in words[3:] else 1)


@pytest.mark.parametrize("command", OTHERS)
def test_a_lesser_command_of_the_readme_runs(command, tmp_path):
    process = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_of_the_readme_is_made(target):
    listed = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, cwd=ROOT, check=False)
    assert listed.returncode == 0, listed.stderr
