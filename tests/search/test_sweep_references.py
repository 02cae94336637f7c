"""The references of a sweep: refused before anything runs, measured once, and what a later start makes of another list."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from faulty import dies
from made_files import edited, tiny
from test_sweeper import Launcher, launcher, loader, master, swept  # noqa: F401 - fixtures

from sweep.core.errors import ConfigError
from sweep.core.types import Data, Split
from sweep.devices.microcontroller import Microcontroller
from sweep.results import reader
from sweep.search import references
from sweep.tflite import external, tflm
from sweep.tflite.litert import Network

CSV = "name,accuracy,bytes,source\nA,0.97,30000,somebody\n"


def eight(graph):
    """The tiny network on images as large as the digits, its answers for ten classes."""
    graph.tensors[graph.inputs[0]].shape = [1, 8, 8, 1]


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(CSV)
    return path


def refused(launcher, loader, master, *overrides):  # noqa: F811
    with pytest.raises(ConfigError) as raised:
        swept(launcher, loader, master, "seed=1,2", *overrides)
    assert not launcher.launched
    line = str(raised.value)
    assert "\n" not in line
    return line


def test_published_points_are_recorded_and_reported(loader, master, launcher, published, tmp_path):  # noqa: F811
    swept(launcher, loader, master, "seed=1,2", f"sweep.references=[{published}]")
    folder = tmp_path / "sweeps" / "s1"
    [point] = reader.read(folder).references
    assert (point.name, point.source, point.measured) == ("A", "somebody", False)
    assert "| A | 29.3 KiB | 97.00 % | as published | somebody |" in (folder / "report.md").read_text()
    assert "references" not in json.loads((folder / "sweep.json").read_text())["fixed"]
    assert "sweep.references" in json.loads((folder / "sweep.json").read_text())["command"]


def test_a_later_start_takes_its_own_list(loader, master, launcher, published, tmp_path):  # noqa: F811
    folder = tmp_path / "sweeps" / "s1"
    swept(launcher, loader, master, "seed=1,2", f"sweep.references=[{published}]")
    published.write_text(CSV + "B,0.5,100,x\n")
    swept(launcher, loader, master, "seed=1,2", f"sweep.references=[{published}]")
    assert [point.name for point in reader.read(folder).references] == ["A", "B"]
    swept(launcher, loader, master, "seed=1,2")
    assert reader.read(folder).references == ()
    assert len(launcher.launched) == 2, "the trials are those of the first start"


def test_a_sweep_without_references_records_none(loader, master, launcher, tmp_path):  # noqa: F811
    swept(launcher, loader, master, "seed=1,2")
    assert not (tmp_path / "sweeps" / "s1" / "references.json").exists()


def test_what_cannot_be_a_reference_is_refused_before_anything_runs(loader, master, launcher, tmp_path):  # noqa: F811
    path = tmp_path / "theirs.tflite"
    given = f"sweep.references=[{path}]"
    assert refused(launcher, loader, master, given) == f"{path}: expected a .tflite file; received nothing"
    path.write_bytes(tiny("INT8"))
    assert refused(launcher, loader, master, given) == f"{path}: expected an input of 8x8x1 (digits); received 2x2x1"
    path.write_bytes(edited(tiny("INT8"), eight))
    assert refused(launcher, loader, master, given) == f"{path}: expected 10 outputs, one a class (digits); received 3"
    assert "expected a list of files" in refused(launcher, loader, master, f"sweep.references={path}")
    assert "expected a list of files" in refused(launcher, loader, master, "sweep.references=[3]")
    line = refused(launcher, loader, master, f"sweep.references={path},{path}x")
    assert line.startswith("sweep.references: expected one value for the whole sweep")
    line = refused(launcher, loader, master, given, "dataset.validation=0.1,0.2")
    assert line == "sweep.references: expected a sweep over one data set; received an axis dataset.validation"
    assert (
        refused(launcher, loader, master, "+sweep.refs=[]") == "sweep: expected one of the keys name, references; received refs"
    )
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")
@pytest.mark.parametrize(("name", "runs"), [("int8", True), ("float16", False)])
def test_a_file_that_does_not_run_on_the_target_is_shown_with_what_litert_tells(tmp_path, name, runs):
    path = Path(__file__).parents[1] / "corpus" / "tflite" / f"{name}.tflite"
    classes = Network(path.read_bytes()).classes
    split = Split(np.zeros((5, 4, 4, 1), np.uint8), np.arange(5) % classes)
    data = Data("squares", classes, split, split, split, "content", "split")
    plan = SimpleNamespace(dataset=SimpleNamespace(load=lambda: data), target=Microcontroller(images=5), threads=1)
    reference = references._measure(plan, tmp_path, path, name)
    assert reference.metrics["size_bytes"] == path.stat().st_size
    assert ("target_agreement" in reference.metrics) is runs
    assert ("arena_bytes" in reference.metrics) is runs
    assert ("it does not run on tflm: TFLM failed: " in reference.source) is not runs


@pytest.mark.slow
def test_a_file_that_does_not_run_is_refused_before_anything_trains(loader, master, launcher, tmp_path):  # noqa: F811
    def unfit(graph):
        eight(graph)
        graph.tensors[graph.outputs[0]].shape = [1, 10]

    path = tmp_path / "theirs.tflite"
    path.write_bytes(edited(tiny("FLOAT32"), unfit))
    line = refused(launcher, loader, master, f"sweep.references=[{path}]")
    assert line == f"{path}: expected 10 outputs, as the file says; received 48 when it is run"


@pytest.mark.slow
def test_a_file_that_takes_its_process_down_is_refused(loader, master, launcher, tmp_path, monkeypatch):  # noqa: F811
    def digits(graph):
        eight(graph)
        graph.tensors[graph.outputs[0]].shape = [1, 10]

    path = tmp_path / "theirs.tflite"
    path.write_bytes(edited(tiny("FLOAT32"), digits))
    monkeypatch.setattr(references, "_measure", dies)
    line = refused(launcher, loader, master, f"sweep.references=[{path}]")
    assert line == f"{path}: expected a file that LiteRT runs; received the process that ran it died"
