"""Files from anywhere on a data set: what does not fit is refused without running it, and what fits has a trial's metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from conftest import Silent
from made_files import by_hand, edited, tiny

from sweep.core import jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.core.types import Data, Split
from sweep.devices.fitness import Unfit
from sweep.devices.litert import LiteRT
from sweep.devices.microcontroller import Microcontroller
from sweep.pipeline import foreign
from sweep.pipeline.cache import Cache
from sweep.pipeline.memo import Memo
from sweep.tflite import external, tflm

LITERT = LiteRT()
TRIALS_ALONE = {"float_accuracy", "conversion_gap", "compression", "train_seconds", "stages_reused", "seconds_saved"}


def images(count: int, seed: int) -> Split:
    draws = np.random.default_rng(seed)
    return Split(draws.integers(0, 256, (count, 2, 2, 1), np.uint8), draws.integers(0, 3, count))


DATA = Data("squares", 3, images(9, 0), images(30, 1), images(50, 2), "content", "split")


@pytest.fixture
def stored(tmp_path):
    def write(content: bytes):
        path = tmp_path / "theirs.tflite"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_every_metric_but_those_of_a_trial(stored, tmp_path, kind):
    file = foreign.opened(stored(tiny(kind)), DATA)
    metrics = file.metrics(DATA, LITERT, Memo(Cache(tmp_path / "cache")), 2, Silent())
    of_a_target = {name for name, metric in METRICS.items() if metric.only} - {"arena_bytes"}
    assert list(metrics) == [name for name in METRICS if name not in TRIALS_ALONE | of_a_target]
    for name, split in (("val_accuracy", DATA.validation), ("test_accuracy", DATA.test)):
        assert metrics[name] == np.mean(by_hand(tiny(kind), split.images).argmax(axis=1) == split.labels)
    assert metrics["size_bytes"] == len(tiny(kind))
    assert (metrics["parameters"], metrics["macs"]) == (15, 12)
    assert metrics["efficiency"] == pytest.approx(100 * metrics["test_accuracy"] / (len(tiny(kind)) / 1024))


def test_another_scaling_is_another_result(stored, tmp_path):
    memo, path = Memo(Cache(tmp_path / "cache")), stored(tiny("FLOAT32"))

    def measured(value_range: Any) -> float:
        return foreign.opened(path, DATA, value_range).metrics(DATA, LITERT, memo, 1, Silent())["test_accuracy"]

    assert measured(None) == measured((0.0, 1.0))
    assert measured((-1.0, 1.0)) != measured(None)


def test_the_scaling_is_said(stored):
    said = "int8 input, pixels as 0 to 1, since its scale and zero point span 0 to 1"
    assert foreign.opened(stored(tiny("INT8")), DATA).scaling == said
    assert "float32 input, pixels as 0 to 1, since floats do not tell" in foreign.opened(stored(tiny("FLOAT32")), DATA).scaling
    given = foreign.opened(stored(tiny("FLOAT32")), DATA, (0.0, 255.0))
    assert given.scaling == "float32 input, pixels as 0 to 255, as given"


def test_what_was_measured_is_written(stored, tmp_path):
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "metrics.json").write_text("of an earlier run")
    file = foreign.opened(stored(tiny("INT8")), DATA)
    metrics = foreign.record(file, DATA, LITERT, folder, store=tmp_path / "cache", threads=1, progress=Silent())
    assert jsonfiles.read(folder / "metrics.json") == dict(metrics)
    facts = jsonfiles.read(folder / "file.json")
    assert (facts["path"], facts["sha256"]) == (str(file.path), file.digest)
    assert (facts["dataset"], facts["data_hash"], facts["split_hash"]) == ("squares", "content", "split")
    assert facts["target"] == "litert"


needs_tflm = pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")


@needs_tflm
@pytest.mark.parametrize("value_range", [None, (0.0, 255.0), (-1.0, 1.0)])
def test_tflm_gets_the_files_own_scaling_too(stored, tmp_path, value_range):
    file = foreign.opened(stored(tiny("FLOAT32")), DATA, value_range)
    target = Microcontroller(images=10, accuracy=True)
    metrics = file.metrics(DATA, target, Memo(Cache(tmp_path / "cache")), 1, Silent())
    assert metrics["target_agreement"] == 1
    assert metrics["tflm_accuracy"] == metrics["val_accuracy"]
    assert metrics["arena_bytes"] == tflm.arena(tiny("FLOAT32")).total


@needs_tflm
def test_tflm_answers_two_classes_with_one_output(stored, tmp_path):
    model = flatbuffer_utils.read_model_from_bytearray(tiny("FLOAT32"))
    graph = model.subgraphs[0]
    graph.tensors[1].shape, graph.tensors[2].shape, graph.tensors[3].shape = [1, 4], [1], [1, 1]
    for buffer, size in ((model.buffers[1], 16), (model.buffers[2], 4)):
        buffer.data = buffer.data[:size]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    labels = [replace(split, labels=split.labels % 2) for split in (DATA.train, DATA.validation, DATA.test)]
    data = replace(DATA, classes=2, train=labels[0], validation=labels[1], test=labels[2])
    file = foreign.opened(stored(content), data)
    metrics = file.metrics(data, Microcontroller(accuracy=True), Memo(Cache(tmp_path / "cache")), 1, Silent())
    assert 0 < metrics["val_accuracy"] < 1
    assert metrics["tflm_accuracy"] == metrics["val_accuracy"]


def test_a_file_that_does_not_run_on_the_target_is_refused_before_it_is_answered(stored, tmp_path, monkeypatch):
    class Other(LiteRT):
        name = "other"

        def rehearsed(self, content: bytes) -> Any:
            raise Unfit("it has no FULLY_CONNECTED")

    monkeypatch.setattr(foreign, "predictions", None)
    file = foreign.opened(stored(tiny("INT8")), DATA)
    with pytest.raises(ConfigError, match=r"theirs.tflite: expected a file that runs on other; received it has no FULLY_CONN"):
        foreign.record(file, DATA, Other(), tmp_path, store=tmp_path / "cache", threads=1, progress=Silent())


def refused(path: Any, data: Data = DATA, value_range: Any = None) -> str:
    with pytest.raises(ConfigError) as raised:
        foreign.opened(path, data, value_range)
    line = str(raised.value)
    assert "\n" not in line
    return line


def test_what_does_not_fit_is_refused(stored, tmp_path):
    path = stored(tiny("INT8"))
    wide = Split(np.zeros((4, 2, 3, 1), np.uint8), np.zeros(4, np.int64))
    assert refused(path, replace(DATA, train=wide)) == f"{path}: expected an input of 2x3x1 (squares); received 2x2x1"
    assert refused(path, replace(DATA, classes=10)) == f"{path}: expected 10 outputs, one a class (squares); received 3"
    assert refused(path, value_range=(1.0, 0.0)).startswith("--range: expected the value of black, then a larger one")
    assert refused(path, value_range=(float("nan"), 0.0)).startswith("--range: expected a number in")
    assert refused(tmp_path / "absent.tflite").endswith("absent.tflite: expected a .tflite file; received nothing")
    assert refused(tmp_path).endswith("expected a .tflite file; received a folder")
    assert "expected a .tflite file with one image as its input" in refused(stored(b"not a model"))
    assert "expected a .tflite file with one image as its input" in refused(stored(tiny("INT8")[:-100]))


def test_an_input_of_another_kind_needs_a_range(stored):
    def spectrogram(graph: Any) -> None:
        quantization = graph.tensors[graph.inputs[0]].quantization
        quantization.scale, quantization.zeroPoint = [0.5847029], [83]

    path = stored(edited(tiny("INT8"), spectrogram))
    assert refused(path).endswith("or the values of black and white in --range; received INT8 of -123.4 to 25.73")
    assert foreign.opened(path, DATA, (-123.0, 25.0)).interface.low == -123.0


def test_one_output_will_do_for_two_classes_alone(stored):
    def one(graph: Any) -> None:
        graph.tensors[graph.outputs[0]].shape = [1, 1]

    path = stored(edited(tiny("FLOAT32"), one))
    assert foreign.opened(path, replace(DATA, classes=2)).interface.threshold == 0.0
    assert refused(path).endswith("expected 3 outputs, one a class (squares); received 1")


def test_a_file_that_does_not_run_is_refused_when_measured(stored, tmp_path):
    def unfit(graph: Any) -> None:
        graph.tensors[graph.outputs[0]].shape = [1, 3]
        graph.tensors[1].shape = [4, 3]  # a kernel for images of three numbers

    file = foreign.opened(stored(edited(tiny("FLOAT32"), unfit)), DATA)
    with pytest.raises(ConfigError, match="expected a file that LiteRT runs; received LiteRT cannot run the file"):
        file.metrics(DATA, LITERT, Memo(Cache(tmp_path / "cache")), 1, Silent())
