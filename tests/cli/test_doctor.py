"""`sweep.doctor`: what is good here, and what each fault looks like."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sweep import doctor
from sweep.cli import diagnosis
from sweep.cli.diagnosis import Level
from sweep.core import isolated
from sweep.data import datasets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.slow
def test_the_command_as_a_user_has_it(tmp_path):
    command = [sys.executable, "-m", "sweep", "doctor", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "nothing is bad"
    assert all(line.split()[0] in ("good", "warning", "->") for line in lines[:-1])
    subjects = {line.split()[1] for line in lines[:-1]}
    assert {
        "python",
        "packages",
        "keras",
        "bytecode",
        "processor",
        "threads",
        "memory",
        "gpu",
        "results",
        "mnist",
        "tracking",
    } <= subjects
    assert "tf.keras is Keras 2." in done.stdout
    assert not list(tmp_path.iterdir()), "it looks, and leaves nothing"


@pytest.mark.parametrize("level", Level)
def test_the_exit_code_is_1_where_something_is_bad(monkeypatch, capsys, level):
    monkeypatch.setattr(doctor, "findings", lambda output, uri: [diagnosis.Finding(level, "it", f"{uri} {output}", "a mend")])
    assert doctor.main([]) == (level is Level.BAD)
    first, mend, last = capsys.readouterr().out.splitlines()
    assert first.split() == [level.value, "it", "sqlite:///mlruns/mlflow.db", "mlruns"]
    assert mend.split() == ["->", "a", "mend"]
    assert last == ("something is bad: see above" if level is Level.BAD else "nothing is bad")


def test_packages_are_compared_with_what_this_version_is_made_for(monkeypatch):
    assert [finding.level for finding in diagnosis.packages()] == [Level.GOOD]
    version = metadata.version

    def other(name):
        if name == "optuna":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3" if name == "tensorflow" else version(name)

    monkeypatch.setattr(metadata, "version", other)
    found = {finding.subject: finding for finding in diagnosis.packages()}
    assert set(found) == {"optuna", "tensorflow"}
    assert (found["optuna"].level, found["optuna"].text) == (Level.BAD, "not installed")
    assert found["tensorflow"].text == "1.2.3; ==2.21.0 is what this version is made for"
    assert found["tensorflow"].mend == "pip install 'tensorflow==2.21.0'"


def test_an_extra_that_is_missing_says_what_it_is_for(monkeypatch):
    version = metadata.version

    def without_ray(name):
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_ray)
    found = {finding.subject: finding for finding in diagnosis.extras()}
    assert set(found) == {"tflm", "ethos-u", "joblib", "ray", "slurm"}
    assert (found["ray"].level, found["ray"].mend) == (Level.WARNING, "pip install 'sweep[ray]', where it is needed")
    assert found["ray"].text == "not installed as pinned (ray): hydra/launcher=ray"
    assert found["slurm"].level is Level.GOOD


@pytest.mark.parametrize(
    ("outcome", "level", "text"),
    [
        ("2.21.0", Level.GOOD, "Keras 2.21.0"),
        ("3.9", Level.BAD, "needs Keras 2"),
        (None, Level.BAD, "cannot be imported: no AVX"),
    ],
)
def test_keras_3_is_bad(monkeypatch, outcome, level, text):
    def call(function, *, seconds):
        if outcome is None:
            raise isolated.FailedError("no AVX")
        return outcome

    monkeypatch.setattr(isolated, "call", call)
    found = diagnosis.keras()
    assert found.level is level
    assert text.removeprefix("needs ") in found.text


def test_gpus_are_named(monkeypatch):
    monkeypatch.setattr(isolated, "call", lambda function, seconds: ["Tesla T4", "Tesla T4"])
    assert diagnosis.gpu() == diagnosis.Finding(Level.GOOD, "gpu", "Tesla T4, Tesla T4")
    monkeypatch.setattr(isolated, "call", lambda function, seconds: [])
    assert diagnosis.gpu().text.startswith("none")


def test_sources_without_bytecode_are_a_warning(monkeypatch):
    assert diagnosis.bytecode().level is Level.GOOD
    monkeypatch.setattr("importlib.util.cache_from_source", lambda source: f"{source}.absent")
    found = diagnosis.bytecode()
    assert found.level is Level.WARNING
    assert "compileall" in found.mend


@pytest.mark.parametrize(
    ("flags", "level"), [("sse avx avx2 fma", Level.GOOD), ("sse avx", Level.WARNING), ("sse", Level.BAD), ("", Level.GOOD)]
)
def test_a_processor_without_avx_is_bad(monkeypatch, flags, level):
    monkeypatch.setattr(diagnosis, "_cpu", lambda: ("a processor", frozenset(flags.split())))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert diagnosis.processor().level is level


def test_a_container_that_may_use_less_is_a_warning(monkeypatch):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(diagnosis, "_cpu_quota", lambda: 2.5)
    assert (diagnosis.threads().level, diagnosis.threads().mend) == (Level.WARNING, "threads=2")
    monkeypatch.setattr(diagnosis, "_cpu_quota", lambda: None)
    assert diagnosis.threads() == diagnosis.Finding(Level.GOOD, "threads", "8 cores")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert diagnosis.threads().level is Level.WARNING


def test_a_full_disk_and_a_folder_that_cannot_be_written_to_are_bad(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    for free, level in ((2**40, Level.GOOD), (2 * 2**30, Level.WARNING), (2**20, Level.BAD)):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: usage._replace(free=free))
        assert {finding.level for finding in diagnosis.disk(tmp_path / "not" / "there")} == {level}
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert {finding.level for finding in diagnosis.disk(tmp_path)} == {Level.BAD}


def test_data_are_found_missing_or_damaged(downloads):
    found = {finding.subject: finding for finding in diagnosis.data()}
    assert set(found) == {kind.name for kind in datasets.PUBLISHED} == {"mnist", "fashion_mnist", "kmnist", "cifar10"}
    assert found["mnist"].text.startswith(f"not in {downloads}/mnist: downloaded at the first use, from https://")
    (downloads / "kmnist").mkdir(parents=True)
    (downloads / "kmnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"another")
    (downloads / "mnist").mkdir()
    (downloads / "mnist" / "mnist.npz").write_bytes(b"another")
    assert {finding.level for finding in diagnosis.data()} == {Level.GOOD}


def test_a_tracking_store_that_cannot_be_used_is_bad(tmp_path):
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    assert diagnosis.tracking(uri) == diagnosis.Finding(Level.GOOD, "tracking", f"{uri} is created by the first run")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE mine (number INTEGER)")
    found = diagnosis.tracking(uri)
    assert (found.level, "another SQLite database" in found.text) == (Level.BAD, True)
    found = diagnosis.tracking("ftp://somewhere")
    assert (found.level, found.mend) == (Level.BAD, "sqlite:///FILE, http://HOST:PORT or https://HOST, or tracking=none")


@pytest.mark.slow
def test_a_tracking_store_of_another_version_is_bad(tmp_path):
    from sweep.tracking.mlflow import MLflow

    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    MLflow(uri=uri, experiment="mine", artifacts=None).prepare()
    assert diagnosis.tracking(uri) == diagnosis.Finding(Level.GOOD, "tracking", f"{uri} answers: 2 experiments")
    other = shutil.copy(database, tmp_path / "other.db")  # MLflow checks a database once a process
    with sqlite3.connect(other) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    found = diagnosis.tracking(f"sqlite:///{other}")
    assert found.level is Level.BAD
    assert "out-of-date database schema" in found.text
    assert "mlflow db upgrade" in found.mend


def test_without_a_browser_its_tests_are_skipped(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert diagnosis.browser().text == "no chromium and no chromedriver: the tests of MLflow's pages are skipped"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert diagnosis.browser() == diagnosis.Finding(Level.GOOD, "chromium", "/usr/bin/chromium")
