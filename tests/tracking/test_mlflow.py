"""Tracking against a real database, a real server and MLflow's real UI."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from made_files import by_hand, tiny
from omegaconf import OmegaConf

from sweep.core.errors import ConfigError
from sweep.core.types import TrialRecord
from sweep.tflite import benchmark
from sweep.tracking.mlflow import MLflow
from sweep.tracking.payload import comparison_link
from sweep.tracking.tracker import NoTracking, Tracker, TrackingError

HERE = Path(__file__).parents[1]
CONF = HERE.parent / "conf" / "tracking"
HASH = "0123456789abcdef" * 4


def make_record(folder: Path, name: str = "trial-000", **changes: Any) -> TrialRecord:
    """A finished trial with its files."""
    folder = folder / name
    (folder / "nested").mkdir(parents=True, exist_ok=True)
    (folder / "nested" / "checkpoint").write_text("not logged")
    for file in ("config.yaml", "metrics.json", "model.tflite", "trial.log"):
        (folder / file).write_text(f"{name} {file}")
    record = TrialRecord(
        name=name,
        folder=folder,
        swept={"quant": "qat", "prune.sparsity": "0.8", "model@distill.teacher": "resnet20"},
        params={"dataset.limit": "100", "prune.sparsity": "0.8", "zeta": "", "alpha": "1"},
        metrics={"val_accuracy": 0.75, "size_bytes": 4096, "conversion_gap": math.nan},
        curves={"distill": {"loss": (0.5, 0.25), "val_accuracy": (0.1, math.nan)}, "quant": {"loss": (0.125,)}},
        tags={"dataset": "digits", "data_hash": HASH, "mlflow.source.git.commit": "c0ffee"},
        error=None,
        start=1_700_000_000.25,
        end=1_700_000_012.75,
    )
    return dataclasses.replace(record, **changes)


def client_of(tracker: MLflow) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracker.uri)


def history(tracker: MLflow, run_id: str, key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client_of(tracker).get_metric_history(run_id, key)}


def artifacts(tracker: MLflow, run_id: str) -> list[str]:
    return [file.path for file in client_of(tracker).list_artifacts(run_id)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def database(folder: Path) -> MLflow:
    return MLflow(f"sqlite:///{folder}/mlflow.db", "sweep", f"{folder}/artifacts")


def open_run(tracker: MLflow, name: str = "grid") -> str:
    run_id = tracker.open_sweep(name, {"quant": "ptq,qat"}, {}, "A grid.")
    assert run_id is not None
    return run_id


def log(tracker: MLflow, record: TrialRecord) -> str:
    run_id = tracker.log_trial(record)
    assert run_id is not None
    return run_id


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server with its own store."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", f"{folder}/artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "log").read_text())
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> MLflow:
    """A prepared database, in a folder whose name has to be escaped."""
    tracker = database(tmp_path_factory.mktemp("a store, 100% é #1"))
    tracker.prepare()
    return tracker


@pytest.fixture(params=["database", "server"])
def tracker(request: pytest.FixtureRequest) -> MLflow:
    """A prepared tracker of each kind, with an experiment of the test's own."""
    uri = request.getfixturevalue("store").uri if request.param == "database" else request.getfixturevalue("server")
    tracker = MLflow(uri, request.node.name, None)
    tracker.prepare()
    return tracker


# --- the interface


def test_nothing_is_tracked_by_none(tmp_path: Path) -> None:
    tracker: Tracker = NoTracking()
    tracker.prepare()
    assert tracker.open_sweep("grid", {}, {}, "") is None
    assert tracker.log_trial(make_record(tmp_path)) is None
    tracker.close_sweep(None, status="FINISHED", metrics={}, artifacts=[], description="", front=["0" * 32])
    for run_id in (None, "0" * 32):
        assert tracker.log_model(run_id, tmp_path / "no such file") is None


def test_what_was_not_tracked_before_is_no_error_now(store: MLflow, tmp_path: Path) -> None:
    tracker: Tracker = store
    tracker.close_sweep(None, status="KILLED", metrics={"trials": 1}, artifacts=[], description="")
    assert tracker.log_model(None, tmp_path / "no such file") is None


@pytest.mark.parametrize(("file", "target"), [("mlflow", MLflow), ("none", NoTracking)])
def test_the_yaml_names_every_field_of_its_target_and_no_other(file: str, target: type[Any]) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{file}.yaml"))
    assert isinstance(config, dict)
    assert config.pop("_target_") == f"{target.__module__}.{target.__name__}"
    assert list(config) == [field.name for field in dataclasses.fields(target)]


def test_importing_the_module_imports_no_mlflow() -> None:
    code = "import sys, sweep.tracking.mlflow; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, check=False).returncode == 0


# --- prepare


def test_prepare_creates_database_and_experiment_silently_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = MLflow("sqlite:///out put/mlflow.db", "sweep", "out put/artifacts")
    tracker.prepare()
    tracker.prepare()
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mlflow.db", "out put"]
    experiment = client_of(database(tmp_path / "out put")).get_experiment_by_name("sweep")
    assert experiment.artifact_location == (tmp_path / "out put" / "artifacts").as_uri()
    assert artifacts(database(tmp_path / "out put"), log(tracker, make_record(tmp_path)))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mlruns",
        "./mlruns",
        "file:///tmp/mlruns",
        "ftp://host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "http://",
    ],
)
def test_an_unknown_kind_of_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^uri: expected (sqlite:///FILE, http|a text)"):
        MLflow(uri, "sweep", None).prepare()


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database, whatever its name says" * 100)


def other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()


def read_only_file(path: Path) -> None:
    path.touch()
    path.chmod(stat.S_IRUSR)


@pytest.mark.parametrize("plant", [garbage, other_database, read_only_file, Path.mkdir])
def test_a_file_that_is_no_writable_mlflow_database_is_refused_and_left_alone(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    path = tmp_path / "mlflow.db"
    plant(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ConfigError, match=r"^uri: expected (an MLflow database|a file that can be written to).*mlflow\.db"):
        database(tmp_path).prepare()
    assert path.is_dir() or path.read_bytes() == before


@pytest.mark.parametrize("below", ["", "not/yet/there"])
def test_a_read_only_folder_is_refused_even_to_root(tmp_path: Path, below: str) -> None:
    folder = tmp_path / "shut"
    folder.mkdir()
    folder.chmod(0o555)
    with pytest.raises(ConfigError, match=r"^uri: expected a folder that can be written to; received .*shut is read-only$"):
        database(folder / below).prepare()
    with pytest.raises(
        ConfigError, match=r"^artifacts: expected a folder that can be written to; received .*shut is read-only$"
    ):
        MLflow(f"sqlite:///{tmp_path}/mlflow.db", "sweep", str(folder / below)).prepare()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["runs?v=1", "50% off", "a%20b", "a#b", 'it\'s "x" & y; [z] {1}', "été", "a:b@c", "a+b=c,d"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    tracker = MLflow(f"sqlite:///{folder}/mlflow.db", "sweep", None)
    tracker.prepare()
    run_id = tracker.log_trial(make_record(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {name, "trial-000"}
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "artifacts"}
    [file] = folder.rglob("metrics.json")
    assert file.read_text() == "trial-000 metrics.json"
    assert run_id in file.parts


@pytest.mark.parametrize(
    "uri", ["http://[::1", "http://h:port", "http://h:99999999", "https://", "http:///x", "sqlite:///a\nb", "sqlite:///a\0b"]
)
def test_an_address_that_is_none_is_refused_at_its_key(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^uri: expected") as refused:
        MLflow(uri, "sweep", None).prepare()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("kind", ["loop", "pipe", "folder", "device", "nowhere"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    database = tmp_path / "mlflow.db"
    match kind:
        case "loop":
            database.symlink_to(database)
        case "pipe":
            os.mkfifo(database)
        case "folder":
            database.mkdir()
        case "device":
            database.symlink_to("/dev/zero")
        case "nowhere":
            database.symlink_to(tmp_path / "closed" / "mlflow.db")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"^uri: expected"):
        MLflow(f"sqlite:///{database}", "sweep", None).prepare()
    assert time.monotonic() - began < 10


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^uri: expected a folder"):
        database(tmp_path / "file").prepare()


def test_an_experiment_without_a_name_or_a_deleted_one_is_refused(store: MLflow) -> None:
    with pytest.raises(ConfigError, match=r"^experiment: expected a text"):
        dataclasses.replace(store, experiment="").prepare()
    tracker = dataclasses.replace(store, experiment="deleted")
    tracker.prepare()
    client = client_of(tracker)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(ConfigError, match=r"^experiment: expected an experiment that is not deleted; received deleted"):
        tracker.prepare()


def test_a_dead_server_is_refused_soon_and_without_its_password() -> None:
    begin = time.monotonic()
    with pytest.raises(ConfigError, match=r"^uri: expected an MLflow server that answers; received .*refused") as caught:
        MLflow(f"http://user:secret@127.0.0.1:{free_port()}", "sweep", "/not/used").prepare()
    assert time.monotonic() - begin < 10
    assert "secret" not in str(caught.value)


class _Page(BaseHTTPRequestHandler):
    """Gives everyone the same status and body; a status of zero is silence."""

    answer: tuple[int, bytes]

    def do_GET(self) -> None:
        status, body = self.answer
        if not status:
            time.sleep(2.5)
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Not to the tests' output."""


@pytest.mark.parametrize("answer", [(200, b"<html>hello</html>"), (200, b"{}"), (404, b"nothing here"), (403, b"{}"), (0, b"")])
def test_a_server_that_is_not_mlflow_is_refused(answer: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with HTTPServer(("127.0.0.1", 0), type("Page", (_Page,), {"answer": answer})) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with pytest.raises(ConfigError, match=r"^uri: expected an MLflow server that answers; received http") as caught:
            MLflow(f"http://127.0.0.1:{page.server_port}", "sweep", None).prepare()
        page.shutdown()
    assert len(str(caught.value)) < 250


# --- trials


def test_a_trial_is_logged_whole(tracker: MLflow, tmp_path: Path) -> None:
    parent = open_run(tracker)
    run_id = log(tracker, make_record(tmp_path, parent_run_id=parent))
    run = client_of(tracker).get_run(run_id)

    assert (run.info.run_name, run.info.status) == ("trial-000", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_250, 1_700_000_012_750)
    assert list(run.data.params.items()) == [
        ("quant", "qat"),
        ("prune.sparsity", "0.8"),
        ("model_distill.teacher", "resnet20"),
        ("dataset.limit", "100"),
        ("zeta", ""),
        ("alpha", "1"),
    ]
    metrics = run.data.metrics
    assert (metrics["val_accuracy"], metrics["size_bytes"]) == (0.75, 4096)
    assert math.isnan(metrics["conversion_gap"])
    assert history(tracker, run_id, "distill/loss") == {0: 0.5, 1: 0.25}
    assert history(tracker, run_id, "quant/loss") == {0: 0.125}
    accuracy = history(tracker, run_id, "distill/val_accuracy")
    assert accuracy[0] == 0.1
    assert math.isnan(accuracy[1])
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["data_hash"] == HASH
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", HASH[:12])
    assert artifacts(tracker, run_id) == ["config.yaml", "metrics.json", "model.tflite", "trial.log"]
    copy = client_of(tracker).download_artifacts(run_id, "model.tflite", str(tmp_path))
    assert Path(copy).read_text() == "trial-000 model.tflite"


def test_a_failed_trial_says_why(tracker: MLflow, tmp_path: Path) -> None:
    record = make_record(tmp_path, metrics={}, curves={}, tags={}, error="RuntimeError: died\n" + "x" * 9000)
    run_id = log(tracker, record)
    run = client_of(tracker).get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {}
    assert run.data.tags["error"].startswith("RuntimeError: died")
    assert "mlflow.parentRunId" not in run.data.tags
    copy = client_of(tracker).download_artifacts(run_id, "error.txt", str(tmp_path))
    assert Path(copy).read_text() == record.error


def test_a_trial_that_was_stopped_early_is_no_failure(store: MLflow, tmp_path: Path) -> None:
    record = make_record(tmp_path, metrics={}, curves={}, error="trial-000 is ahead", pruned=True)
    run_id = log(store, record)
    run = client_of(store).get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["pruned"] == "trial-000 is ahead"
    assert "error" not in run.data.tags
    assert Path(client_of(store).download_artifacts(run_id, "pruned.txt", str(tmp_path))).read_text() == "trial-000 is ahead"


def test_a_failed_trial_keeps_its_own_error_file_and_may_have_no_folder(store: MLflow, tmp_path: Path) -> None:
    record = make_record(tmp_path, error="short")
    (record.folder / "error.txt").write_text("a long traceback")
    run_id = log(store, record)
    assert Path(client_of(store).download_artifacts(run_id, "error.txt", str(tmp_path))).read_text() == "a long traceback"
    assert artifacts(store, log(store, dataclasses.replace(record, folder=tmp_path / "gone"))) == ["error.txt"]


def test_names_and_values_are_fitted_to_the_limits_of_mlflow(tracker: MLflow, tmp_path: Path) -> None:
    params = {f"key{index}": str(index) for index in range(230)}
    odd = {"+new": "a", "a//b": "b", "../up": "c", "/abs": "d", "x=1<2": "e", "é": "f", "k" * 300: "v" * 7000}
    curves = {"train": {"loss": tuple(float(epoch) for epoch in range(1500))}}
    metrics = {"big": math.inf, "odd=name": 1}
    run_id = log(
        tracker, make_record(tmp_path, swept=odd, params=params, curves=curves, metrics=metrics, tags={"t" * 300: "v" * 9000})
    )
    run = client_of(tracker).get_run(run_id)
    fitted = {"new": "a", "a/b": "b", "up": "c", "abs": "d", "x_1_2": "e", "é": "f", "k" * 250: "v" * 6000}
    assert list(run.data.params.items()) == [*fitted.items(), *params.items()]
    assert history(tracker, run_id, "train/loss") == {epoch: float(epoch) for epoch in range(1500)}
    assert run.data.metrics["big"] > 1e300
    assert run.data.metrics["odd_name"] == 1
    assert run.data.tags["t" * 250] == "v" * 8000


def test_what_mlflow_cannot_take_is_a_tracking_error(store: MLflow, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    with pytest.raises(TrackingError, match="no experiment gone"):
        dataclasses.replace(store, experiment="gone").log_trial(record)
    with pytest.raises(TrackingError, match=r"could not log trial-000: .*refused"):
        dataclasses.replace(store, uri=f"http://127.0.0.1:{free_port()}").log_trial(record)
    with pytest.raises(TrackingError, match="the end of the sweep"):
        store.close_sweep("0" * 32, status="FINISHED", metrics={}, artifacts=[], description="")


def prepare_and_log(folder: Path, worker: int) -> list[str]:
    """What one of several processes does at once."""
    tracker = database(folder)
    tracker.prepare()
    return [log(tracker, make_record(folder, f"trial-{worker}-{index}")) for index in range(4)]


@pytest.mark.slow
def test_several_processes_prepare_and_log_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        run_ids = [run_id for ids in pool.map(prepare_and_log, [tmp_path] * 4, range(4)) for run_id in ids]
    client = client_of(database(tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("sweep").experiment_id])
    assert sorted(run.info.run_id for run in runs) == sorted(run_ids)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(len(run.data.params) == 6 and len(run.inputs.dataset_inputs) == 1 for run in runs)
    assert all(len(artifacts(database(tmp_path), run_id)) == 4 for run_id in run_ids)


# --- sweeps


def test_a_sweep_is_a_parent_of_its_trials(tracker: MLflow, tmp_path: Path) -> None:
    parent = tracker.open_sweep(
        "grid", {"quant": "ptq,qat", "prune.sparsity": "0.5"}, {"mlflow.source.git.commit": "c0ffee"}, "A *grid*."
    )
    assert parent is not None
    client = client_of(tracker)
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("grid", "RUNNING")
    assert list(run.data.params) == ["quant", "prune.sparsity"]
    assert run.data.tags["mlflow.note.content"] == "A *grid*."

    children = [
        log(tracker, make_record(tmp_path, f"trial-{index}", start=float(index + 1), parent_run_id=parent))
        for index in range(3)
    ]
    failed = log(tracker, make_record(tmp_path, "trial-3", error="died", parent_run_id=parent))
    experiment_id = run.info.experiment_id
    left = client.create_run(experiment_id, tags={"mlflow.parentRunId": parent}).info.run_id
    stranger = client.create_run(experiment_id, tags={"mlflow.parentRunId": open_run(tracker, "another")}).info.run_id

    (tmp_path / "trials.csv").write_text("number\n0\n")
    tracker.close_sweep(
        parent, status="KILLED", metrics={"hypervolume": 0.5}, artifacts=[tmp_path / "trials.csv"], description="Stopped."
    )
    run = client.get_run(parent)
    assert run.info.status == "KILLED"
    assert run.info.end_time is not None
    assert run.data.metrics == {"hypervolume": 0.5}
    assert artifacts(tracker, parent) == ["trials.csv"]
    assert [client.get_run(run_id).info.status for run_id in (*children, failed, left, stranger)] == [
        *["FINISHED"] * 3,
        "FAILED",
        "KILLED",
        "RUNNING",
    ]
    link = comparison_link(children, experiment_id)
    assert run.data.tags["mlflow.note.content"] == f"Stopped.\n\n[Compare the 3 trials]({link})"


@pytest.mark.parametrize(("front", "told"), [([2, 0], "2 trials of the front"), ([3], "4 trials"), ([], "4 trials")])
def test_the_link_compares_the_front_in_its_order(store: MLflow, tmp_path: Path, front: list[int], told: str) -> None:
    parent = open_run(store)
    children = [
        log(store, make_record(tmp_path, f"trial-{index}", start=float(index + 1), parent_run_id=parent)) for index in range(4)
    ]
    ids = [children[index] for index in front]
    store.close_sweep(parent, status="FINISHED", metrics={}, artifacts=[], description="Done.", front=ids)
    run = client_of(store).get_run(parent)
    link = comparison_link(ids if len(ids) > 1 else children, run.info.experiment_id)
    assert run.data.tags["mlflow.note.content"] == f"Done.\n\n[Compare the {told}]({link})"


def test_the_link_of_a_large_front_fits_into_the_description(store: MLflow) -> None:
    parent, front = open_run(store), [f"{index:032x}" for index in range(101)]
    store.close_sweep(parent, status="FINISHED", metrics={}, artifacts=[], description="x" * 9000, front=front)
    run = client_of(store).get_run(parent)
    description = run.data.tags["mlflow.note.content"]
    link = comparison_link(front[:100], run.info.experiment_id)
    assert len(description) == 8000
    assert description.endswith(f"x\n\n[Compare the first 100 of 101 trials of the front]({link})")


def test_a_sweep_can_be_resumed(tracker: MLflow) -> None:
    parent = open_run(tracker)
    tracker.close_sweep(parent, status="KILLED", metrics={"trials": 1}, artifacts=[], description="Stopped.")
    assert tracker.open_sweep("grid", {"quant": "other"}, {"again": "yes"}, "On.", resume=parent) == parent
    run = client_of(tracker).get_run(parent)
    assert run.info.status == "RUNNING"
    assert (run.data.tags["mlflow.note.content"], run.data.tags["again"]) == ("On.", "yes")
    assert run.data.params == {"quant": "ptq,qat"}
    tracker.close_sweep(parent, status="FINISHED", metrics={"trials": 2}, artifacts=[], description="Done.")
    assert client_of(tracker).get_run(parent).data.metrics == {"trials": 2}

    client_of(tracker).delete_run(parent)
    for gone in (parent, "0" * 32):
        assert tracker.open_sweep("grid", {}, {}, "", resume=gone) not in (None, gone)


def test_the_link_of_a_large_sweep_fits_into_the_description(store: MLflow) -> None:
    parent, client = open_run(store), client_of(store)
    experiment_id = client.get_run(parent).info.experiment_id
    for index in range(101):
        child = client.create_run(experiment_id, start_time=index + 1, tags={"mlflow.parentRunId": parent})
        client.set_terminated(child.info.run_id)
    store.close_sweep(parent, status="FINISHED", metrics={}, artifacts=[], description="x" * 9000)
    description = client.get_run(parent).data.tags["mlflow.note.content"]
    assert len(description) == 8000
    assert "x\n\n[Compare the first 100 of 101 trials](/#/compare-runs?" in description
    assert description.endswith(")")


def test_the_comparison_link_names_its_runs() -> None:
    link = comparison_link(["b", "a"], "7")
    assert link.startswith("/#/compare-runs?")
    assert not set(link) & set(' "[]()')
    query: Mapping[str, list[str]] = parse_qs(urlsplit(urlsplit(link).fragment).query)
    assert {name: json.loads(unquote(value)) for name, (value,) in query.items()} == {"runs": ["b", "a"], "experiments": ["7"]}


# --- models


def log_with_model(tracker: MLflow, folder: Path, kind: str, name: str = "trial-000", **changes: Any) -> tuple[str, Path]:
    """A logged trial whose file is a real one of this kind: its run, and the file."""
    record = make_record(folder, name, **changes)
    file = record.folder / "model.tflite"
    file.write_bytes(tiny(kind))
    return log(tracker, record), file


def models_of(tracker: MLflow, run_id: str) -> list[Any]:
    client = client_of(tracker)
    found: list[Any] = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id], f"source_run_id = '{run_id}'"
    ).to_list()
    return found


FOREIGN = """
import json, sys
sys.modules["sweep"] = None
import mlflow, numpy as np
from mlflow.exceptions import MlflowException

run_id, model_id, name = sys.argv[1:]
registered = mlflow.register_model(f"models:/{model_id}", name)
places = [f"models:/{model_id}", f"runs:/{run_id}/model", f"models:/{name}/{registered.version}"]
models = [mlflow.pyfunc.load_model(place) for place in places]
batch = np.load("images.npy")
np.save("logits.npy", np.stack([model.predict(batch) for model in models]))
wrong = [batch[0], batch[:, :, :1], np.repeat(batch, 3, axis=3), batch.astype(np.float64), (batch * 255).astype(np.uint8)]
refused = []
for data in wrong:
    try:
        models[0].predict(data)
    except MlflowException as error:
        refused.append(str(error))
assert "tensorflow" not in sys.modules
print(json.dumps(refused))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_a_model_loads_predicts_and_registers_where_the_project_is_not(tracker: MLflow, tmp_path: Path, kind: str) -> None:
    run_id, file = log_with_model(tracker, tmp_path, kind)
    model_id = tracker.log_model(run_id, file)
    assert model_id is not None
    images = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1), np.uint8)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "images.npy", images.astype(np.float32) / np.float32(255))

    name = f"{kind} of {urlsplit(tracker.uri).scheme}"
    environment = {**os.environ, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": tracker.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", FOREIGN, run_id, model_id, name]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    logits = np.load(elsewhere / "logits.npy")
    assert (logits.shape, logits.dtype) == ((3, 7, 3), np.float32)
    assert {answer.tobytes() for answer in logits} == {by_hand(file.read_bytes(), images).tobytes()}
    assert logits[0].argmax(axis=1).tolist() == benchmark.predict(file.read_bytes(), images).tolist()
    refused = json.loads(done.stdout)
    assert len(refused) == 5
    for reason, received in zip(refused, ("(2, 2, 1)", "(7, 2, 1, 1)", "(7, 2, 2, 3)", "float64", "uint8"), strict=True):
        assert received in reason.splitlines()[-1]
        assert "expected" in reason.splitlines()[-1]


def test_a_model_is_logged_once_with_what_its_run_tells(tracker: MLflow, tmp_path: Path) -> None:
    run_id, file = log_with_model(tracker, tmp_path, "INT8")
    before = client_of(tracker).get_run(run_id)
    first = tracker.log_model(run_id, file)
    file.unlink()
    assert tracker.log_model(run_id, file) == first

    (model,) = models_of(tracker, run_id)
    run = client_of(tracker).get_run(run_id)
    assert (model.model_id, model.name, model.status) == (first, "model", "READY")
    assert [output.model_id for output in run.outputs.model_outputs] == [first]
    assert {metric.key: metric.value for metric in model.metrics} == {"val_accuracy": 0.75, "size_bytes": 4096}
    assert model.params == run.data.params
    assert (run.info.status, run.info.end_time) == (before.info.status, before.info.end_time)
    assert run.data.params == before.data.params
    for name in ("val_accuracy", "size_bytes", "distill/loss"):
        assert len(client_of(tracker).get_metric_history(run_id, name)) == 1 + (name == "distill/loss"), "a second point"


def test_a_model_is_kept_without_pickle_and_with_its_needs_pinned(
    store: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"  # of somebody's, which MLflow would take for that of the model
    project.mkdir()
    for name in ("uv.lock", "pyproject.toml"):
        (project / name).touch()
    monkeypatch.chdir(project)
    run_id, file = log_with_model(store, tmp_path, "INT8")
    model_id = store.log_model(run_id, file)
    kept = Path(unquote(urlsplit(client_of(store).get_logged_model(model_id).artifact_location).path))
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        "MLmodel",
        "code/litert.py",
        "conda.yaml",
        "data/model.tflite",
        "input_example.json",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    ]
    assert (kept / "data/model.tflite").read_bytes() == file.read_bytes()
    needs = ["ai-edge-litert", "mlflow", "numpy"]
    assert sorted((kept / "requirements.txt").read_text().split()) == [f"{name}=={version(name)}" for name in needs]
    meta = OmegaConf.load(kept / "MLmodel")
    assert (meta.model_id, meta.run_id) == (model_id, run_id)
    for side, shape in (("inputs", [-1, 2, 2, 1]), ("outputs", [-1, 3])):
        assert json.loads(meta.signature[side]) == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}]


def test_a_model_that_was_left_half_way_is_replaced(tracker: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    run_id, file = log_with_model(tracker, tmp_path, "FLOAT32")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_model_artifacts", full)
        with pytest.raises(TrackingError, match=r"could not log the model .*model\.tflite: OSError: No space left"):
            tracker.log_model(run_id, file)
    (left,) = models_of(tracker, run_id)
    assert left.status != "READY"
    model_id = tracker.log_model(run_id, file)
    (model,) = models_of(tracker, run_id)
    assert (model.model_id, model.status) == (model_id, "READY")
    assert [output.model_id for output in client_of(tracker).get_run(run_id).outputs.model_outputs] == [model_id]


def test_what_is_no_model_is_a_tracking_error_and_leaves_nothing(store: MLflow, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    run_id = log(store, record)
    for file, reason in (("model.tflite", "ValueError"), ("gone.tflite", "FileNotFoundError")):
        with pytest.raises(TrackingError, match=rf"the model .*{file}: {reason}"):
            store.log_model(run_id, record.folder / file)
    assert models_of(store, run_id) == []
    with pytest.raises(TrackingError, match=r"the model .*not found"):
        store.log_model("0" * 32, record.folder / "model.tflite")
    with pytest.raises(TrackingError, match=r"the model .*refused"):
        dataclasses.replace(store, uri=f"http://127.0.0.1:{free_port()}").log_model(run_id, record.folder / "model.tflite")


def test_logging_a_model_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = database(tmp_path)
    tracker.prepare()
    run_id, file = log_with_model(tracker, tmp_path, "INT8")
    capfd.readouterr()
    code = "import sys; from pathlib import Path; from sweep.tracking.mlflow import MLflow; "
    code += "MLflow(sys.argv[1], 'sweep', None).log_model(sys.argv[2], Path(sys.argv[3]))"
    command = [sys.executable, "-c", code, tracker.uri, run_id, str(file)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(models_of(tracker, run_id)) == 1


# --- the user interface


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path("/usr/bin/chromium").exists() and Path("/usr/bin/chromedriver").exists()),
    reason="needs chromium and chromedriver",
)
def test_the_ui_shows_the_sweep_and_compares_its_trials(store: MLflow, tmp_path: Path) -> None:
    tracker = dataclasses.replace(store, experiment="ui")
    tracker.prepare()
    parent = open_run(tracker, "ui-grid")
    points = [(sparsity, quant) for sparsity in ("0.5", "0.8") for quant in ("ptq", "qat")]
    front = []
    for index, (sparsity, quant) in enumerate(points):
        swept, now = {"prune.sparsity": sparsity, "quant": quant}, time.time()
        metrics = {"val_accuracy": 0.9 + index / 100, "size_bytes": 9000 - 1000 * index}
        changes = {"swept": swept, "params": swept, "metrics": metrics, "start": now - 9, "end": now}
        run_id, file = log_with_model(tracker, tmp_path, "INT8", f"trial-{index:03d}", parent_run_id=parent, **changes)
        if index != 1:
            front.insert(0, run_id)
            tracker.log_model(run_id, file)
    tracker.close_sweep(parent, status="FINISHED", metrics={"trials": 4}, artifacts=[], description="Four trials.", front=front)

    folder = tracker.uri.removeprefix("sqlite:///").removesuffix("/mlflow.db")
    command = [sys.executable, str(HERE / "ui_screenshot.py"), folder, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ui-grid: 4 trials in the table, 3 in the comparison, 3 with a model" in done.stdout
    for picture in ("sweep.png", "compare.png", "model.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
