"""The sensitivity of layers: the command as a user has it, its numbers found again otherwise, what is drawn and said."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONF, THREADS
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweep.compress.quantize import clipping, mixed_precision
from sweep.config import build
from sweep.core.types import Checkpoint, Split
from sweep.models import checkpoints, families
from sweep.pipeline import executor, kernel_changes, sensitivity
from sweep.pipeline.cache import Cache
from sweep.pipeline.kernel_changes import BITS, SPARSITIES
from sweep.pipeline.sensitivity import Point
from sweep.sensitivity import picture
from sweep.train import loop

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["model=cnn", "dataset.limit=200", "train.epochs=6", "prune.finetune=1", "prune.sparsity=0.3", f"threads={THREADS}"]
OVERRIDES = [*QUICK, "quant/weight_range=mse"]
LAYERS = ("conv1", "conv2", "conv3", "dense1", "logits")


class Quiet:
    """A terminal that nobody looks at."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, bool]] = []
        self.done: list[float] = []

    def stage(self, name: str, unit: str = "epoch") -> None:
        pass

    def advance(self, done: float, total: float, note: str) -> None:
        self.done.append(done / total)

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        self.stages.append((name, reused))


def command(*arguments: str, output: Path, module: str = "sweep.sensitivity") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", module, *arguments, f"output={output}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sensitivity.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The command, run for real on a network with masks."""
    output = tmp_path_factory.mktemp("sensitivity")
    process = command(*OVERRIDES, "sweep.name=s", output=output)
    assert process.returncode == 0, process.stderr
    return output, process


@pytest.fixture(scope="module")
def network(ran, tensorflow):
    """The network that it measured, out of its cache, its validation split, and what was told on the way."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plan = build.plan(compose("config", OVERRIDES))
    quiet = Quiet()
    checkpoint, data = executor.network(plan, Cache(ran[0] / "cache"), quiet)
    return checkpoint, data.validation, quiet


@pytest.mark.slow
def test_every_layer_has_a_row_for_each_of_its_points(ran):
    folder = ran[0] / "runs" / "s"
    first, *points = rows(folder)
    assert list(first) == ["layer", "parameters", "kind", "value", "val_accuracy", "divergence"]
    assert (first["layer"], first["kind"], first["value"], float(first["divergence"])) == ("", "none", "", 0)
    expected = [
        (layer, kind, value)
        for layer in LAYERS
        for kind, values in (("sparsity", SPARSITIES), ("bits", BITS))
        for value in values
    ]
    assert [(one["layer"], one["kind"], float(one["value"])) for one in points] == expected
    assert int(first["parameters"]) == sum({one["layer"]: int(one["parameters"]) for one in points}.values())
    assert all(float(one["divergence"]) >= 0 for one in points)
    assert (folder / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert "sparsity: 0.3" in (folder / "config.yaml").read_text()
    assert (folder / "overrides").read_text().split() == [*OVERRIDES, "sweep.name=s", f"output={ran[0]}"]
    assert set(json.loads((folder / "data.json").read_text())) == {
        "dataset",
        "data_hash",
        "split_hash",
        "techniques",
        "class_names",
    }


@pytest.mark.slow
def test_the_terminal_says_what_ran_what_came_of_it_and_where_it_is(ran):
    output, process = ran
    assert process.stdout == ""
    lines = [line.strip() for line in process.stderr.splitlines()]
    assert [line.split()[0] for line in lines[:3]] == ["distill", "prune", "sensitivity"]
    untouched = float(rows(output / "runs" / "s")[0]["val_accuracy"])
    assert lines[3] == f"untouched: validation {untouched:.2%}"
    assert [line.partition(":")[0].split(" of ")[1] for line in lines[4:6]] == ["one layer"] * 2
    assert lines[6:] == [f"{output}/runs/s/sensitivity.csv", f"{output}/runs/s/sensitivity.png"]


@pytest.mark.slow
def test_the_numbers_are_found_again_otherwise(ran, network):
    """The kernel changed among the checkpoint's arrays, by a sort and by a loop, and a new network made of them."""
    checkpoint, validation, _ = network
    found = {(one["layer"], one["kind"], one["value"]): one for one in rows(ran[0] / "runs" / "s")}
    model = checkpoints.restore(checkpoint)
    whole = loop.Predictor(model)(validation.images)
    untouched = float(found["", "none", ""]["val_accuracy"])
    assert untouched == loop.Predictor(model).accuracy(validation) > 0.5
    names = [variable.name for variable in model.weights]

    def again(layer: str, change: Any) -> tuple[float, float]:
        arrays = list(checkpoint.weights)
        place = names.index(f"{layer}/kernel:0")
        arrays[place] = change(arrays[place].copy())
        model.set_weights(arrays)
        logits = loop.Predictor(model)(validation.images)
        return float(np.mean(logits.argmax(1) == validation.labels)), mixed_precision.divergence(whole, logits)

    def pruned(kernel: np.ndarray) -> np.ndarray:
        flat = kernel.ravel()
        flat[np.argsort(np.abs(flat), kind="stable")[: round(0.8 * flat.size)]] = 0
        return flat.reshape(kernel.shape)

    def rounded(kernel: np.ndarray) -> np.ndarray:
        columns = kernel.reshape(-1, kernel.shape[-1])
        for channel in columns.T:
            step = clipping.MSE().thresholds(channel[:, None], 3)[0] / 3  # three bits reach from -3 to 3
            channel[:] = np.clip(np.round(channel / step), -3, 3) * step
        return columns.reshape(kernel.shape)

    for layer, kind, value, change in (("conv2", "sparsity", "0.8", pruned), ("conv2", "bits", "3", rounded)):
        accuracy, divergence = again(layer, change)
        assert float(found[layer, kind, value]["val_accuracy"]) == pytest.approx(accuracy, abs=1 / len(validation))
        assert float(found[layer, kind, value]["divergence"]) == pytest.approx(divergence, rel=1e-3)
        assert divergence > 1e-3
    for layer in LAYERS:
        assert float(found[layer, "bits", "8"]["val_accuracy"]) == pytest.approx(untouched, abs=0.01)
        assert float(found[layer, "bits", "8"]["divergence"]) < float(found[layer, "bits", "2"]["divergence"])


@pytest.mark.slow
def test_zeros_that_the_network_brings_stay(network, monkeypatch):
    checkpoint, validation, _ = network
    zeros = {name: ~mask for name, mask in checkpoint.masks.items()}
    assert sum(np.count_nonzero(some) for some in zeros.values()) > 0
    seen = []
    call = loop.Predictor.__call__
    model = checkpoints.restore(checkpoint)
    monkeypatch.setattr(checkpoints, "restore", lambda _: model)

    def watched(self, images):
        kernels = {name: kernel.numpy() for name, kernel in checkpoints.kernels(model).items()}
        seen.append(all(not kernels[name][some].any() for name, some in zeros.items()))
        return call(self, images)

    monkeypatch.setattr(loop.Predictor, "__call__", watched)
    few = Split(validation.images[:20], validation.labels[:20])
    quiet = Quiet()
    sensitivity.measure(checkpoint, few, clipping.MinMax(), quiet)
    assert len(seen) == 1 + len(LAYERS) * (len(SPARSITIES) + len(BITS))
    assert all(seen)
    assert quiet.done == sorted(quiet.done)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), checkpoint.weights, strict=True))


@pytest.mark.slow
def test_a_second_time_nothing_is_trained_and_a_quantisation_changes_nothing_before_it(ran, network):
    assert network[2].stages == [("distill", True), ("prune", True)]
    output, _ = ran
    process = command(*QUICK, "quant=qat", "quant/weight_range=mse", "sweep.name=again", "tracking=none", output=output)
    assert process.returncode == 0, process.stderr
    assert [line.split()[:2] for line in process.stderr.splitlines()[:2]] == [["distill", "reused,"], ["prune", "reused,"]]
    first, again = ((output / "runs" / name / "sensitivity.csv").read_bytes() for name in ("s", "again"))
    assert first == again


@pytest.mark.slow
def test_it_is_a_run_of_its_own_in_mlflow(ran):
    from mlflow.tracking import MlflowClient

    output = ran[0]
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("sweep").experiment_id])
    assert (run.info.run_name, run.info.status) == ("s", "FINISHED")
    assert run.data.tags["mlflow.source.name"] == "sweep.sensitivity"
    assert run.data.params["prune.sparsity"] == "0.3"
    first, *points = rows(output / "runs" / "s")
    assert run.data.metrics["float_accuracy"] == float(first["val_accuracy"])
    for layer in LAYERS:
        for kind in ("sparsity", "bits"):
            history = {one.step: one.value for one in client.get_metric_history(run.info.run_id, f"{kind}/{layer}")}
            own = [float(one["val_accuracy"]) for one in points if (one["layer"], one["kind"]) == (layer, kind)]
            assert history == dict(enumerate(own))
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert kept >= {"sensitivity.csv", "sensitivity.png", "config.yaml", "overrides", "data.json", "log"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seed=1", "-m"], "error: command line: expected one configuration, without -m; received seed=1 -m"),
        (["prune.sparsty=0.5"], "(did you mean sparsity?); received sparsty"),
        (["quant.bits=9"], "error: quant.bits: expected an integer of at least 2 and at most 8; received 9"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_exit_code_2(tmp_path, arguments, line):
    process = command(*arguments, output=tmp_path)
    assert process.returncode == 2
    assert process.stdout == ""
    [told] = process.stderr.splitlines()
    assert line in told
    assert not list(tmp_path.rglob("*.csv"))


def test_the_files_of_a_run_are_not_written_over(tmp_path):
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(b"a model")
    process = command("sweep.name=s", "tracking=none", output=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("error: sweep.name: expected a name without a run of sweep.main")
    assert [path.name for path in folder.iterdir()] == ["model.tflite"]


@pytest.mark.slow
def test_depthwise_kernels_are_rounded_and_not_pruned(digits, tensorflow):
    checkpoints.fresh(0)
    built = families.MobileNet(stem=4, filters=(6, 8), strides=(1, 2)).build(digits.input_shape, digits.classes)
    few = Split(digits.validation.images[:30], digits.validation.labels[:30])
    _, *points = sensitivity.measure(checkpoints.snapshot(built), few, clipping.MinMax(), Quiet())
    kinds = {layer: [one.kind for one in points if one.layer == layer] for layer in dict.fromkeys(one.layer for one in points)}
    assert list(kinds) == ["stem", "depthwise1", "pointwise1", "depthwise2", "pointwise2", "logits"]
    for layer, own in kinds.items():
        pruned = 0 if "depthwise" in layer else len(SPARSITIES)
        assert own == ["sparsity"] * pruned + ["bits"] * len(BITS)
    assert {one.parameters for one in points if one.layer == "depthwise2"} == {3 * 3 * 6}


def made(accuracies: dict[str, dict[str, dict[float, float]]], untouched: float = 0.9) -> list[Point]:
    """Points with these accuracies: kind to layer to value to accuracy."""
    points = [Point("", 10, "none", None, untouched, 0.0)]
    for kind, layers in accuracies.items():
        points += [
            Point(layer, 5, kind, value, accuracy, 1 - accuracy)
            for layer, own in layers.items()
            for value, accuracy in own.items()
        ]
    return points


def test_layers_are_compared_where_one_of_them_is_still_within_a_point():
    pruned = {
        "a": {0.5: 0.9, 0.8: 0.7, 0.9: 0.2},
        "b": {0.5: 0.9, 0.8: 0.895, 0.9: 0.88},
        "c": {0.5: 0.8, 0.8: 0.5, 0.9: 0.1},
        "d": {0.5: 0.9, 0.8: 0.6, 0.9: 0.1},
        "e": {0.5: 0.9, 0.8: 0.65, 0.9: 0.1},
    }
    rounded = {"a": {2: 0.4, 8: 0.9}, "b": {2: 0.3, 8: 0.9}, "w": {2: 0.9, 8: 0.9}}
    assert list(sensitivity.summary(made({"sparsity": pruned, "bits": rounded}))) == [
        "untouched: validation 90.00%",
        "at 80% sparsity of one layer: most sensitive c 50.00%, d 60.00%; least b 89.50%, a 70.00%",
        "at 2 bits of one layer: most sensitive b 30.00%; least w 90.00%",
    ]


def test_where_every_layer_loses_the_lowest_sparsity_is_taken_and_one_layer_is_both():
    points = made({"sparsity": {"a": {0.1: 0.5, 0.2: 0.4}}})
    assert list(sensitivity.summary(points))[1:] == [
        "at 10% sparsity of one layer: most sensitive a 50.00%; least a 50.00%"
    ]  # fmt: skip


def test_equal_accuracies_are_told_apart_by_their_divergences():
    points = [Point("", 1, "none", None, 0.9, 0.0)]
    points += [Point(name, 1, "bits", 2, 0.5, moved) for name, moved in (("a", 0.2), ("b", 0.3), ("c", 0.1))]
    assert list(sensitivity.summary(points))[1] == "at 2 bits of one layer: most sensitive b 50.00%; least c 50.00%"


def drawn(monkeypatch: pytest.MonkeyPatch, points: list[Point], title: str = "a run") -> Any:
    """The figure."""
    from matplotlib.figure import Figure

    figures = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **named: (figures.append(self), saved(self, *given, **named)))
    assert picture(points, title).startswith(b"\x89PNG")
    return figures[0]


def several(count: int, name: str = "layer{}") -> list[Point]:
    """Points of so many layers, the second of which is not pruned."""
    layers = [name.format(number) for number in range(count)]
    pruned = {layer: dict.fromkeys(SPARSITIES, 0.5) for layer in layers if layer != layers[1]}
    return made({"sparsity": pruned, "bits": {layer: dict.fromkeys(map(float, BITS), 0.8) for layer in layers}})


def test_few_layers_are_lines_with_a_legend(monkeypatch):
    figure = drawn(monkeypatch, several(8))
    left, right = figure.axes
    assert [len(axes.lines) for axes in (left, right)] == [8, 9]  # and one for the untouched network
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "untouched",
        *(f"layer{place}" for place in range(8)),
    ]
    colours = {line.get_label(): line.get_color() for line in right.lines}
    assert len(set(colours.values())) == 9
    assert all(colours[line.get_label()] == line.get_color() for line in left.lines)
    np.testing.assert_allclose(left.lines[1].get_xydata()[-1], (95, 50))
    np.testing.assert_allclose(right.lines[1].get_xydata()[0], (2, 80))


def test_many_layers_are_rows_of_a_heat_map(monkeypatch):
    figure = drawn(monkeypatch, several(22, "a_layer_with_a_name_of_many_letters_{}"), "a$_{$ " * 40)
    left, right, bar = figure.axes
    shown = left.images[0].get_array()
    assert shown.shape == (22, len(SPARSITIES))
    assert np.isnan(shown.filled(math.nan)[1]).all()
    assert right.images[0].get_array().shape == (22, len(BITS))
    assert {text.get_text() for text in left.texts} == {"50"}
    assert len(left.texts) == 21 * len(SPARSITIES)
    assert "untouched 90.0" in bar.get_ylabel()
    names = left.get_yticklabels()
    assert len({text.get_text() for text in names}) == 22
    assert max(len(text.get_text()) for text in names) <= 24
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in names]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    assert figure._suptitle.get_window_extent(renderer).y0 >= left.bbox.y1


def test_a_plot_of_layers_that_all_keep_their_accuracy(monkeypatch):
    same = {f"layer{place}": dict.fromkeys(map(float, BITS), 0.9) for place in range(12)}
    figure = drawn(monkeypatch, made({"bits": same}))
    assert len(figure.axes) == 2
    assert figure.axes[0].images[0].norm.vmin < figure.axes[0].images[0].norm.vmax


def test_the_same_points_give_the_same_bytes():
    points = several(3)
    assert picture(points, "a") == picture(points, "a")


def test_a_checkpoint_without_masks_is_pruned_to_the_count():
    kernel = np.arange(1.0, 21.0).reshape(4, 5)
    for _, sparsity, after in kernel_changes.pruned("a", kernel, Checkpoint("", ())):
        assert np.count_nonzero(after == 0) == round(sparsity * 20)
        assert (after[after != 0] == kernel[after != 0]).all()
        assert after.max() == 20
