"""The grid's axes and points: Hydra's own grammar, each point once, conditional axes, refusals before anything runs."""

from __future__ import annotations

import csv
import json
import re
import shutil

import optuna
import pytest
from conftest import CONF
from filelock import FileLock
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.storages.journal import JournalStorage

from hydra_plugins.worker_launcher.launcher import WorkerLauncher
from sweep.config import explain
from sweep.config.membership import Membership
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.search import sweeper, tally
from sweep.search.axes import Steps, _short, parse_axis
from sweep.search.journal import Journal
from sweep.search.settings import Settings
from sweep.search.space import Space
from sweep.tracking import tracker


@pytest.fixture(scope="module", autouse=True)
def loader():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def launcher(tmp_path):
    return Launcher(tmp_path)


@pytest.fixture
def master(loader, tmp_path):
    def make(*overrides):
        given = [f"output={tmp_path}", "sweep.name=s1", "tracking=none", *overrides]
        return loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN), given

    return make


class Launcher:
    """Runs nothing: leaves metrics where a trial would, returns what it is told, and keeps what it was given."""

    def __init__(self, output, fails=(), metrics=None, prunes=None):
        self.output, self.fails, self.prunes, self.launched = output, fails, prunes or {}, []
        self.task_function = None
        self.metrics = metrics or (lambda number: {"val_accuracy": 0.5 + number / 100, "size_bytes": 1000 + number})

    def launch(self, job_overrides, initial_job_idx):
        returns = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            self.launched.append(list(overrides))
            returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            if number in self.fails:
                returned.status, returned.return_value = JobStatus.FAILED, RuntimeError("it broke")
            elif number in self.prunes:
                reason, known = self.prunes[number], {}
                if isinstance(reason, tuple):
                    reason, known = reason
                    (self.output / "sweeps" / "s1" / f"trial-{number:03d}" / "known.json").write_text(json.dumps(known))
                returned.return_value = {"pruned": reason, **known}
            else:
                returned.return_value = dict.fromkeys(METRICS, 1) | self.metrics(number)
                folder = self.output / "sweeps" / "s1" / f"trial-{number:03d}"
                (folder / "metrics.json").write_text(json.dumps(returned.return_value))
                (folder / "config.yaml").write_text("{}")
            returns.append(returned)
        return returns


SETTINGS = {
    "params": {}, "objectives": {"val_accuracy": "maximize", "size_bytes": "minimize"}, "constraints": {}, "sampler": "tpe",
    "seed": 0,
    "n_trials": None, "timeout": None, "n_jobs": 1, "max_failure_rate": 0.5, "early_stop": 0.05, "patience": None,
}  # fmt: skip


def swept(launcher, loader, master, *overrides, **settings):
    config, given = master(*overrides)
    return sweeper.sweep(launcher, loader, config, Settings(**{**SETTINGS, **settings}), given)


def points(loader, master, launcher, *overrides, **settings):
    """The points of a sweep, without the overrides that all of them share."""
    _, given = master(*overrides)
    swept(launcher, loader, master, *overrides, **settings)
    shared = {*given[:3], *(text for text in launcher.launched[0] if text.startswith(("sweep.name", "hydra.")))}
    return [
        " ".join(text for text in job if text not in shared and not text.startswith("hydra.sweep.subdir"))
        for job in launcher.launched
    ]


def test_a_grid_is_the_product_each_point_once(loader, master, launcher):
    assert points(loader, master, launcher, "prune.sparsity=0.5,0.8,0.5", "quant=ptq,qat") == [
        "prune.sparsity=0.5 quant=ptq",
        "prune.sparsity=0.8 quant=ptq",
        "prune.sparsity=0.5 quant=qat",
        "prune.sparsity=0.8 quant=qat",
    ]


def test_an_axis_applies_where_its_key_exists(loader, master, launcher):
    assert sorted(points(loader, master, launcher, "quant=none,ptq,qat", "quant.bits=4,8")) == [
        "quant=none", "quant=ptq quant.bits=4", "quant=ptq quant.bits=8", "quant=qat quant.bits=4", "quant=qat quant.bits=8",
    ]  # fmt: skip


GRAMMAR = [
    "seed=range(3)",
    "seed=range(0,5,2)",
    "seed=range(5,0,-2)",
    "seed=choice(3,1)",
    "seed=sort(3,1,2)",
    "seed=sort(1,2,3,reverse=true)",
    "seed=tag(fast,choice(1,2))",
    "seed=int(choice(2.0,3.0))",
    "train.epochs=1,2,3",
    "train.learning_rate=1e-3,1e-2",
    "train.learning_rate=tag(log,choice(0.001,0.01))",
    "train.augment=true,false",
    "train.augment=bool(choice(1,0))",
    "prune.sparsity=0.5,0.8",
    "prune.sparsity=float(range(0,1))",
    "prune.layers=conv,dense,all",
    "prune.layers='conv','dense'",
    "prune.layers=str(choice(conv,dense))",
    "dataset.limit=null,200",
    "+dataset.augment.more=a,b",
    "model=glob(resnet*)",
    "quant=glob(*)",
    "quant=glob([p*,q*],exclude=*z)",
    "model=choice(lenet5,cnn)",
    "pipeline.order=[distill,prune,quant],[train,prune,quant]",
    '+dataset.more="a b.npz","c,d.npz"',
    "+dataset.more='it\\'s.npz',x.npz",
    "model=lenet5",
]


@pytest.mark.parametrize("override", GRAMMAR)
def test_an_axis_has_the_values_that_hydras_own_parser_lists(loader, master, override):
    config, _ = master()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([override])
    [batch] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    assert [f"{text}" for point in Space.parse(loader, config, {}, [override]).points() for text in point or (override,)] == [
        text for point in batch for text in point
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "pipeline.order=[distill,prune,quant],[train,prune,quant]",
            '+dataset.more="a b.npz","c,d.npz"',
            "dataset.limit=null,200",
        ],
        ["quant=none,ptq,qat", "quant.bits=4,8", "prune.sparsity=0.5", "+quant.per_layer_bits.logits=3,8"],
        ["distill=none,kd", "model@distill.teacher=lenet5,cnn", "distill.temperature=2,4", "++distill.alpha=0.5,1"],
        ["model=lenet5,cnn", "model.width=0.5,1", "model.filters=[3],[4,5]", "seed=range(2)", "train/optimizer=adam,sgd"],
    ],
)
def test_a_point_is_checked_as_what_hydra_composes_of_it(loader, master, overrides):
    config, _ = master()
    space = Space.parse(loader, config, {}, overrides)
    for point in space.points():
        composed = OmegaConf.to_container(space.compose(point))
        assert composed.pop("hydra")
        assert OmegaConf.to_container(space.composer.compose_quickly(point)) == composed


def test_steps_of_a_range_are_written_as_people_write_them(loader, master):
    config, _ = master()
    points = Space.parse(loader, config, {}, ["prune.sparsity=range(0.1,0.5,0.1)"]).points()
    assert [text for point in points for text in point] == [f"prune.sparsity=0.{step}" for step in (1, 2, 3, 4)]


def test_a_group_that_another_brings_applies_where_it_does(loader, master, launcher):
    found = points(loader, master, launcher, "distill=none,kd", "model@distill.teacher=lenet5,cnn", "distill.temperature=2,4")
    assert len(found) == len(set(found)) == 5
    assert "distill=none" in found


def test_a_teacher_can_be_swept(loader, master, launcher):
    found = points(loader, master, launcher, "distill=kd", "model@distill.teacher=resnet8,resnet20")
    assert [text.split()[0] for text in found] == ["model@distill.teacher=resnet8", "model@distill.teacher=resnet20"]


def test_the_command_line_wins_over_the_sweepers_params(loader, master, launcher):
    params = {"prune.sparsity": "0.1,0.2", "quant.bits": "4,8"}
    assert points(loader, master, launcher, "prune.sparsity=0.6", params=params) == [
        "quant.bits=4 prune.sparsity=0.6",
        "quant.bits=8 prune.sparsity=0.6",
    ]


def test_a_single_value_among_the_params_holds_where_its_key_exists(loader, master, launcher):
    params = {
        "distill": "none,kd",
        "distill.teacher.width": "2",
        "model@distill.teacher": "resnet8",
        "quant": "qat",
        "quant.finetune": "1",
        "prune": "none",
    }
    assert points(loader, master, launcher, params=params) == [
        "distill=none quant=qat prune=none quant.finetune=1",
        "distill=kd quant=qat prune=none model@distill.teacher=resnet8 distill.teacher.width=2 quant.finetune=1",
    ]
    record = launcher.output / "sweeps" / "s1" / "trial-000" / "trial.json"
    assert json.loads(record.read_text())["fixed"] == {
        "quant": "qat", "prune": "none", "quant.finetune": "1", "tracking": "none",
    }  # fmt: skip
    without = points(loader, master, launcher, "sweep.name=s3", params={**params, "distill.teacher.width": None})[2:]
    assert len(without) == 2
    assert not any("distill.teacher.width" in text for text in without)
    with pytest.raises(ConfigCompositionException, match="finetun"):
        points(loader, master, launcher, "sweep.name=s2", params={"quant": "ptq,qat", "quant.finetun": "1"})
    with pytest.raises(ConfigCompositionException, match="finetune"):
        points(loader, master, launcher, "sweep.name=s2", params={"quant": "none,ptq", "quant.finetune": "1"})


def test_objectives_and_constraints_are_given_as_the_readme_says(loader):
    quoted = re.findall(r"`'?(\+hydra\.sweeper\.[^`]*?)'?`", (CONF.parent / "docs" / "search.md").read_text())
    given = [word for text in quoted for word in text.split()]
    assert len(given) == 3
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    made = Settings(**instantiate(config.hydra.sweeper, _convert_="object")._settings)
    assert made.objectives == {"val_accuracy": "maximize", "gzip_bytes": "minimize"}
    assert [(one.metric, one.relation, one.bound) for one in made.bounds] == [("size_bytes", "<=", 50000)]
    for new in ("objectives.gzip_bytes=minimize", 'constraints.size_bytes="<=50000"', "params.seed=1"):
        with pytest.raises(ConfigCompositionException) as refused:
            loader.load_configuration("config", [f"hydra.sweeper.{new}"], run_mode=RunMode.MULTIRUN)
        key = f"hydra.sweeper.{new.partition('=')[0]}"
        assert explain.explain(refused.value) == (
            2, f"{key}: expected a + before a key that is new there (+{key}=VALUE); received {key}",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["prune.sparsity=0.5,1.5"], "prune.sparsity"),
        (["threads=1,2"], "threads"),
        (["output=a,b"], "output"),
        (["tracking=none,mlflow"], "tracking"),
        (["model=glob(zzz*)"], "model"),
        (["distill=none,kd", "model@distill.teacher=cnn,nope"], "model"),
        (["prune.sparsty=0.5,0.8"], "prune"),
        (["quant=none,float16", "quant.bits=4,8"], "quant"),
        (["quant=none,qat", "quant.bits=8,9"], "quant.bits"),
        (["prune.sparsity=interval(0,0.9)"], "hydra.sweeper.n_trials"),
        (["pipeline.order=[distill,prune,quant],[quant,distill]"], "pipeline.order"),
        (["dataset=digits,mnist", "+dataset.path=/nowhere.npz"], "dataset"),
    ],
)
def test_a_sweep_is_refused_before_anything_runs(loader, master, launcher, overrides, where):
    with pytest.raises((ConfigError, ConfigCompositionException)) as refused:
        swept(launcher, loader, master, *overrides)
    code, line = explain.explain(refused.value)
    assert code == 2
    assert line.startswith(f"{where}: expected ")
    assert launcher.launched == []


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("hydra.sweeper.early_stop=abc", "hydra.sweeper.early_stop: expected a number; received abc"),
        ("hydra.sweeper.n_trials=abc", "hydra.sweeper.n_trials: expected an integer; received abc"),
        ("hydra.sweeper.objectives=5", "hydra.sweeper.objectives: expected a value of its kind; received 5"),
    ],
)
def test_a_setting_of_another_type_is_told_as_one(loader, override, line):
    with pytest.raises(ConfigCompositionException) as refused:
        loader.load_configuration("config", [override], run_mode=RunMode.MULTIRUN)
    assert explain.explain(refused.value) == (2, line)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"model@distill.teacher": "resnet99"}, "received resnet99"),
        ({"model@distill.teacher": "resnet99,resnet8"}, "received resnet99"),
        ({"distill.temprature": "3"}, "did you mean temperature?"),
        ({"distill.temprature": "3,4"}, "did you mean temperature?"),
    ],
)
def test_what_is_wrong_under_some_choices_only_is_named(loader, master, launcher, params, told):
    with pytest.raises((ConfigError, ConfigCompositionException)) as refused:
        swept(launcher, loader, master, params={"distill": "none,kd", **params})
    code, line = explain.explain(refused.value)
    assert (code, launcher.launched) == (2, [])
    assert told in line


def test_a_failed_trial_does_not_stop_the_others_and_is_told_at_the_end(loader, master, launcher, capsys):
    launcher.fails = {1}
    with pytest.raises(tally.SweepFailed, match=r"1 of 3 trials failed \(trial-001\)"):
        swept(launcher, loader, master, "seed=1,2,3")
    assert len(launcher.launched) == 3
    told = capsys.readouterr().err
    assert "trial 2 of 3: seed=2" in told
    assert "trial 2 failed: RuntimeError: it broke" in told
    assert "2 of 3 trials" in told


def test_every_trial_knows_its_folder_and_its_sweep(loader, master, launcher):
    swept(launcher, loader, master, "seed=1,2")
    for number, job in enumerate(launcher.launched):
        assert f"hydra.sweep.subdir=trial-00{number}" in job
        assert "sweep.name=s1" in job


def test_a_sweep_goes_on_where_it_stopped_and_refuses_another_space(loader, master, launcher):
    swept(launcher, loader, master, "seed=1,2")
    assert swept(launcher, loader, master, "seed=1,2") == []
    with pytest.raises(ConfigError) as refused:
        swept(launcher, loader, master, "seed=1,2,3")
    assert "seed=1,2 then, seed=1,2,3 now" in str(refused.value)
    with pytest.raises(ConfigError, match="the objectives that this sweep began with"):
        swept(launcher, loader, master, "seed=1,2", objectives={"val_accuracy": "maximize"})
    with pytest.raises(ConfigError, match="the fixed that this sweep began with"):
        swept(launcher, loader, master, "seed=1,2", "train.epochs=3")
    assert len(launcher.launched) == 2


def test_a_sweep_that_is_running_is_not_run_twice(loader, master, launcher, tmp_path):
    (tmp_path / "sweeps" / "s1").mkdir(parents=True)
    with FileLock(tmp_path / "sweeps" / "s1" / ".lock"), pytest.raises(ConfigError, match="not running already"):
        swept(launcher, loader, master, "seed=1,2")


def test_too_many_failures_stop_the_sweep(loader, master, launcher):
    launcher.fails = set(range(10))
    with pytest.raises(tally.SweepFailed, match="5 of 5 trials failed"):
        swept(launcher, loader, master, "seed=range(10)")


def test_a_stalled_hypervolume_stops_the_sweep(loader, master, tmp_path, capsys):
    launcher = Launcher(tmp_path, metrics=lambda number: {"val_accuracy": 0.9 - number / 100, "size_bytes": 1000 + number})
    swept(launcher, loader, master, "seed=range(20)", patience=4)
    assert len(launcher.launched) == 5
    assert "the hypervolume has not grown over 4 trials" in capsys.readouterr().err


def test_metrics_that_are_not_finite_are_a_failure(loader, master, tmp_path):
    launcher = Launcher(tmp_path, metrics=lambda number: {"val_accuracy": float("nan"), "size_bytes": 1})
    with pytest.raises(tally.SweepFailed):
        swept(launcher, loader, master, "seed=1,2")
    record = json.loads((tmp_path / "sweeps" / "s1" / "trial-000" / "trial.json").read_text())
    assert (record["state"], record["error"]) == ("FAIL", "not a finite number: val_accuracy")


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"objectives": {"test_accuracy": "maximize"}}, "hydra.sweeper.objectives"),
        ({"objectives": {"val_accuracy": "up"}}, "hydra.sweeper.objectives.val_accuracy"),
        ({"objectives": {}}, "hydra.sweeper.objectives"),
        ({"constraints": {"efficiency": ">=1"}}, "hydra.sweeper.constraints"),
        ({"constraints": {"size_bytes": "50"}}, "hydra.sweeper.constraints.size_bytes"),
        ({"n_trials": 0}, "hydra.sweeper.n_trials"),
        ({"n_jobs": 0}, "hydra.sweeper.n_jobs"),
        ({"timeout": 0}, "hydra.sweeper.timeout"),
        ({"max_failure_rate": 2}, "hydra.sweeper.max_failure_rate"),
        ({"sampler": "grid"}, "hydra.sweeper.sampler"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(loader, master, launcher, settings, where):
    with pytest.raises(ConfigError) as refused:
        swept(launcher, loader, master, "seed=1,2", **settings)
    assert refused.value.where == where
    assert launcher.launched == []


def test_the_end_of_a_sweep_is_its_report(loader, master, launcher, tmp_path):
    swept(launcher, loader, master, "seed=1,2,3", "prune.sparsity=0.1,0.2")
    folder = tmp_path / "sweeps" / "s1"
    assert {"trials.csv", "pareto.csv", "pareto.png", "pareto.html", "report.md", "sweep.json", "study.journal"} <= {
        path.name for path in folder.iterdir()
    }
    assert json.loads((folder / "sweep.json").read_text())["status"] == "FINISHED"


def test_a_trial_begins_without_the_outcome_of_an_earlier_start(loader, master, launcher, tmp_path):
    folder = tmp_path / "sweeps" / "s1" / "trial-000"
    folder.mkdir(parents=True)
    for name in ("error.txt", "pruned.txt", "metrics.json", "config.yaml"):
        (folder / name).write_text("of an earlier start")
    launcher.fails = [0]
    with pytest.raises(tally.SweepFailed):
        swept(launcher, loader, master, "seed=1,2")
    assert (folder / "error.txt").read_text() == "RuntimeError: it broke\n"
    assert [path.name for path in folder.iterdir() if path.name in ("pruned.txt", "metrics.json")] == []


@pytest.mark.parametrize("fails", [(), (1,)])
def test_a_trial_whose_record_cannot_be_written_is_taken_up_again(loader, master, tmp_path, monkeypatch, fails):
    def full(path, content, write=files.write_json):
        if path.parent.name == "trial-001" and content.get("state") in ("COMPLETE", "FAIL"):
            raise OSError(28, "No space left on device")
        write(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(files, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            swept(Launcher(tmp_path, fails=fails), loader, master, "seed=1,2,3")
    again = Launcher(tmp_path)
    assert len(swept(again, loader, master, "seed=1,2,3")) == 2
    assert [next(text for text in job if text.startswith("seed=")) for job in again.launched] == ["seed=2", "seed=3"]


class Told(tracker.NoTracking):
    """A tracker that keeps what it is told of the front; logging trial 1 as a model fails."""

    models: list = []  # noqa: RUF012
    front: list = []  # noqa: RUF012
    ends: list = []  # noqa: RUF012

    def open_sweep(self, name, params, tags, description, *, resume=None):
        return "parent"

    def log_model(self, run_id, file):
        if file.parent.name == "trial-001":
            raise tracker.TrackingError("gone")
        self.models.append((run_id, file))

    def close_sweep(self, run_id, *, status, metrics, artifacts, description, front=()):
        self.front.append(list(front))
        self.ends.append((status, dict(metrics), description))


def test_the_front_becomes_models_and_is_what_the_tracker_compares(loader, launcher, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Told, "models", models := [])
    monkeypatch.setattr(Told, "front", front := [])
    launcher.metrics = lambda number: {
        "val_accuracy": [0.5, 0.7, 0.9, 0.6][number], "size_bytes": [100, 200, 300, 400][number], "run_id": f"run{number}",
    }  # fmt: skip
    given = [f"output={tmp_path}", "sweep.name=s1", "tracking=none", "tracking._target_=test_sweeper.Told"]
    given.append("prune.sparsity=0.1,0.2,0.3,0.4")
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    sweeper.sweep(launcher, loader, config, Settings(**{**SETTINGS, "early_stop": None}), given)
    folder = tmp_path / "sweeps" / "s1"
    assert models == [(f"run{number}", folder / f"trial-{number:03d}" / "model.tflite") for number in (2, 0)]
    assert front == [["run2", "run1", "run0"]]
    assert "warning: trial-001 is no model in MLflow: gone" in capsys.readouterr().err


def test_the_end_of_a_sweep_tells_of_all_its_starts(loader, tmp_path, monkeypatch):
    monkeypatch.setattr(Told, "ends", ends := [])
    given = [f"output={tmp_path}", "sweep.name=s1", "tracking=none", "tracking._target_=test_sweeper.Told", "seed=range(3)"]
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    settings = Settings(**SETTINGS)
    with pytest.raises(tally.SweepFailed):
        sweeper.sweep(Launcher(tmp_path, fails=[1]), loader, config, settings, given)
    sweeper.sweep(Launcher(tmp_path), loader, config, settings, given)
    counts = {"trials_complete": 2, "trials_failed": 1, "trials_pruned": 0}
    assert ends == [("FAILED", counts, "2 of 3 trials complete.")] * 2


def test_a_trial_that_was_stopped_early_is_pruned_with_its_reason_and_no_failure(loader, master, tmp_path):
    launcher = Launcher(tmp_path, prunes={2: "trial-000 is ahead"})
    ended = swept(launcher, loader, master, "prune.sparsity=interval(0.1,0.9)", n_trials=4)
    assert len(ended) == 4
    folder = tmp_path / "sweeps" / "s1"
    record = json.loads((folder / "trial-002" / "trial.json").read_text())
    assert (record["state"], record["error"]) == ("PRUNED", "trial-000 is ahead")
    assert {json.loads(path.read_text())["state"] for path in folder.glob("trial-00[013]/trial.json")} == {"COMPLETE"}
    assert "PRUNED" in (folder / "trials.csv").read_text()
    again = Launcher(tmp_path)
    assert swept(again, loader, master, "prune.sparsity=interval(0.1,0.9)", n_trials=4) == []
    assert again.launched == []


@pytest.mark.parametrize("n_trials", [None, 4])
def test_a_trial_that_could_not_keep_a_constraint_was_refused_and_the_study_learns_it(
    loader, master, tmp_path, capsys, n_trials
):
    space = "prune.sparsity=0.1,0.2,0.3,0.4"
    launcher = Launcher(tmp_path, prunes={1: ("refused before training: size_bytes 3.00 KiB", {"size_bytes": 3072})})
    settings = {"n_trials": n_trials, "constraints": {"size_bytes": "<=2048"}}
    swept(launcher, loader, master, space, **settings)
    assert "4 of 4 trials (1 refused before training) in" in capsys.readouterr().err
    folder = tmp_path / "sweeps" / "s1"

    def constraints():
        (optuna_trial,) = [
            found
            for found in optuna.load_study(
                study_name="sweep", storage=JournalStorage(Journal(folder / "study.journal"))
            ).get_trials()
            if found.user_attrs.get("number") == 1
        ]
        return optuna_trial.state.name, optuna_trial.constraints

    assert constraints() == ("PRUNED", {"size_bytes": 1024.0})
    (folder / "study.journal").unlink()  # the study is made again from the records
    assert swept(Launcher(tmp_path), loader, master, space, **settings) == []
    assert constraints() == ("PRUNED", {"size_bytes": 1024.0})
    [row] = [row for row in csv.DictReader((folder / "trials.csv").read_text().splitlines()) if row["number"] == "1"]
    assert (row["state"], row["size_bytes"], row["val_accuracy"]) == ("PRUNED", "3072", "")


def test_where_seeds_are_compared_none_is_stopped_early(loader, master, launcher, tmp_path):
    swept(launcher, loader, master, "seed=1,2", "prune.sparsity=interval(0.1,0.9)", n_trials=3)
    assert not (tmp_path / "sweeps" / "s1" / "front.json").exists()


def test_the_next_start_tells_its_own_margin_from_the_beginning(loader, master, tmp_path):
    told = tmp_path / "sweeps" / "s1" / "front.json"
    margins = []

    def look(number):
        margins.append(json.loads(told.read_text())["margin"])
        return {"val_accuracy": 0.5, "size_bytes": 1000}

    for trials, margin in ((2, 0.05), (3, 0.5)):
        launcher = Launcher(tmp_path, metrics=look)
        swept(launcher, loader, master, "prune.sparsity=interval(0.1,0.9)", n_trials=trials, early_stop=margin)
    assert margins == [0.05, 0.05, 0.5]


def test_a_search_tells_its_trials_the_front_and_a_grid_does_not(loader, master, tmp_path):
    launcher = Launcher(
        tmp_path, metrics=lambda number: {"val_accuracy": 0.9 - number / 10, "size_bytes": 2000 - 100 * (number % 2)}
    )
    told = tmp_path / "sweeps" / "s1" / "front.json"
    swept(launcher, loader, master, "prune.sparsity=interval(0.1,0.9)", n_trials=3)
    front = json.loads(told.read_text())
    assert front["margin"] == 0.05
    assert front["front"] == {
        "trial-000": {"val_accuracy": 0.9, "size_bytes": 2000},
        "trial-001": {"val_accuracy": 0.8, "size_bytes": 1900},
    }
    swept(launcher, loader, master, "prune.sparsity=interval(0.1,0.9)", n_trials=4, early_stop=None)
    assert not told.exists()
    for settings in ({"n_trials": 3, "early_stop": None}, {}):
        plain = Launcher(tmp_path / "other")
        swept(plain, loader, master, "prune.sparsity=0.2,0.4", f"output={tmp_path / 'other'}", "sweep.name=s1", **settings)
        assert not (tmp_path / "other" / "sweeps" / "s1" / "front.json").exists()


def test_a_trial_reads_where_it_belongs_in_the_records_of_its_sweep(loader, tmp_path, monkeypatch):
    monkeypatch.setattr(Told, "ends", [])
    seen = []

    def look(number):
        trial = Membership.read(tmp_path / "sweeps" / "s1" / f"trial-{number:03d}")
        seen.append((trial.swept, trial.parent_run_id, trial.front.exists()))
        return {"val_accuracy": 0.5, "size_bytes": 1000}

    launcher = Launcher(tmp_path, metrics=look)
    given = [f"output={tmp_path}", "sweep.name=s1", "tracking=none", "tracking._target_=test_sweeper.Told", "++seed=4,5"]
    config = loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)
    sweeper.sweep(launcher, loader, config, Settings(**SETTINGS), given)
    assert seen == [({"seed": "4"}, "parent", False), ({"seed": "5"}, "parent", False)]
    assert not any(text.startswith(("sweep.axes", "sweep.rivals", "tracking.p")) for job in launcher.launched for text in job)


def test_a_grid_is_counted_before_it_is_written_out(loader, master, launcher):
    """Neither the range nor the five axes of a hundred values could be written out in the memory or the time that there is."""
    hundred = ",".join(map(str, range(1, 101)))
    axes = [f"{key}={hundred}" for key in ("seed", "train.epochs", "train.batch_size", "prune.finetune", "threads")[:4]]
    for axis, count in ((["seed=range(1000000000)"], "1,000,000,000"), (axes, "100,000,000")):
        with pytest.raises(ConfigError) as refused:
            swept(launcher, loader, master, *axis)
        line = f"hydra.sweeper.max_points: expected at most 100,000 points, or n_trials for a search; received {count}"
        assert str(refused.value) == line
    with pytest.raises(ConfigError, match="max_points"):
        swept(launcher, loader, master, "seed=1,2,3", max_points=2)
    assert not launcher.launched


def test_a_search_may_be_over_any_number_of_points(loader, master, launcher):
    found = points(loader, master, launcher, "seed=range(1000000000)", "prune.sparsity=range(0,1,1e-9)", n_trials=3)
    assert len(set(found)) == 3
    for point in found:
        seed, sparsity = (text.partition("=")[2] for text in point.split())
        assert 0 <= int(seed) < 10**9
        assert 0 <= float(sparsity) < 1


@pytest.mark.parametrize(
    ("axis", "line"),
    [
        ("seed=range(5,0)", "seed: expected at least one value; received range(5,0), which is empty"),
        ("seed=range(0,5,0)", "seed: expected a range of finite numbers whose step is not 0; received range(0,5,0)"),
        (
            "model.width=range(0,inf)",
            "model.width: expected a range of finite numbers whose step is not 0; received range(0,inf)",
        ),
        ("seed=shuffle(range(1000000000))", "seed: expected at most 100,000 values to shuffle; received 1,000,000,000"),
        ("quant=glob(x*)", "quant: expected at least one value; received glob(x*), which matches nothing"),
    ],
)
def test_an_axis_of_nothing_or_without_end_is_refused(loader, master, launcher, axis, line):
    with pytest.raises(ConfigError) as refused:
        swept(launcher, loader, master, axis)
    assert str(refused.value) == line


@pytest.mark.parametrize("axis", ["+seed=1,2", "~seed=1,2", "+new=1,2", "++new.key=1,2"])
def test_an_axis_that_hydra_does_not_take_is_refused_before_the_sweep_has_a_folder(loader, master, launcher, tmp_path, axis):
    with pytest.raises((ConfigError, ConfigCompositionException)) as refused:
        swept(launcher, loader, master, axis)
    assert explain.explain(refused.value)[0] == 2
    assert not list(tmp_path.iterdir())


def test_a_key_may_be_added_or_overridden_along_an_axis(loader, master, launcher):
    assert points(loader, master, launcher, "++seed=1,2") == ["++seed=1", "++seed=2"]


@pytest.mark.parametrize(
    "text", ["range(0,2000)", "range(-1000,1000,1)", "range(5000,0,-2)", "range(0,1,0.0005)", "range(1,0,-0.0004)"]
)
def test_a_long_range_gives_the_texts_of_a_short_one(loader, text):
    [override] = OverridesParser.create(config_loader=loader).parse_overrides([f"seed={text}"])
    steps = parse_axis(override).values
    assert isinstance(steps, Steps)
    written = [_short(number) for number in override.sweep_string_iterator()]
    assert list(steps) == written
    assert [steps.index(number) for number in written] == list(range(len(written)))
    assert steps[-3:] == tuple(written[-3:])


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_jobs", 0), ("n_jobs", -1), ("n_jobs", 10**6), ("recycle_after", 0), ("max_gib", float("nan")), ("max_gib", -1)],
)  # fmt: skip
def test_a_launcher_that_could_run_nothing_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"hydra.launcher.{key}"):
        WorkerLauncher(**{"n_jobs": 1, "recycle_after": 25, "max_gib": 4.0, key: value})


def test_a_metric_that_the_file_has_none_of_is_a_failure_that_says_so(loader, master, tmp_path):
    for asked in (
        {"objectives": {"val_accuracy": "maximize", "arena_bytes": "minimize"}},
        {"constraints": {"arena_bytes": "<=1000"}},
    ):
        launcher = Launcher(tmp_path)
        made = launcher.launch

        def without(job_overrides, initial_job_idx, made=made):
            returns = made(job_overrides, initial_job_idx)
            for returned in returns:
                del returned._return_value["arena_bytes"]
            return returns

        launcher.launch = without
        with pytest.raises(tally.SweepFailed, match="1 of 1 trials failed"):
            swept(launcher, loader, master, "quant=ptq", **asked)
        [record] = tmp_path.glob("sweeps/s1/trial-*/trial.json")
        told = json.loads(record.read_text())
        assert told["state"] == "FAIL"
        assert told["error"].startswith("the file has no arena_bytes: there is one of float32 and full-integer files")
        shutil.rmtree(tmp_path / "sweeps")


@pytest.mark.parametrize("key", ["objectives", "constraints"])
@pytest.mark.parametrize(
    ("metric", "points", "received"),
    [
        ("arena_bytes", ["quant=ptq,dynamic"], "target=litert and files of the form dynamic"),
        ("npu_ms", [], "target=litert and files of the form integer"),
        ("tflm_accuracy", ["target=tflm", "target.accuracy=true,false"], "target=tflm and files of the form integer"),
    ],
)
def test_a_metric_that_a_target_does_not_measure_is_refused_before_anything_runs(
    loader, master, launcher, key, metric, points, received
):
    asked = {"objectives": {"val_accuracy": "maximize", metric: "minimize"}, "constraints": {metric: "<=1"}}
    with pytest.raises(ConfigError) as refusal:
        swept(launcher, loader, master, *points, **{key: asked[key]})
    expected = f"it where every file has it, that is {METRICS[metric].only}"
    assert str(refusal.value) == f"hydra.sweeper.{key}.{metric}: expected {expected}; received a point with {received}"
    assert not launcher.launched


def test_what_is_refused_before_it_trains_does_not_end_the_sweep(loader, master, tmp_path):
    launcher = Launcher(tmp_path)
    made = launcher.launch

    def refusing(job_overrides, initial_job_idx):
        returns = made(job_overrides, initial_job_idx)
        for returned in returns:
            if "quant=float16" in returned.overrides:
                returned.status, returned.return_value = JobStatus.FAILED, ConfigError("quant", "another", "float16")
        return returns

    launcher.launch = refusing
    with pytest.raises(tally.SweepFailed, match="6 of 12 trials failed"):
        swept(launcher, loader, master, "quant=float16,ptq", "seed=1,2,3,4,5,6")
