"""What a sweep's trials stand on: a start or a trial on other data, code or values is refused, other versions are told."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_sweeper import Launcher, launcher, loader, master, swept  # noqa: F401 - fixtures

from sweep.core.errors import ConfigError
from sweep.data import datasets
from sweep.pipeline import origin, sources
from sweep.pipeline.origin import Origin

OWN = """
from dataclasses import dataclass
from sweep.models import families

@dataclass(frozen=True, kw_only=True)
class Net(families.CNN):
    def build(self, input_shape, classes):
        import own_blocks
"""
BEGAN = Origin({"arrays path=a.npz": "1" * 64}, {"own": "2" * 64}, {"model.width": "1"}, {"numpy": "2.0", "sweep": "0.1"})


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Data and a network of the user's; returns the overrides that name them."""
    (tmp_path / "own_net.py").write_text(OWN)
    (tmp_path / "own_blocks.py").write_text("SIZE = 8\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    write_data(tmp_path, 0)
    yield [
        "dataset=arrays", f"dataset.path={tmp_path}/own.npz", "model=cnn", "model._target_=own_net.Net",
        "model.filters=[4]", "model.units=[4]", "prune.sparsity=0.5,0.8",
    ]  # fmt: skip
    sys.modules.pop("own_net", None)


def write_data(folder, seed):
    draws = np.random.default_rng(seed)
    images, labels = draws.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4
    np.savez(folder / "own.npz", x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])


def new_process(monkeypatch):
    """Forget what this process has read."""
    datasets._load.cache_clear()
    monkeypatch.setattr(sources, "_read", sources.Reader())


def begun(tmp_path):
    return json.loads((tmp_path / "sweeps" / "s1" / "sweep.json").read_text())


def test_a_sweep_goes_on_on_what_it_began_with(loader, master, launcher, own, tmp_path, monkeypatch):  # noqa: F811
    swept(launcher, loader, master, *own)
    first = begun(tmp_path)["origin"]
    new_process(monkeypatch)
    assert swept(launcher, loader, master, *own) == []
    assert begun(tmp_path)["origin"] == first
    assert set(first["code"]) == {"own_net", "own_blocks"}
    assert list(first["data"]) == [f"arrays path={tmp_path}/own.npz test=0.15"]
    assert first["configuration"]["prune.sparsity"] == "0.5, 0.8"
    assert not [key for key in first["configuration"] if key.startswith(("threads", "output", "tracking"))]


def other_data(tmp_path):
    write_data(tmp_path, 1)


def other_helper(tmp_path):
    (tmp_path / "own_blocks.py").write_text("SIZE = 2\n")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            other_data,
            r"the data that this sweep began with; received s1 \(arrays path=\S+/own.npz test=0.15: \w{8} then, \w{8} now\)",
        ),
        (other_helper, r"the code that this sweep began with; received s1 \(own_blocks: \w{8} then, \w{8} now\)"),
    ],
)
def test_a_start_on_something_else_is_refused(loader, master, launcher, own, tmp_path, monkeypatch, change, line):  # noqa: F811
    swept(launcher, loader, master, *own, n_trials=1)
    change(tmp_path)
    new_process(monkeypatch)
    with pytest.raises(ConfigError, match=f"^sweep.name: expected a new name, or {line}$"):
        swept(launcher, loader, master, *own, n_trials=2)
    assert len(launcher.launched) == 1


@pytest.mark.parametrize(
    ("key", "then", "now"),
    [
        ("model.filters", "[8]", "[4]"),
        ("pipeline.order", '["distill", "prune", "cluster", "quant"]', '["distill", "prune", "quant"]'),
    ],
)
def test_a_value_that_is_another_in_the_file_is_refused(loader, master, launcher, own, tmp_path, key, then, now):  # noqa: F811
    swept(launcher, loader, master, *own)
    record = begun(tmp_path)
    record["origin"]["configuration"][key] = then  # as if the YAML had said so then
    (tmp_path / "sweeps" / "s1" / "sweep.json").write_text(json.dumps(record))
    line = f"the configuration that this sweep began with; received s1 ({key}: {then} then, {now} now)"
    with pytest.raises(ConfigError, match=re.escape(line)):
        swept(launcher, loader, master, *own)


@pytest.mark.parametrize(
    "earlier", [None, 5, [], {}, {"data": {}}, {**BEGAN.as_record(), "data": 5}, {**BEGAN.as_record(), "data": {"a": 5}}]
)
def test_a_sweep_that_was_begun_without_goes_on(loader, master, launcher, own, tmp_path, earlier):  # noqa: F811
    swept(launcher, loader, master, *own)
    record = begun(tmp_path) | {"origin": earlier}
    (tmp_path / "sweeps" / "s1" / "sweep.json").write_text(json.dumps(record))
    assert swept(launcher, loader, master, *own) == []
    assert Origin.read(begun(tmp_path)["origin"]) is not None


def test_other_versions_are_told_and_gone_on_with(loader, master, launcher, own, tmp_path, capsys):  # noqa: F811
    swept(launcher, loader, master, *own)
    record = begun(tmp_path)
    record["origin"]["versions"]["numpy"] = "1.0"
    (tmp_path / "sweeps" / "s1" / "sweep.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert swept(launcher, loader, master, *own) == []
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith("warning: the sweep goes on with other versions than it began with: numpy: 1.0 then, ")


def test_a_trial_on_something_else_is_refused():
    BEGAN.require_of_trial(BEGAN)
    BEGAN.require_of_trial(Origin({"digits": "3"}, {}, {"model.width": "2"}, {}))
    with pytest.raises(ConfigError, match=r"^dataset: expected the data .* began with; received arrays path=a.npz: 1{8}"):
        BEGAN.require_of_trial(replace(BEGAN, data={"arrays path=a.npz": "4" * 64}))
    with pytest.raises(ConfigError, match=r"^code: expected the code .* began with; received own: 2{8} then, 4{8} now"):
        BEGAN.require_of_trial(replace(BEGAN, code={"own": "4" * 64}))


@pytest.mark.parametrize("content", ["", "{", "5", "{}", '{"origin": 1}', "[" * 5000])
def test_a_damaged_record_has_no_origin(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    assert origin.of_sweep(tmp_path) is None
    assert origin.of_sweep(tmp_path / "absent") is None


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"origin": BEGAN.as_record()}))
    assert origin.of_sweep(tmp_path) == BEGAN
