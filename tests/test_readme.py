"""Every command of the README and of the pages in docs/ runs: the sweep's own in small, make's by name."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import real_file
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in re.findall(r"(?:^    .*\n)+", page.read_text(), re.MULTILINE)]
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in re.sub(r"\\\n\s*", "", block).splitlines()]
COMMANDS = [line for line in LINES if line.startswith(("python -m sweep.main", "python -m sweep.sensitivity"))]
MEASURING = [line for line in LINES if line.startswith("python -m sweep.measure")]
OTHERS = [
    line for line in LINES if line.startswith(("python -m sweep.", "python tests/")) and line not in (*COMMANDS, *MEASURING)
]
TARGETS = {line.split()[1] for line in LINES if line.startswith("make ")}

IN_SMALL = ["train.epochs=1", "prune.finetune=1", "tracking=none"]
FEW_TRIALS = ["train.epochs=1", "hydra.sweeper.n_trials=2", "tracking=none"]  # an experiment has axes of its own


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_there_are_commands_to_run():
    assert len(COMMANDS) >= 5
    assert len([command for command in COMMANDS if "sweep.name=first" in command]) == 1
    assert {command.split()[2] for command in COMMANDS} == {"sweep.main", "sweep.sensitivity"}
    assert {command.split()[2] for command in OTHERS} == {
        "sweep.report",
        "sweep.best",
        "sweep.cache",
        "sweep.pack",
        "sweep.doctor",
    }
    assert len(MEASURING) >= 2
    assert {"demo", "test", "check", "ui"} <= TARGETS


@pytest.fixture(scope="module")
def few_images(tmp_path_factory):
    """From the name of an .npz to a file of its first images: measuring them all would be most of a test's time."""

    @functools.cache
    def few(name):
        path = tmp_path_factory.mktemp("data") / name
        with np.load(real_file(name)) as arrays:
            np.savez(path, **{key: array[: 3000 if key.endswith("train") else 500] for key, array in arrays.items()})
        return path

    return few


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What a page calls theirs.tflite, and published.csv beside it: a file for the digits, and a point."""
    folder = tmp_path_factory.mktemp("theirs")
    words = [sys.executable, "-m", "sweep.main", *IN_SMALL, "sweep.name=theirs", f"output={folder}"]
    subprocess.run(words, capture_output=True, timeout=400, cwd=ROOT, check=True)
    (folder / "runs" / "theirs" / "model.tflite").rename(folder / "theirs.tflite")
    (folder / "published.csv").write_text("name,accuracy,bytes,source\nA,0.97,30000,somebody\n")
    return folder


def placed(command, folder):
    """The words of a command that names files of others, where these are in a folder."""
    return shlex.split(re.sub(r"\b(theirs\.tflite|published\.csv)", rf"{folder}/\1", command))[1:]


@pytest.mark.slow
@pytest.mark.parametrize("command", MEASURING)
def test_a_command_that_measures_runs(command, tmp_path, theirs):
    words = [sys.executable, *placed(command, theirs), f"output={tmp_path}"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
    assert process.returncode == 0, process.stderr
    assert len(list(tmp_path.glob("measured/*/metrics.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, tmp_path, request):
    """Those that read what a sweep left follow it in the same test."""
    experiment = "+experiment=" in command
    if "theirs.tflite" in command:
        command = shlex.join(["python", *placed(command, request.getfixturevalue("theirs"))])
    words = [sys.executable, *shlex.split(command)[1:], *(FEW_TRIALS if experiment else IN_SMALL), f"output={tmp_path}"]
    if experiment or "dataset=mnist" in words:
        name = "cifar10.npz" if "+experiment=devices" in words else "mnist.npz"
        words += [f"dataset.path={request.getfixturevalue('few_images')(name)}", "dataset.limit=300"]
    if "dataset=arrays" in words:
        draws = np.random.default_rng(0)
        images = {f"x_{part}": draws.integers(0, 256, (60, 20, 12, 3), np.uint8) for part in ("train", "test")}
        np.savez(tmp_path / "mine.npz", **images, y_train=np.arange(60) % 4, y_test=np.arange(60) % 4)
        words[words.index("dataset.path=mine.npz")] = f"dataset.path={tmp_path / 'mine.npz'}"
    if "dataset=folder" in words:
        noise = np.random.default_rng(0)
        for label, number in np.ndindex(3, 40):
            place = tmp_path / "photos" / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (30 + label, 40, 3), np.uint8)).save(place / f"{number}.png")
        words[words.index("dataset.path=photos")] = f"dataset.path={tmp_path / 'photos'}"
    process = subprocess.run(words, capture_output=True, text=True, timeout=400, cwd=ROOT, check=False)
    assert process.returncode == 0, process.stderr
    trials = 1
    if "-m" in words[3:]:
        trials = next((int(word.partition("=")[2]) for word in words if "n_trials" in word), 4)
    left = "sensitivity.csv" if "sweep.sensitivity" in words else "model.tflite"
    assert len([*tmp_path.rglob(left), *tmp_path.rglob("pruned.txt")]) == trials
    if "sweep.name=first" in words:
        for other in (line.replace("mlruns", str(tmp_path)) for line in OTHERS):
            place = ["--output", str(tmp_path)]
            if "sweep.cache" in other:
                place = ["--store", str(tmp_path / "cache")]
            elif "sweep.pack" in other or "sweep.doctor" in other:
                place = []
            process = subprocess.run(
                [sys.executable, *shlex.split(other)[1:], *place],
                capture_output=True,
                text=True,
                timeout=120,
                cwd=ROOT,
                check=False,
            )
            assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_of_the_readme_is_made(target):
    listed = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, cwd=ROOT, check=False)
    assert listed.returncode == 0, listed.stderr
