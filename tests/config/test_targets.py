"""A `_target_` is called only where it names what its place takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweep.config import build, targets
from sweep.core.errors import ConfigError
from sweep.core.protocols import members, missing
from sweep.pipeline import plan, protocols
from sweep.tracking import tracker
from sweep.train import recipes

PROTOCOLS = (
    protocols.Dataset,
    plan.Spec,
    protocols.Pruning,
    protocols.Clustering,
    protocols.Quantisation,
    tracker.Tracker,
    recipes.Optimizer,
)
MINE = """
from __future__ import annotations
from dataclasses import dataclass
from sweep.core.errors import ConfigError
from sweep.tracking import tracker
from sweep.train import recipes

@dataclass(frozen=True)
class Mine:
    width: float
    optimizer: recipes.Optimizer | None = None
    blocks: tuple[recipes.Schedule, ...] = ()
    named: dict[str, recipes.Schedule] | None = None
    loose: object = None
    def check(self, input_shape): pass
    def kinds(self): return frozenset({"conv", "dense"})
    def build(self, input_shape, classes): raise NotImplementedError

class Subclass(Mine): pass

class Written:
    def __init__(self, width: float): self.width = width
    check = kinds = build = lambda *_: frozenset({"conv", "dense"})

class Kindless:
    check = build = lambda *_: None

class Valued(Mine):
    kinds = ("conv",)

@dataclass(frozen=True)
class Breaks(Mine):
    def __post_init__(self): raise KeyError("width")

class Images:
    name = "mine"
    augment = None
    def load(self): raise ConfigError("path", "images", "none")

class Tells(tracker.NoTracking): pass

def function(width): pass
"""


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a module that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str, name: str = "mine") -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def built(*overrides: str) -> plan.Plan:
    config = compose("config", [*overrides, "sweep.name=t"])
    build.tracker(config)
    return build.plan(config)


def refused(*overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        built(*overrides)
    assert "\n" not in str(error.value)
    return error.value


GROUPS = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline", "tracking")
NODES = {
    "train.optimizer": (), "train.schedule": (), "prune.schedule": (), "prune.score": ("prune=channels_global",),
    "quant.weight_range": (), "dataset.augment": (), "distill.teacher": ("distill=kd",),
    "distill.assistants.first": ("distill=assistant", "+model@distill.assistants.first=lenet5"),
}  # fmt: skip


@pytest.mark.parametrize("place", [*GROUPS, *NODES])
@pytest.mark.parametrize("target", ["subprocess.Popen", "logging.FileHandler", "io.FileIO", "builtins.open", "os.system"])
def test_a_class_that_is_not_what_its_place_takes_is_not_called(tmp_path, place, target):
    made = tmp_path / "made"
    more = [f"++{place}.{key}={made}" for key in ("filename", "file", "path")] + [f"++{place}.args=[touch,{made}]"]
    error = refused(*NODES.get(place, ()), f"++{place}._target_={target}", f"++{place}.mode=w", *more)
    assert error.where == f"{place}._target_"
    assert target in str(error.received)
    assert not made.exists()


@pytest.mark.parametrize("place", ["model.width", "seed", "quant.bits", "dataset.path", "distill.layers", "train.epochs"])
def test_a_value_is_no_object(tmp_path, place):
    value = f"{{_target_:io.FileIO,file:{tmp_path / 'made'},mode:w}}"
    choices = ("dataset=mnist", "distill=features")
    for written in (value, f"[{value}]", f"{{a:{value}}}"):
        error = refused(*choices, f"{place}={written}")
        assert error.where.startswith(place.partition(".")[0])
    assert not (tmp_path / "made").exists()


def test_what_a_place_takes_and_what_is_missing_is_told():
    line = "model._target_: expected a class with check, kinds, build (see sweep.core.types.Spec); received "
    assert str(refused("model._target_=sweep.train.recipes.Adam")) == f"{line}sweep.train.recipes.Adam (without check, kinds)"
    line = "train._target_: expected sweep.train.recipes.Recipe or a subclass of it; received sweep.train.recipes.Adam"
    assert str(refused("train._target_=sweep.train.recipes.Adam")) == line
    line = "model.width._target_: expected no object at model.width, which takes float; received sweep.train.recipes.Adam"
    assert str(refused("model.width={_target_:sweep.train.recipes.Adam}")) == line


@pytest.mark.parametrize("name", ["Mine", "Subclass", "Written"])
def test_a_class_of_ones_own_needs_the_members_and_no_base(module, name):
    module(MINE)
    assert built(f"model._target_=mine.{name}").model.width == 1


def test_a_data_set_and_a_tracker_of_ones_own_do(module):
    module(MINE)
    config = compose("config", ["sweep.name=t"])
    config.dataset = {"_target_": "mine.Images"}
    assert build.plan(config).dataset.name == "mine"
    built("tracking=none", "tracking._target_=mine.Tells")


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("Kindless", "mine.Kindless (without kinds)"),
        ("Valued", "mine.Valued (without kinds)"),
        ("function", "mine.function (a function)"),
        ("Absent", "mine.Absent (module 'mine' has no attribute 'Absent')"),
    ],
)
def test_what_is_no_model_is_refused(module, name, received):
    module(MINE)
    assert refused(f"model._target_=mine.{name}").received == received


def test_parts_of_a_class_of_ones_own_are_checked_by_its_annotations(module):
    module(MINE)
    constant, sgd = "{_target_:sweep.train.recipes.Constant}", "{_target_:sweep.train.recipes.SGD}"
    model = built("model._target_=mine.Mine", f"+model.optimizer={sgd}", f"+model.blocks=[{constant}]").model
    assert (model.optimizer, model.blocks) == (recipes.SGD(), (recipes.Constant(),))
    assert built("model._target_=mine.Mine", f"+model.named={{a:{constant}}}").model.named == {"a": recipes.Constant()}
    wrong = {f"optimizer={constant}", f"blocks=[{sgd}]", f"named={{a:{sgd}}}", f"loose={sgd}", f"blocks=[[{constant}]]"}
    for part in wrong:
        assert refused("model._target_=mine.Mine", f"+model.{part}").where.startswith(f"model.{part.partition('=')[0]}")


def test_an_annotation_that_only_a_type_checker_knows_takes_no_object(module):
    module(MINE.replace("recipes.Optimizer |", "Unknown |"))
    assert built("model._target_=mine.Mine").model.width == 1
    assert (
        refused("model._target_=mine.Mine", "+model.optimizer={_target_:sweep.train.recipes.SGD}").where
        == "model.optimizer._target_"
    )


def test_a_constructor_that_fails_is_told_at_its_node(module):
    module(MINE)
    assert (
        str(refused("model._target_=mine.Breaks"))
        == "model: expected what mine.Breaks can be made of; received KeyError: 'width'"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("class Mine(:", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_reason(module, source, reason):
    module(source)
    error = refused("model._target_=mine.Mine")
    assert (error.where, error.received) == ("model._target_", f"mine.Mine ({reason})")


@pytest.mark.parametrize("named", ["", ".", "mine", "a..b", "sweep.models.", "-", "5", "[a]", "{a:b}", "null", "true"])
def test_what_is_no_name_of_a_class_is_refused(named):
    assert refused(f"model._target_={named or chr(39) * 2}").where.startswith("model._target_")


def test_what_a_module_writes_past_python_stays_off_the_terminal(module, capfd):
    module(MINE + "\nimport os; os.write(2, b'noise of a native library')")
    built("model._target_=mine.Mine")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_members_of_a_protocol_are_read_from_it(protocol):
    assert members(protocol)
    assert all(not name.startswith("_") for name in members(protocol))
    assert missing(protocol, protocol) == ()
    assert missing(object, protocol) == tuple(members(protocol))


def test_a_protocol_has_the_members_of_those_that_it_extends():
    assert {"apply", "untrained", "sparsity", "share"} <= set(members(protocols.Pruning))
    assert members(protocols.Pruning)["share"]
    assert not members(protocols.Pruning)["sparsity"]


@pytest.mark.parametrize(
    ("annotation", "item", "value"),
    [
        (tuple[int, ...], (int,), ()),
        (tuple[int, str], (int,), ()),
        (list[recipes.Adam | None], (recipes.Adam, type(None)), ()),
        (Mapping[str, recipes.Adam] | list[int] | None, (int,), (recipes.Adam,)),
        (dict, (), ()),
        (int, (), ()),
    ],
)
def test_what_a_list_and_a_mapping_hold_is_read_from_the_annotation(annotation, item, value):
    place = targets._alternatives(annotation)
    assert targets.of_item(place, 0) == item
    assert targets.of_value(place) == value
