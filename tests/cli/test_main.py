"""The command line as a user has it: processes, exit codes, one line for a mistake, and files that an outsider can check."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import real_file

from sweep.tflite import external, tflm

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["train.epochs=4", "prune.finetune=2"]


def sweep(*arguments: str, output: Path, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.main", *arguments, f"output={output}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def independent(*arguments: str | Path) -> dict:
    """What a script that shares no code with the project finds in a file."""
    command = [sys.executable, str(ROOT / "tests" / "independent.py"), *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)


def told(process: subprocess.CompletedProcess[str]) -> str:
    assert process.stdout == ""
    assert "Traceback" not in process.stderr
    [line] = process.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["prune.sparsty=0.5"], "prune: expected one of the keys finetune, learning_rate, sparsity, layers, schedule (did you"),
        (["prune.sparsty=0.5"], "(did you mean sparsity?); received sparsty"),
        (["modle=lenet5"], "(did you mean model?); received modle"),
        (["model=lnet5"], "model: expected one of cnn, khan_assistant,"),
        (["modl@distill.teacher=cnn"], "command line: expected a key or group of the configuration"),
        (["prune.sparsity=1.5"], "prune.sparsity: expected a number in [0, 1); received 1.5"),
        (["quant.bits=9"], "quant.bits: expected an integer of at least 2 and at most 8; received 9"),
        (["distill=kd", "distill.temperature=0"], "distill.temperature: expected a number in [0.001, 1000]; received 0"),
        (["train.epochs=-1"], "train.epochs: expected an integer of at least 1 and at most 100000; received -1"),
        (["prune.sparsity=[1"], "command line: expected KEY=VALUE in Hydra's grammar; received prune.sparsity=[1"),
        (["dataset=mnist", "dataset.path=/nowhere.npz"], "received /nowhere.npz, which does not exist"),
        (["model=cnn", "model.filters=[]", "prune.layers=conv"], "prune.layers: expected a kind of layer that the model has"),
        (["model=cnn", "model.filters=[8,8,8,8]"], "model: expected images of at least 16x16 pixels; received 8x8"),
        (["tracking.uri=ftp://x"], "tracking.uri: "),
        (["tracking.uri=http://127.0.0.1:9"], "tracking.uri: expected an MLflow server that answers"),
        (["tracking.uri=null"], "tracking.uri: expected a text; received None"),
        (["prune=null"], "command line: expected GROUP=CHOICE, with the name of a choice"),
        (["quant=none", "quant.bits=8"], "quant: expected one of the keys sparse, strip; received bits"),
        (["sweep.name=a/b"], "sweep.name: expected letters"),
        (["quant.bits='8'"], "quant.bits: expected an integer of at least 2 and at most 8; received '8'"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_exit_code_2(tmp_path, overrides, line):
    process = sweep(*overrides, output=tmp_path)
    assert process.returncode == 2
    assert line in told(process)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".entry", ".tflite")]


@pytest.mark.parametrize("place", ["", "null", "/proc/nothing"])
def test_a_place_that_is_none_is_refused_before_anything_is_made(tmp_path, place):
    command = [sys.executable, "-m", "sweep.main", f"output={place}"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert process.returncode == 2
    assert told(process).startswith("error: output: expected ")
    assert not list(tmp_path.iterdir())


def test_a_mistake_anywhere_in_a_sweep_is_refused_before_it_starts(tmp_path):
    process = sweep("prune.sparsity=0.5,1.5", "-m", output=tmp_path)  # people write -m anywhere
    assert process.returncode == 2
    assert "prune.sparsity: expected a number in [0, 1); received 1.5" in told(process)
    assert not list(tmp_path.iterdir())


def test_a_read_only_place_is_refused(tmp_path):
    closed = tmp_path / "mlruns"
    closed.mkdir(mode=0o555)
    for mode in ([], ["-m"]):
        process = sweep(*mode, output=closed)
        assert process.returncode == 2
        assert told(process).startswith("error: output: expected a folder that can be written to")
        assert not list(closed.iterdir())


@pytest.mark.parametrize("damage", ["truncated", "shape", "labels"])
def test_damaged_data_is_refused(tmp_path, damage):
    rng, path = np.random.default_rng(0), tmp_path / "data.npz"
    images = {name: rng.integers(0, 256, (20, 28, 28), np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(20) % 10 for name in ("y_train", "y_test")}
    if damage == "shape":
        images["x_train"] = images["x_train"][:, :27]
    if damage == "labels":
        labels["y_test"] = labels["y_test"] + 1
    np.savez(path, **images, **labels)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    process = sweep("dataset=mnist", f"dataset.path={path}", output=tmp_path / "out")
    assert process.returncode == 2
    assert told(process).startswith("error: dataset.path: expected ")
    assert "data.npz" in told(process)


def test_help_names_the_groups_and_imports_no_tensorflow(tmp_path):
    code = "import sys; sys.argv = ['main', '--help']; from sweep.main import main; main(); print(*sorted(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    *_, modules = process.stdout.splitlines()
    assert "quant: dynamic, float16, none, ptq, qat" in process.stdout
    assert "quant/weight_range: minmax, mse, octav" in process.stdout
    assert "/settings" not in process.stdout
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert not loaded & {"tensorflow", "tf_keras", "mlflow", "optuna", "sklearn", "ai_edge_litert", "rich", "numpy"}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The grid of the front page, in quick, run for real."""
    output = tmp_path_factory.mktemp("grid")
    process = sweep("-m", "prune.sparsity=0.5,0.8", "quant=ptq,qat", *QUICK, "sweep.name=g", output=output)
    assert process.returncode == 0, process.stderr
    return output, process


POINTS = [f"prune.sparsity={sparsity} quant={kind}" for kind in ("ptq", "qat") for sparsity in (0.5, 0.8)]


@pytest.mark.slow
def test_the_grid_says_what_runs_what_is_reused_and_what_remains(grid):
    _, process = grid
    lines = process.stderr.splitlines()
    for number, point in enumerate(POINTS, start=1):
        assert any(line.startswith(f"trial {number} of 4: {point}") for line in lines)
    assert sum("distill" in line and "reused, saved" in line for line in lines) == 3
    assert sum("prune" in line and "reused, saved" in line for line in lines) == 2
    assert "  1 done, 3 to go, about " in process.stderr
    assert lines[-1].startswith("4 of 4 trials in ")
    assert not [line for line in lines if line.startswith(("WARNING", "INFO", "I0000", "W0000", "E0000"))]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_each_trial_of_the_grid_is_what_it_says(grid, number):
    folder = grid[0] / "sweeps" / "g" / f"trial-{number:03d}"
    metrics = json.loads((folder / "metrics.json").read_text())
    found = independent(folder / "model.tflite", "--digits")
    assert found["accuracy"] == metrics["test_accuracy"]
    assert metrics["size_bytes"] == (folder / "model.tflite").stat().st_size == found["size_bytes"]
    weights = found["weights"]
    assert {tensor["type"] for tensor in weights} == {"INT8"}
    zeros, size = sum(tensor["zeros"] for tensor in weights), sum(int(np.prod(tensor["shape"])) for tensor in weights)
    assert metrics["sparsity"] == pytest.approx(zeros / size)
    assert zeros >= round((0.5, 0.8, 0.5, 0.8)[number] * size)
    assert (folder / "overrides").read_text().split()[:2] == POINTS[number].split()
    assert "sparsity: 0.8" in (folder / "config.yaml").read_text() or number % 2 == 0


@pytest.mark.slow
def test_the_grid_is_logged_under_one_parent(grid):
    output, _ = grid
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "sweep"]
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.info.run_name for run in children) == [f"trial-{number:03d}" for number in range(4)]
    assert {(run.data.params["prune.sparsity"], run.data.params["quant"]) for run in children} == {
        (sparsity, kind) for sparsity in ("0.5", "0.8") for kind in ("ptq", "qat")
    }
    for run in children:
        folder = output / "sweeps" / "g" / run.info.run_name
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {name: run.data.metrics[name] for name in metrics} == pytest.approx(metrics)
        assert len(client.get_metric_history(run.info.run_id, "distill/val_accuracy")) == 4
        assert list(run.data.params)[:2] == ["prune.sparsity", "quant"]
        assert list(run.data.params)[2] != "train.epochs"  # what the whole sweep shares is not swept
        assert run.data.tags["data_hash"]
        assert {"model.tflite", "config.yaml", "metrics.json"} <= {item.path for item in client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_the_same_grid_again_trains_nothing_and_gives_the_same_bytes(grid):
    output, _ = grid
    process = sweep("-m", "prune.sparsity=0.5,0.8", "quant=ptq,qat", *QUICK, "sweep.name=again", output=output)
    assert process.returncode == 0, process.stderr
    assert "done in" not in process.stderr
    for number in range(4):
        first, again = (output / "sweeps" / name / f"trial-{number:03d}" for name in ("g", "again"))
        assert (first / "model.tflite").read_bytes() == (again / "model.tflite").read_bytes()
        assert json.loads((again / "metrics.json").read_text())["train_seconds"] == 0


@pytest.mark.slow
def test_a_failed_trial_leaves_the_others_and_exit_code_1(tmp_path):
    # A learning rate that no float survives: the loss of the first trial is NaN.
    process = sweep(
        "-m", "train.learning_rate=1e30,0.003", "train/optimizer=sgd",
        "train.epochs=1", "prune=none", "sweep.name=f", output=tmp_path,
    )  # fmt: skip
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: SweepFailed: 1 of 2 trials failed (trial-000)")
    failed, complete = (tmp_path / "sweeps" / "f" / f"trial-00{number}" for number in range(2))
    assert "no longer finite" in (failed / "error.txt").read_text()
    assert (complete / "model.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "overrides", "kind"),
    [
        ("mnist", ["model=khan_student", "distill=assistant", "model@distill.teacher=khan_assistant",
                   "+model@distill.assistants.first=khan_student", "quant=qat"], "INT8"),
        ("cifar10", ["model=resnet8", "prune=global", "prune.sparsity=0.8", "quant=qat", "quant.bits=4"], "INT4"),
    ],
)  # fmt: skip
def test_the_real_data_sets_run_end_to_end(tmp_path, data, overrides, kind):
    """In small: few images and epochs. The accuracy is checked image by image on the whole official test split."""
    path = real_file(f"{data}.npz")
    process = sweep(
        f"dataset={data}", f"dataset.path={path}", "dataset.limit=1000", "train.epochs=1", "prune.finetune=1",
        "quant.finetune=1", "tracking=none", "sweep.name=r", *overrides, output=tmp_path,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "runs" / "r"
    metrics = json.loads((folder / "metrics.json").read_text())
    found = independent(folder / "model.tflite", path)
    assert found["accuracy"] == metrics["test_accuracy"] > 0.1
    assert {tensor["type"] for tensor in found["weights"]} == {kind}
    assert metrics["sparsity"] >= (0.8 if data == "cifar10" else 0.5)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")
def test_a_grid_for_a_microcontroller_refuses_what_cannot_run_there_and_measures_the_rest(tmp_path):
    process = sweep(
        "-m", "model=resnet8", "quant=float16,dynamic,ptq,qat", "quant.bits=4,8", "target=tflm", "model.width=0.2",
        "train.epochs=1", "prune.finetune=1", "dataset.limit=64", "tracking=none", "sweep.name=t", output=tmp_path,
    )  # fmt: skip
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert lines[-1].startswith("error: SweepFailed: 2 of 6 trials failed (trial-000, trial-001)")
    folders = [tmp_path / "sweeps" / "t" / f"trial-{number:03d}" for number in range(6)]
    for folder, kind in zip(folders, ("float16", "dynamic"), strict=False):
        assert (folder / "error.txt").read_text().startswith("ConfigError: quant: expected none (float32), ptq or qat: ")
        assert f"received {kind}" in (folder / "error.txt").read_text()
        assert not any(line.strip().startswith(f"{folder.name}  ") and "done in" in line for line in lines)
    code = (
        "import sys; from tflite_micro.python.tflite_micro.runtime import Interpreter;"
        "Interpreter.from_file(sys.argv[1], arena_size=3_000_000).print_allocations()"
    )
    for folder in folders[2:]:
        path, metrics = folder / "model.tflite", json.loads((folder / "metrics.json").read_text())
        printed = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stderr
        assert f"Arena allocation total {metrics['arena_bytes']} bytes" in printed
        assert metrics["target_agreement"] >= 0.9
        assert f"{metrics['arena_bytes']:,} bytes of RAM" in process.stderr


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["quant=float16", "target=tflm"], "error: quant: expected none (float32), ptq or qat"),
        (["target=ethos_u55_128", "quant.bits=4"], "error: quant.bits: expected 5 to 8"),
        (["target.ram_kib=3"], "error: target: expected one of the keys flash_kib"),
    ],
)
def test_what_a_target_refuses_is_one_line_and_exit_code_2(tmp_path, overrides, line):
    process = sweep(*overrides, "tracking=none", output=tmp_path)
    assert process.returncode == 2
    assert not list(tmp_path.iterdir())
    assert told(process).startswith(line)
