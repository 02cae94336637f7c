"""The grid's axes and points: Hydra's own grammar, each point once, conditional axes, refusals before anything runs."""

from __future__ import annotations

import pytest
from conftest import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode

from hydra_plugins.pareto_sweeper import _impl
from sweep.records import ConfigError


@pytest.fixture(scope="module", autouse=True)
def loader():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def master(loader, tmp_path):
    def make(*overrides):
        given = [f"output={tmp_path}", "sweep.name=s1", "tracking=none", *overrides]
        return loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN), given

    return make


class Launcher:
    """Runs nothing: returns what it is told, and keeps what it was given."""

    def __init__(self, fails=()):
        self.fails, self.launched = fails, []

    def launch(self, job_overrides, initial_job_idx):
        self.launched.extend(job_overrides)
        returned = JobReturn(overrides=job_overrides[0], status=JobStatus.COMPLETED)
        returned.return_value = {"val_accuracy": 0.5}
        if initial_job_idx in self.fails:
            returned.status, returned.return_value = JobStatus.FAILED, RuntimeError("it broke")
        return [returned]


def points(loader, master, *overrides, params=None):
    """The points of a grid, without the overrides that all of them share."""
    config, given = master(*overrides)
    launcher = Launcher()
    _impl.sweep(launcher, loader, config, params or {}, given)
    shared = {*given[:3], *(text for text in launcher.launched[0] if text.startswith(("sweep.name", "hydra.")))}
    return [
        " ".join(text for text in job if text not in shared and not text.startswith("hydra.sweep.subdir"))
        for job in launcher.launched
    ]


def test_a_grid_is_the_product_each_point_once(loader, master):
    assert points(loader, master, "prune.sparsity=0.5,0.8,0.5", "quant=ptq,qat") == [
        "prune.sparsity=0.5 quant=ptq",
        "prune.sparsity=0.8 quant=ptq",
        "prune.sparsity=0.5 quant=qat",
        "prune.sparsity=0.8 quant=qat",
    ]


def test_an_axis_applies_where_its_key_exists(loader, master):
    assert sorted(points(loader, master, "quant=none,ptq,qat", "quant.bits=4,8")) == [
        "quant=none", "quant=ptq quant.bits=4", "quant=ptq quant.bits=8", "quant=qat quant.bits=4", "quant=qat quant.bits=8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("seed=range(3)", ["seed=0", "seed=1", "seed=2"]),
        ("seed=range(0,5,2)", ["seed=0", "seed=2", "seed=4"]),
        ("seed=choice(3,1)", ["seed=3", "seed=1"]),
        ("seed=sort(3,1)", ["seed=1", "seed=3"]),
        ("model=glob(resnet*)", ["model=resnet20", "model=resnet56", "model=resnet8"]),
        ("train.epochs=int(choice(2.0,3.0))", ["train.epochs=2", "train.epochs=3"]),
        ("model=lenet5", [""]),
        ("threads=null,2", ["threads=null", "threads=2"]),
        ("pipeline.order=[distill,prune,quant],[train,prune,quant]",
         ["pipeline.order=[distill,prune,quant]", "pipeline.order=[train,prune,quant]"]),
        ("dataset.limit=null,200", ["dataset.limit=null", "dataset.limit=200"]),
    ],
)  # fmt: skip
def test_axes_are_written_in_hydras_grammar(loader, master, override, values):
    assert points(loader, master, override) == ([override] if values == [""] else values)


def test_a_teacher_can_be_swept(loader, master):
    found = points(loader, master, "distill=kd", "model@distill.teacher=resnet8,resnet20")
    assert [text.split()[0] for text in found] == ["model@distill.teacher=resnet8", "model@distill.teacher=resnet20"]


def test_the_command_line_wins_over_the_sweepers_params(loader, master):
    params = {"prune.sparsity": "0.1,0.2", "quant.bits": "4,8"}
    assert points(loader, master, "prune.sparsity=0.6", params=params) == [
        "quant.bits=4 prune.sparsity=0.6",
        "quant.bits=8 prune.sparsity=0.6",
    ]


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["prune.sparsity=0.5,1.5"], "prune.sparsity"),
        (["prune.sparsty=0.5,0.8"], "prune.sparsty"),
        (["quant=none,float16", "quant.bits=4,8"], "quant.bits"),
        (["quant=none,qat", "quant.bits=8,9"], "quant.bits"),
        (["prune.sparsity=interval(0,1)"], "prune.sparsity"),
        (["pipeline.order=[distill,prune,quant],[quant,distill]"], "pipeline.order"),
        (["dataset=digits,mnist", "+dataset.path=/nowhere.npz"], "dataset"),
    ],
)
def test_a_sweep_is_refused_before_anything_runs(loader, master, overrides, where):
    config, given = master(*overrides)
    launcher = Launcher()
    with pytest.raises(ConfigError) as refused:
        _impl.sweep(launcher, loader, config, {}, given)
    assert refused.value.where == where
    assert launcher.launched == []


def test_a_failed_trial_does_not_stop_the_others_and_is_told_at_the_end(loader, master, capsys):
    config, given = master("seed=1,2,3")
    launcher = Launcher(fails={1})
    with pytest.raises(_impl.SweepFailed, match=r"1 of 3 trials failed \(trial-001\)"):
        _impl.sweep(launcher, loader, config, {}, given)
    assert len(launcher.launched) == 3
    told = capsys.readouterr().err
    assert "trial 2 of 3: seed=2" in told
    assert "failed: RuntimeError: it broke" in told
    assert "2 of 3 trials" in told


def test_every_trial_knows_its_folder_and_its_sweep(loader, master):
    config, given = master("seed=1,2")
    launcher = Launcher()
    _impl.sweep(launcher, loader, config, {}, given)
    for number, job in enumerate(launcher.launched):
        assert f"hydra.sweep.subdir=trial-00{number}" in job
        assert "sweep.name=s1" in job
