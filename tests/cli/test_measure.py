"""`sweep.measure` as a user has it: a file in, its metrics out, one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import public_model, real_file
from made_files import tiny

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = "mlperf_tiny_image_classification_int8.tflite"
TRIALS_ALONE = {"float_accuracy", "conversion_gap", "compression", "train_seconds", "stages_reused", "seconds_saved"}


def command(module: str, *arguments: str | Path, output: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", f"sweep.{module}", *map(str, arguments), f"output={output}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)


def refused(*arguments: str | Path, output: Path) -> str:
    process = command("measure", *arguments, output=output)
    assert (process.returncode, process.stdout) == (2, "")
    [line] = process.stderr.splitlines()
    assert not list(output.rglob("*.json"))
    assert not list(output.glob("measured/*"))
    return line


def test_a_mistake_is_told_in_one_line(tmp_path):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(tiny("INT8"))
    assert refused(path, output=tmp_path / "out") == f"error: {path}: expected an input of 8x8x1 (digits); received 2x2x1"
    line = refused(path, "quant=ptq", output=tmp_path / "out")
    assert line.startswith(
        "error: command line: expected keys out of dataset, target, threads, output, sweep.name, which sweep.measure"
    )
    assert "expected one configuration, without -m" in refused(path, "-m", output=tmp_path / "out")
    assert refused("dataset=digits", output=tmp_path / "out").endswith("expected a .tflite file; received nothing")
    assert "--range" in refused(path, "--range", "black", "white", output=tmp_path / "out")


def test_references_are_no_matter_of_a_single_run(tmp_path):
    process = command("main", "sweep.references=[a.tflite]", output=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("error: sweep.references: expected none in a single run")


@pytest.mark.slow
def test_a_file_has_the_metrics_of_the_trial_that_made_it(tmp_path):
    small = ["train.epochs=1", "prune=none", "tracking=none", "sweep.name=made", "threads=1"]
    assert command("main", *small, output=tmp_path).returncode == 0
    made = tmp_path / "runs" / "made"
    process = command("measure", made / "model.tflite", "sweep.name=theirs", output=tmp_path)
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "measured" / "theirs"
    assert process.stdout.splitlines()[-1] == f"{folder}/metrics.json"
    assert "int8 input, pixels as 0 to 1" in process.stderr
    of_trial, found = (json.loads((place / "metrics.json").read_text()) for place in (made, folder))
    assert of_trial.keys() - found.keys() == TRIALS_ALONE
    same = [name for name in found if not name.startswith("latency")]
    assert {name: found[name] for name in same} == {name: of_trial[name] for name in same}
    assert [line.split()[0] for line in process.stdout.splitlines()[:-1]] == list(found)
    board = ["target=tflm", "target.images=20", "target.ram_kib=1", "sweep.name=board"]
    process = command("measure", made / "model.tflite", *board, output=tmp_path)
    assert process.returncode == 1
    there = json.loads((tmp_path / "measured" / "board" / "metrics.json").read_text())
    assert there.keys() - found.keys() == {"target_agreement"}
    assert there["arena_bytes"] == found["arena_bytes"]
    assert process.stderr.splitlines()[-1] == (
        f"error: AuditError: target.ram_kib: expected at most 1 KiB, found {there['arena_bytes'] / 1024:.1f} (arena_bytes)"
    )


@pytest.mark.slow
def test_mlperf_tinys_file_reaches_what_is_known_of_it(tmp_path):
    """87.0 %, 98,496 bytes: mlcommons/tiny, image classification, int8, all of CIFAR-10's test images."""
    data = ["dataset=cifar10", f"dataset.path={real_file('cifar10.npz')}"]
    process = command("measure", public_model(PUBLIC), *data, "sweep.name=theirs", output=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "int8 input, pixels as 0 to 255" in process.stderr
    found = json.loads((tmp_path / "measured" / "theirs" / "metrics.json").read_text())
    assert found["size_bytes"] == 98_496
    assert found["test_accuracy"] == pytest.approx(0.8697, abs=0.0005)
    assert found["macs"] == 12_501_632
    assert found["val_accuracy"] > 0.91, "it has learnt from these images"
