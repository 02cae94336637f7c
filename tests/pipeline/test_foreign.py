"""Files from anywhere on a data set: what does not fit is refused without running it, and what fits has a trial's metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import Silent
from made_files import by_hand, edited, tiny

from sweep.core import jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.core.types import Data, Split
from sweep.pipeline import foreign
from sweep.pipeline.cache import Cache
from sweep.pipeline.memo import Memo

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
    metrics = file.metrics(DATA, Memo(Cache(tmp_path / "cache")), 2, Silent())
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
        return foreign.opened(path, DATA, value_range).metrics(DATA, memo, 1, Silent())["test_accuracy"]

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
    metrics = foreign.record(file, DATA, folder, store=tmp_path / "cache", threads=1, progress=Silent())
    assert jsonfiles.read(folder / "metrics.json") == dict(metrics)
    facts = jsonfiles.read(folder / "file.json")
    assert (facts["path"], facts["sha256"]) == (str(file.path), file.digest)
    assert (facts["dataset"], facts["data_hash"], facts["split_hash"]) == ("squares", "content", "split")


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
        file.metrics(DATA, Memo(Cache(tmp_path / "cache")), 1, Silent())
