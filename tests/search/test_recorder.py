"""A sweep's records, torn, damaged, gone or of another sweep: it goes on or names the file, and no finished trial is lost."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from conftest import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode

from hydra_plugins.pareto_sweeper.sweeper import ParetoSweeperConfig
from sweep.core import files, jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.pipeline.front import FrontRecord
from sweep.reporting import report
from sweep.results import reader
from sweep.search import sweeper
from sweep.search.check import check
from sweep.search.journal import Journal
from sweep.search.recorder import Records
from sweep.search.settings import Settings
from sweep.search.space import Space
from sweep.search.study import Study

AXES = ("prune.sparsity=interval(0.1,0.9)", "quant=none,ptq", "quant.bits=4,8")
NAMES = ("study.journal", "sweep.json", "front.json", "trial-001/trial.json", "trial-001/metrics.json")


@pytest.fixture(scope="module", autouse=True)
def loader():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


class Trials:
    """A launcher that measures nothing, and writes what a trial writes."""

    def __init__(self, output):
        self.output, self.run, self.task_function = output, [], None

    def launch(self, job_overrides, initial_job_idx):
        returns = []
        for overrides in job_overrides:
            number = int(next(text for text in overrides if text.startswith("hydra.sweep.subdir=")).rpartition("-")[2])
            self.run.append(number)
            measured = dict.fromkeys(METRICS, 1) | {
                "val_accuracy": 0.5 + number / 9,
                "size_bytes": 9 + number,
            }
            folder = self.output / "sweeps" / "s" / f"trial-{number:03d}"
            files.write_json(folder / "metrics.json", measured)
            files.write(folder / "config.yaml", "{}")
            returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            returned.return_value = measured
            returns.append(returned)
        return returns


def run(loader, output, total=3):
    """Start the sweep (again); returns the numbers of the trials that ran."""
    given = [f"output={output}", "sweep.name=s", "tracking=none", *AXES]
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    keys = asdict(ParetoSweeperConfig(n_trials=total))
    del keys["_target_"]
    launcher = Trials(output)
    sweeper.sweep(launcher, loader, config, Settings(**keys), given)
    return launcher.run


@pytest.fixture
def start(loader, tmp_path):
    return partial(run, loader, tmp_path)


@pytest.fixture(scope="module")
def finished(loader, tmp_path_factory):
    """A sweep of three trials, finished."""
    output = tmp_path_factory.mktemp("finished")
    assert run(loader, output) == [0, 1, 2]
    return output / "sweeps" / "s"


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "sweeps" / "s"))


def refusal(work):
    """What work is refused with; empty where it is not."""
    try:
        work()
    except ConfigError as error:
        return str(error)
    return ""


def points(folder):
    return {trial.number: (trial.state, trial.point) for trial in reader.read(folder).trials}


def test_a_line_of_the_journal_that_was_torn_is_taken_off(folder, start):
    before = points(folder)
    journal = folder / "study.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert start() == []
    assert points(folder) == before
    assert start(4) == [3]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize("content", [None, b"", b"\0" * 300])
def test_a_journal_that_is_gone_is_told_again(folder, start, content, capsys):
    before = points(folder)
    whole = folder.parent / "whole"
    shutil.copytree(folder, whole)
    (folder / "study.journal").unlink()
    if content is not None:
        (folder / "study.journal").write_bytes(content)
    assert start() == []
    assert "3 trials that study.journal lacks are added to it" in capsys.readouterr().err
    assert points(folder) == before
    assert start(6) == [3, 4, 5]
    told = points(folder)
    shutil.rmtree(folder)
    whole.rename(folder)
    assert start(6) == [3, 4, 5]
    assert points(folder) == told  # the same proposals, whether or not the journal was lost


def test_the_journal_of_another_sweep_is_set_aside(folder, start):
    journal = folder / "study.journal"
    journal.write_text(journal.read_text().replace("prune.sparsity=0", "prune.sparsity=0.0"))
    before = points(folder)
    assert start() == []
    assert points(folder) == before
    assert (folder / "study.journal.foreign").exists()
    assert start(4) == [3]


def test_garbage_within_the_journal_is_refused_by_file_and_line(folder, start):
    journal = folder / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for garbage in (b"{{{\n", b"[]\n", b"\n", b"\xff\n", b"[" * 100_000 + b"\n", b"{}\n", b'{"op_code": "x"}\n'):
        journal.write_bytes(b"".join([*lines[:4], garbage, *lines[4:]]))
        with pytest.raises(ConfigError, match=r"study\.journal:5: expected a journal"):
            start()
    for nonsense in (b'{"op_code": 99}\n', b'{"op_code": 5}\n', b'{"op_code": 4, "study_id": 7, "worker_id": "x"}\n'):
        journal.write_bytes(b"".join([*lines[:4], nonsense, *lines[4:]]))
        told = refusal(start)
        assert not told or "study.journal" in told
    journal.unlink()
    assert start() == []


def test_a_trial_that_ended_after_the_journals_last_word_does_not_run_again(folder, start):
    """Killed between the record of the trial and the study: the record counts."""
    journal = folder / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if b'"state":1' in line]
    journal.write_bytes(b"".join(lines[: ends[-1]]))
    assert start() == []
    assert {state for state, _ in points(folder).values()} == {"COMPLETE"}


@pytest.mark.parametrize("damage", ["missing", "torn", "no metrics", "not finite", "other number"])
def test_a_trial_whose_record_is_damaged_runs_again(folder, start, damage):
    before = points(folder)
    record, metrics = folder / "trial-001" / "trial.json", folder / "trial-001" / "metrics.json"
    match damage:
        case "missing":
            record.unlink()
        case "torn":
            record.write_bytes(record.read_bytes()[:-9])
        case "no metrics":
            metrics.unlink()
        case "not finite":
            metrics.write_text(metrics.read_text().replace('"size_bytes": 10', '"size_bytes": NaN'))
        case "other number":
            record.write_text(record.read_text().replace('"number": 1', '"number": 2'))
    assert start() == [1]
    assert points(folder) == before


@pytest.mark.parametrize("name", ["trial-001", "trial-001/trial.json", "sweep.json", "study.journal"])
def test_something_in_the_place_of_a_record_is_named(folder, start, name, tmp_path):
    place = folder / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if name == "trial-001":
        place.write_text("a file")
    elif name == "study.journal":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(ConfigError, match=name):
        start()


GARBAGE = (b"", b"\0\0", b"garbage", b"[]", b"{}", b"[" * 200_000, b'{"axes": ' * 50_000, b"\xff\xfe", b"NaN", b'{"axes": []}')


@pytest.mark.parametrize("content", GARBAGE)
def test_a_damaged_record_of_the_sweep_is_named_at_a_start_and_by_the_report(folder, start, content):
    (folder / "sweep.json").write_bytes(content)
    for read in (start, lambda: report.write(folder)):
        with pytest.raises(ConfigError, match=r"sweep\.json"):
            read()
    (folder / "sweep.json").unlink()  # the trials tell the rest
    assert start() == []


@pytest.mark.parametrize("name", ["trial.json", "metrics.json", "baselines.json", "data.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 200_000, b"\xff"])
def test_a_damaged_record_of_a_trial_is_named_by_the_report(folder, name, content):
    (folder / "trial-001" / name).write_bytes(content)
    assert f"trial-001/{name}" in (told := refusal(lambda: report.write(folder)))
    assert len(told) < 500


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sweep.json", "started", "1e999"),
        ("sweep.json", "ended", "-1e300"),
        ("sweep.json", "seed", "1" + "0" * 400),
        ("trial-000/trial.json", "seconds", "Infinity"),
        ("trial-000/trial.json", "seconds", "NaN"),
        ("trial-000/metrics.json", "val_accuracy", "1" + "0" * 400),
        ("trial-000/metrics.json", "size_bytes", "[[1]]"),
        ("trial-000/metrics.json", "latency_ms", '"fast"'),
    ],
)
def test_a_number_that_cannot_be_is_named(folder, name, key, value):
    content = json.loads((folder / name).read_text())
    content[key] = "HERE"
    (folder / name).write_text(json.dumps(content).replace('"HERE"', value))
    with pytest.raises(ConfigError, match=f"{name}: {key}: expected"):
        report.write(folder)


@pytest.mark.parametrize("value", ["1e999", "NaN", "1e300"])
def test_a_metric_that_is_not_finite_does_not_stop_the_report(folder, value):
    path = folder / "trial-000" / "metrics.json"
    path.write_text(path.read_text().replace('"train_seconds": 1', f'"train_seconds": {value}'))
    assert report.write(folder).paths


@pytest.mark.parametrize("content", [b"[" * 500_000, b"- " * 500_000, b"a: [", b"\xff", b"[]", b""])
def test_a_damaged_configuration_is_named(folder, content):
    """The YAML loader in C takes the process down for the first two."""
    (folder / "trial-000" / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"trial-000/config\.yaml"):
        reader.read(folder).trials[0].techniques()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 99_999, b'{"objectives": {"a": "up"}}', b'{"objectives": {}}'])
def test_a_damaged_front_is_named(tmp_path, content):
    (tmp_path / "front.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"front\.json"):
        FrontRecord.read(tmp_path / "front.json")


def test_a_write_that_fails_names_the_file_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = files.write(tmp_path / "a.json", "before")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        files.write(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    journal = Journal(tmp_path / "j")
    with pytest.raises(OSError, match=r"No space left on device: '.*/j'"):
        journal.append_logs([{"op_code": 0}])
    assert (tmp_path / "j").read_bytes() == b""


def test_a_record_is_only_read_from_a_regular_file_of_some_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30)
    for name in ("pipe", "loop", "zero", "large", "absent", "."):
        with pytest.raises(ConfigError, match="expected a"):
            jsonfiles.read(tmp_path / name)


@pytest.fixture(scope="module")
def opened(loader, finished):
    """Read the records and the study of a folder as a start of the sweep does; returns the study."""
    output = finished.parents[1]
    given = [f"output={output}", "sweep.name=s", "tracking=none", *AXES]
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    keys = asdict(ParetoSweeperConfig(n_trials=3))
    del keys["_target_"]
    settings = Settings(**keys)
    space = Space.parse(loader, config, {}, given)
    origin = check(space, settings)

    def study(folder):
        recorded = Records.open(folder, space, settings, given, origin).trials()
        FrontRecord.read(folder / "front.json")
        directions = settings.objectives
        return Study(folder, space, objectives=directions, constraints=(), sampler="tpe", seed=0, total=3, recorded=recorded)

    return study


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_record_that_was_cut_anywhere_loses_no_finished_trial(folder, opened, name):
    """Cut after each byte of its last kilobyte: the sweep goes on, or names the file and goes on without it."""
    content, journal = (folder / name).read_bytes(), (folder / "study.journal").read_bytes()
    for length in range(max(0, len(content) - 1024), len(content)):
        (folder / "study.journal").write_bytes(journal)
        (folder / name).write_bytes(content[:length])
        if told := refusal(lambda: opened(folder)):
            assert name in told
            (folder / name).unlink()
        study = opened(folder)
        assert study.begun + len(study._interrupted) == 3
        if not name.startswith("trial"):
            assert study.begun == 3
    (folder / name).write_bytes(content)
