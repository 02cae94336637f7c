"""What a stage's result is kept under: the code of the user's modules too, as far as they import one another."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

import pytest

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import ptq
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.data import augment, datasets
from sweep.devices.litert import LiteRT
from sweep.models import families
from sweep.pipeline import executor, origin, sources, trial
from sweep.pipeline.cache import Cache
from sweep.pipeline.conversion import Converter
from sweep.pipeline.plan import Job, Pipeline, Plan
from sweep.tracking import tracker
from sweep.train import recipes

OWN = """
from dataclasses import dataclass
from sweep.models import families

@dataclass(frozen=True, kw_only=True)
class Net(families.CNN):
    def build(self, input_shape, classes):
        from blocks import body
        return body(super().build(input_shape, classes))

class Plain:
    def check(self, input_shape): pass
    def kinds(self): return frozenset({"conv"})
    def build(self, input_shape, classes): pass
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan with a network of the user's, whose module imports `blocks` when the network is built."""
    (tmp_path / "own_network.py").write_text(OWN)
    (tmp_path / "blocks.py").write_text("from sizes import FILTERS\n")
    (tmp_path / "sizes.py").write_text("FILTERS = 8\n")
    (tmp_path / "notes.py").write_text("FILTERS = 8\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_network")
    yield Plan(
        dataset=datasets.Digits(validation=0.2, limit=64, augment=augment.Augment(shift=1, flip=False)),
        model=own.Net(filters=(8,), units=(8,)),
        train=recipes.Recipe(
            epochs=2, batch_size=64, learning_rate=0.003, optimizer=recipes.Adam(), schedule=recipes.Constant()
        ),
        distill=teachers.NoDistillation(),
        prune=magnitude.GlobalMagnitude(
            sparsity=0.5, layers="all", schedule=schedules.PolynomialSparsity(), finetune=1, learning_rate=0.003
        ),
        cluster=kmeans.NoClustering(),
        quant=ptq.PTQ(bits=8, calibration_samples=64),
        pipeline=Pipeline(("distill", "prune", "quant")),
        target=LiteRT(),
        seed=0,
        threads=2,
    )
    del sys.modules["own_network"]


def keys(plan, monkeypatch, tmp_path):
    """What the results of the plan's stages would be kept under by a process that starts now."""
    monkeypatch.setattr(sources, "_read", sources.Reader())
    runner = executor._Trial.of(plan, Cache(tmp_path / "cache"), None, None).runner
    return [runner.digest(node) for node in runner.nodes]


def test_a_key_feels_a_helper_of_a_helper_and_no_other_file(plan, monkeypatch, tmp_path):
    first = keys(plan, monkeypatch, tmp_path)
    (tmp_path / "notes.py").write_text("FILTERS = 2\n")
    assert keys(plan, monkeypatch, tmp_path) == first
    (tmp_path / "sizes.py").write_text("FILTERS = 2\n")
    second = keys(plan, monkeypatch, tmp_path)
    assert not {*first} & {*second}
    (tmp_path / "sizes.py").write_text("FILTERS = 8\n")
    assert keys(plan, monkeypatch, tmp_path) == first


def test_a_key_of_ours_feels_nothing_of_the_users(plan, monkeypatch, tmp_path):
    ours = replace(plan, model=families.CNN(filters=(8,), units=(8,)))
    first = keys(ours, monkeypatch, tmp_path)
    (tmp_path / "sizes.py").write_text("FILTERS = 2\n")
    assert keys(ours, monkeypatch, tmp_path) == first


def test_a_key_feels_the_version_of_a_distribution(plan, monkeypatch, tmp_path):
    (tmp_path / "sizes.py").write_text("import lib\n")
    (tmp_path / "lib.py").write_text("")
    info = tmp_path / "lib-1.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("lib.py,,\n")
    (info / "METADATA").write_text("Name: lib\nVersion: 1\n")
    first = keys(plan, monkeypatch, tmp_path)
    (info / "METADATA").write_text("Name: lib\nVersion: 2\n")
    assert not {*first} & {*keys(plan, monkeypatch, tmp_path)}


def test_a_network_that_no_key_can_name_is_refused_before_anything_runs(plan):
    own = importlib.import_module("own_network")
    with pytest.raises(ConfigError, match="model: expected a dataclass of plain values; received Plain has no canonical form"):
        replace(plan, model=own.Plain()).check()


def test_a_network_without_a_file_is_refused_before_anything_runs(plan):
    space = {"__name__": "own_network", "families": families}
    exec("class Typed(families.CNN):\n    def kinds(self): return super().kinds()", space)
    with pytest.raises(
        ConfigError, match=r"model\._target_: expected a class in a module's file.*; received own_network\.Typed"
    ):
        replace(plan, model=space["Typed"](filters=(8,), units=(8,))).check()


def test_the_code_of_a_file_is_behind_what_is_made_of_it():
    code = sources.behind(ptq.PTQ(bits=8, calibration_samples=64), Converter)
    assert {
        "sweep.pipeline.conversion",
        *(f"sweep.tflite.{name}" for name in ("convert", "requantize", "calibrate", "litert", "tflm")),
        *(f"sweep.tflite.minimize.{name}" for name in ("smallest", "lossless", "sparse", "serialise", "redundant")),
    } <= set(code.modules)
    assert "sweep.pipeline.executor" not in code.modules
    assert "ai-edge-litert" in code.distributions


def test_a_trial_on_other_data_or_code_than_its_sweeps_fails_before_it_trains(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "_read", sources.Reader())
    folder = tmp_path / "sweeps" / "s1" / "trial-000"
    folder.mkdir(parents=True)
    began = origin.Origin.of([(plan, plan.check())])
    job = Job(plan, tracker.NoTracking(), tmp_path / "cache", folder, folder.name, {}, {}, "", ())
    for where, others in (("dataset", {"data": dict.fromkeys(began.data, "0")}), ("code", {"code": {"sizes": "0"}})):
        files.write_json(folder.parent / "sweep.json", {"origin": replace(began, **others).as_record()})
        with pytest.raises(ConfigError, match=f"^{where}: expected the .* that the sweep began with; received"):
            trial.execute(job, None)
        assert (folder / "error.txt").read_text().startswith(f"ConfigError: {where}: expected")
        assert not (tmp_path / "cache").exists()
