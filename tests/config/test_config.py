"""Every YAML under conf/ composes and instantiates, has no dead key, and a bad value is refused at its key."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from hydra.utils import get_class
from omegaconf import DictConfig, ListConfig

from sweep.config import build, explain
from sweep.config.invocation import Invocation
from sweep.core.errors import ConfigError
from sweep.pipeline.plan import Pipeline

GROUPS = ("cluster", "dataset", "distill", "model", "pipeline", "prune", "quant", "tracking", "train")
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.rglob("*.yaml") if path.parent.name in GROUPS)
PARTS = sorted(
    (f"{path.parent.parent.name}/{path.parent.name}", path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent.parent.name in GROUPS and path.parent.name != "settings"
)
# What a part that the defaults do not have comes with.
BROUGHT = {"prune/score": ("prune=channels_global",)}
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str, name: str = "test") -> DictConfig:
    return compose("config", [*overrides, f"sweep.name={name}"], return_hydra_config=False)


def test_the_walk_finds_every_group():
    assert {group for group, _ in CHOICES} == set(GROUPS)
    assert len(CHOICES) > 30
    assert {group for group, _ in PARTS} == {
        "prune/schedule", "prune/score", "quant/weight_range", "train/optimizer", "train/schedule",
    }  # fmt: skip
    assert EXPERIMENTS


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_instantiates(group, choice):
    config = composed(f"{group}={choice}")
    built = build.tracker(config) if group == "tracking" else getattr(build.plan(config), group)
    assert f"{type(built).__module__}.{type(built).__name__}" == config[group]._target_


@pytest.mark.parametrize(("part", "choice"), PARTS)
def test_every_choice_of_a_part_composes_and_instantiates(part, choice):
    config = composed(f"{part}={choice}", *BROUGHT.get(part, ()))
    group, _, key = part.partition("/")
    built = getattr(getattr(build.plan(config), group), key)
    assert f"{type(built).__module__}.{type(built).__name__}" == config[group][key]._target_


@pytest.mark.parametrize(("group", "choice"), [*CHOICES, *PARTS])
def test_no_key_is_dead_and_none_is_left_to_a_hidden_default(group, choice):
    def walk(node, path):
        if isinstance(node, ListConfig):
            for item in node:
                walk(item, path)
        if isinstance(node, DictConfig):
            if "_target_" in node:
                takes = set(inspect.signature(get_class(node["_target_"])).parameters)
                assert set(map(str, node)) - {"_target_"} == takes, path
            for name in node:
                walk(node[name], f"{path}.{name}")

    top = group.partition("/")[0]
    walk(composed(f"{group}={choice}", *BROUGHT.get(group, ()))[top], top)


@pytest.mark.parametrize("choice", EXPERIMENTS)
def test_every_experiment_composes_and_instantiates(choice):
    build.plan(composed(f"+experiment={choice}"))


def test_bits_of_layers_are_written_on_the_command_line():
    plan = build.plan(composed("quant=qat", "quant.per_layer_bits={stem:8,s3*:3}", "quant.first_last_bits=8"))
    assert dict(plan.quant.per_layer_bits) == {"stem": 8, "s3*": 3}
    assert build.plan(composed("quant=ptq")).quant.per_layer_bits is None


def test_teacher_and_assistants_come_from_the_model_group():
    plan = build.plan(
        composed(
            "distill=assistant",
            "model@distill.teacher=resnet56",
            "+model@distill.assistants.first=resnet20",
            "+model@distill.assistants.second=resnet8",
            "distill.assistants.second.width=0.5",
        )
    )
    roles = {key.rpartition(".")[2]: model for key, model in plan.distill.networks().items()}
    assert [(role, model.blocks, model.width) for role, model in roles.items()] == [
        ("teacher", 9, 1.0), ("first", 3, 1.0), ("second", 1, 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["prune.sparsity=1.5"], "prune.sparsity"),
        (["prune.sparsity=half"], "prune.sparsity"),
        (["prune.schedule.power=0"], "prune.schedule.power"),
        (["quant.bits=9"], "quant.bits"),
        (["quant.bits=true"], "quant.bits"),
        (["distill=kd", "distill.temperature=0"], "distill.temperature"),
        (["distill=kd", "distill.teacher.blocks=0"], "distill.teacher.blocks"),
        (["distill=features", "distill.beta=-1"], "distill.beta"),
        (["distill=features", "distill.layers=conv1"], "distill.layers"),
        (["distill=features", "distill.layers={conv1:3}"], "distill.layers.conv1"),
        (["train.epochs=-1"], "train.epochs"),
        (["train.optimizer.weight_decay=-1"], "train.optimizer.weight_decay"),
        (["model=cnn", "model.filters=[8,-8]"], "model.filters[1]"),
        (["+model.depth=3"], "model"),
        (["+typo=3"], "config"),
        (["~prune.sparsity"], "prune"),
        (["model._target_=sweep.models.families.Nothing"], "model._target_"),
        (["dataset.augment=null"], "dataset.augment"),
        (["pipeline.order=[]"], "pipeline.order"),
        (["pipeline.order=distill"], "pipeline.order"),
        (["pipeline.order=[quant]"], "pipeline.order"),
        (["pipeline.order=[prune,quant]"], "pipeline.order"),
        (["pipeline.order=[distill,quant,prune]"], "pipeline.order"),
        (["pipeline.order=[distill,prune]"], "pipeline.order"),
        (["pipeline.order=[distill,prune,prune,quant]"], "pipeline.order"),
        (["pipeline.order=[distill,quant,prune,quant]"], "pipeline.order"),
        (["pipeline.order=[distill,shrink,quant]"], "pipeline.order"),
        (["pipeline.order=[distill,cluster,prune,quant]"], "pipeline.order"),
        (["pipeline.order=[distill,cluster,distill,cluster,quant]"], "pipeline.order"),
        (["cluster=kmeans", "cluster.levels=1"], "cluster.levels"),
        (["+cluster.levels=4"], "cluster"),
        (["cluster._target_=sweep.compress.prune.no_pruning.NoPruning"], "cluster._target_"),
        (["quant.per_layer_bits={stem:9}"], "quant.per_layer_bits.stem"),
        (["quant.sparse=1"], "quant.sparse"),
        (["train.optimizer=null"], "train.optimizer"),
        (["train.schedule=adam"], "train.schedule"),
        (["prune.schedule=null"], "prune.schedule"),
        (["distill=kd", "distill.teacher=null"], "distill.teacher"),
        (["distill=kd", "distill.teacher=resnet8"], "distill.teacher"),
        (["distill=assistant", "distill.assistants=-1"], "distill.assistants"),
        (["distill=assistant", "distill.assistants={x:lenet5}"], "distill.assistants.x"),
        (["distill=assistant", "+model@distill.assistants.teacher=lenet5"], "distill.assistants"),
        (["model._target_=builtins.dict", "~model.width"], "model._target_"),
        (["quant._target_=null"], "quant._target_"),
        (["+train.momentum=3"], "train"),
        (["seed=-1"], "seed"),
        (["seed=1.5"], "seed"),
        (["seed=null"], "seed"),
        (["threads=0"], "threads"),
    ],
)
def test_a_bad_value_is_refused_at_its_key(overrides, where):
    with pytest.raises(ConfigError) as refused:
        build.plan(composed(*overrides))
    assert refused.value.where == where
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["dataset=mnist", "dataset.path=/nowhere.npz"], "dataset.path"),
        (["model=cnn", "model.filters=[8,8,8,8]"], "model"),
        (["distill=kd", "model@distill.teacher=cnn", "distill.teacher.filters=[8,8,8,8]"], "distill.teacher"),
        (["model=cnn", "model.filters=[]", "prune.layers=conv"], "prune.layers"),
        (["pipeline.order=[distill,quant]"], "pipeline.order"),
        (["distill=kd", "pipeline.order=[train,prune,quant]"], "pipeline.order"),
        (["cluster=kmeans", "cluster.layers=conv", "model=cnn", "model.filters=[]"], "cluster.layers"),
    ],
)
def test_what_the_data_or_another_choice_rules_out_is_refused_by_the_check(overrides, where):
    plan = build.plan(composed(*overrides))
    with pytest.raises(ConfigError) as refused:
        plan.check()
    assert refused.value.where == where


def test_a_plan_is_checked_once(monkeypatch):
    plan, checked = build.plan(composed()), []
    monkeypatch.setattr(type(plan.model), "check", lambda model, input_shape: checked.append(input_shape))
    assert plan.check() is plan.check()
    assert checked == [(8, 8, 1)]


@pytest.mark.parametrize(
    "order",
    [
        ["train", "quant"],
        ["distill", "prune", "quant"],
        ["train", "prune", "distill", "quant"],
        ["train", "prune", "distill", "prune", "quant"],
        ["train", "prune", "cluster", "distill", "quant"],
    ],
)
def test_sensible_orders_pass(order):
    assert Pipeline(order).order == order


@pytest.mark.parametrize(
    ("order", "stages"),
    [
        (["train", "quant"], ["train", "cluster", "bit_search", "quant"]),
        (["train", "prune", "distill", "quant"], ["train", "prune", "distill", "cluster", "bit_search", "quant"]),
        (["train", "prune", "cluster", "distill", "quant"], ["train", "prune", "cluster", "distill", "bit_search", "quant"]),
    ],
)
def test_an_order_need_not_name_the_clustering_which_then_goes_before_quantisation(order, stages):
    assert [*Pipeline(order).stages] == stages
    build.plan(composed("prune=none", "cluster=kmeans", f"pipeline.order=[{','.join(order)}]")).check()


def test_nothing_to_prune_is_fine_where_nothing_is_pruned():
    for overrides in (["prune=none"], ["prune.sparsity=0"]):
        build.plan(composed("pipeline=distill_quant", *overrides)).check()


def test_the_job_knows_what_was_swept_and_the_whole_configuration(tmp_path):
    config = composed(f"output={tmp_path}", "tracking.uri=http://me:secret@host", name="s1")
    (tmp_path / "trial-003").mkdir()
    point = {"prune.sparsity": "0.8", "+model@distill.x": "lenet5"}
    (tmp_path / "trial-003" / "trial.json").write_text(json.dumps({"overrides": point}))
    (tmp_path / "sweep.json").write_text(json.dumps({"parent_run_id": "abc"}))
    job = build.job(
        config,
        Invocation(
            folder=tmp_path / "trial-003",
            choices={"quant": "ptq", "hydra/sweeper": "pareto"},
            overrides=("prune.sparsity=0.8", "+model@distill.x=lenet5", "seed=1", "sweep.name=s1"),
            swept=True,
        ),
    )
    assert job.swept == {"prune.sparsity": "0.8", "model@distill.x": "lenet5"}
    assert job.overrides == ("prune.sparsity=0.8", "+model@distill.x=lenet5", "seed=1")
    assert job.params["quant"] == "ptq"
    assert job.params["prune.sparsity"] == "0.5"
    assert not any("_target_" in name or name.startswith("hydra") for name in job.params)
    assert "secret" not in job.config + str(job.params)
    assert (job.name, job.store) == ("trial-003", tmp_path / "cache")
    assert (job.parent_run_id, job.front) == ("abc", tmp_path / "front.json")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o555)
    for place, said in (("file", "a file"), ("file/below", "a file"), ("closed", "read-only"), ("closed/below", "read-only")):
        with pytest.raises(ConfigError, match=said):
            build.output(composed(f"output={tmp_path / place}"))
    assert build.output(composed(f"output={tmp_path / 'new' / 'deep'}")) == Path(tmp_path / "new" / "deep")


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b", "-x"])
def test_a_sweep_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"sweep\.name"):
        build.sweep_name(composed(name=f"'{name}'"))


def test_a_launcher_that_is_not_installed_is_told_with_the_extra_that_brings_it():
    missing = MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_local", options=["basic", "workers"])
    told = "hydra/launcher: expected one of basic, workers, or first pip install -e '.[slurm]'; received submitit_local"
    assert explain.explain(missing) == (2, told)
