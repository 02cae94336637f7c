"""The plots of sweeps whose records are made up: what is drawn, where its labels are, and what the page holds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_report import Made, measured, typical

from sweep.reporting import baselines, labels, marks, report
from sweep.results import sweeps


class Fetched(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attributes if name in ("src", "href", "data", "action")]


def test_the_page_holds_all_it_needs_and_is_escaped(tmp_path):
    made = Made(tmp_path, name="a<b", objectives={"val_accuracy": "maximize", "size_bytes": "minimize"})
    made.trial({"quant": "ptq", "model": "</script><b>"}, measured(0.8, 30_000))
    report.write(made.folder)
    page = (made.folder / "pareto.html").read_text()
    seen = Fetched()
    seen.feed(page)
    assert seen.found == []
    assert "@import" not in page.partition("<script>")[0]
    body = page.rpartition("<script>")[2]
    assert "model=&lt;" not in page.partition("<script>")[0]
    assert body.count("</script>") == 1
    assert "\\u0026lt;/script\\u0026gt;" in body
    assert "Validation accuracy: 80.00 %" in body


def captured(made: Made, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure that is saved as pareto.png."""
    from matplotlib.figure import Figure

    figures = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **named: (figures.append(self), saved(self, *given, **named)))
    report.write(made.folder)
    return figures[0]


def legend(figure: Any) -> list[str]:
    """The texts of the legend, without their line breaks."""
    return [" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()]


def page(made: Made) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The traces and the layout of pareto.html."""
    text = (made.folder / "pareto.html").read_text().rpartition('Plotly.newPlot("pareto", ')[2]
    traces, layout, _ = json.loads("[" + text.partition(");</script>")[0] + "]")
    return traces, layout


def crowded(output: Path, **record: Any) -> Made:
    """A front of 30 within an octave of sizes, far below the network that one started from."""
    made = Made(output, **record)
    for place in range(30):
        overrides = {"quant": ("ptq", "qat")[place % 2], "prune.sparsity": f"{0.03 * place:.2f}"}
        made.trial(overrides, measured(0.9 - 0.0015 * place - 0.00004 * place**2, 100_000 - 1_300 * place))
    return made


def huddled(output: Path) -> Made:
    """A front of which most lies on one spot."""
    made = typical(output)
    for place in range(7):
        overrides = {"distill": "kd", "quant": "qat", "prune.sparsity": f"{0.5 + 0.01 * place:.2f}"}
        made.trial(overrides, measured(0.88 + 0.0004 * place, 50_000 + 500 * place))
    return made


def searched(output: Path, seed: int) -> Made:
    """160 trials as a search makes them, twenty or so on the front."""
    made, draws = Made(output), np.random.default_rng(seed)
    for _ in range(160):
        quant, sparsity = str(draws.choice(["float16", "dynamic", "ptq", "qat"])), draws.uniform(0, 0.95)
        width = draws.choice([0.35, 0.5, 0.7, 1])
        size = 5_000 + 80_000 * (1 + (quant == "float16")) * width**2 * (1 - 0.7 * sparsity)
        level = 0.88 - 0.1 * sparsity**4 - 0.06 * (1 - width) + draws.normal(0, 0.004)
        overrides = {"quant": quant, "model.width": f"{width:g}", "prune.sparsity": f"{sparsity:.3f}"}
        made.trial(overrides, measured(level, int(size)))
    return made


def wordy(output: Path) -> Made:
    """Names and overrides that no plot has room for."""
    made = Made(output, name="a_sweep_that_somebody_named_without_a_thought_of_how_it_would_look_above_a_plot_2026-09-21")
    for place in range(16):
        layers = f"{{conv2d_1:8,conv2d_2:4,residual_block_{place}_normalised:4,the_dense_classifier:2}}"
        overrides = {
            "distill": ("assistant", "knowledge_distillation_with_two_teachers")[place % 2],
            "quant.per_layer_bits": layers,
        }
        made.trial(overrides, measured(0.7 + 0.012 * place, int(20_000 * 1.25**place)))
    return made


SHAPES = {
    "few": typical,
    "repeated": lambda output: typical(output, seeds=3),
    "crowded": crowded,
    "huddled": huddled,
    "wordy": wordy,
    **{f"searched {seed}": partial(searched, seed=seed) for seed in (0, 15)},
    "three": lambda output: typical(
        output, objectives={"val_accuracy": "maximize", "size_bytes": "minimize", "sparsity": "maximize"}
    ),
    "upwards": lambda output: typical(output, objectives={"val_accuracy": "maximize", "compression": "maximize"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_cover_neither_each_other_nor_a_line_to_one_nor_leave_the_axes(tmp_path, monkeypatch, shape):
    figure = captured(SHAPES[shape](tmp_path), monkeypatch)
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    lines = [line for line in axes.lines if line.get_linewidth() == 0.6]
    assert 3 <= len(boxes) <= 8
    for place, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:place])
        within = [line.get_path().transformed(axes.transData).intersects_bbox(box) for line in lines]
        assert sum(within) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_title_and_the_legend_have_their_own_places_on_the_figure(tmp_path, monkeypatch, shape):
    figure = captured(SHAPES[shape](tmp_path), monkeypatch)
    renderer = figure.canvas.get_renderer()
    title = figure.axes[0]._left_title.get_window_extent(renderer)
    named = figure.legends[0].get_window_extent(renderer)
    for box in (title, named):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    assert not title.overlaps(named)
    assert not figure.axes[0].bbox.overlaps(named)


@pytest.mark.parametrize(
    ("line", "crosses"),
    [
        ((0, 0, 10, 0), False),
        ((0, 5, 10, 5), True),
        ((0, 5, 3, 5), False),
        ((0, 5, 4, 5), True),
        ((5, 5, 5, 5), True),
        ((0, 4, 4, 0), False),
        ((3, 9, 9, 3), True),
        ((5, 0, 5, 3), False),
    ],
)
def test_a_line_crosses_a_box_or_not(line, crosses):
    assert labels._crosses(line, (4, 4, 6, 6), 0) == crosses
    assert labels._crosses((*line[2:], *line[:2]), (4, 4, 6, 6), 0) == crosses


def test_a_far_baseline_is_told_rather_than_pressing_the_candidates_together(tmp_path, monkeypatch):
    figure = captured(crowded(tmp_path), monkeypatch)
    low, high = figure.axes[0].get_xlim()
    assert high < 1_100_000 / 1024
    assert math.log2(100_000 / 62_300) > 0.15 * math.log2(high / low)
    assert "start network, float32 (1,074 KiB, 88.50 %) outside the axes" in legend(figure)
    assert "uncompressed student" in legend(figure)


def test_a_constraint_nearby_is_drawn_and_one_far_away_is_told(tmp_path, monkeypatch):
    made = typical(tmp_path, constraints={"size_bytes": "<=50", "val_accuracy": ">=0.9"})
    figure = captured(made, monkeypatch)
    assert figure.axes[0].get_ylim()[1] > 90
    assert {"val_accuracy >=0.9 (90.00 %)", "size_bytes <=50 (0.0488 KiB) outside the axes"} <= set(legend(figure))
    assert not [name for name in legend(figure) if name.startswith("quant")]


def test_error_bars_say_what_they_are(tmp_path, monkeypatch):
    made = typical(tmp_path, seeds=3)
    assert "bars show ± a sample standard deviation over 3 seeds" in legend(captured(made, monkeypatch))
    assert "Note: bars show ± a sample standard deviation over 3 seeds." in (made.folder / "pareto.html").read_text()


def test_stopped_trials_and_a_fourth_objective_are_said_not_to_be_drawn(tmp_path, monkeypatch):
    names = ("val_accuracy", "size_bytes", "latency_ms", "macs")
    made = typical(tmp_path, objectives={name: "maximize" if name == names[0] else "minimize" for name in names})
    made.trial({"quant": "qat"}, state="PRUNED", error="trial-003 is ahead")
    figure = captured(made, monkeypatch)
    assert {"1 stopped early", "macs (the fourth objective) not drawn", "on the front"} <= set(legend(figure))
    assert figure.axes[1].get_ylabel() == "Latency (ms)"


def test_equal_points_have_no_knee_and_round_ticks(tmp_path, monkeypatch):
    made = Made(tmp_path)
    for quant in ("none", "ptq", "qat"):
        made.trial({"quant": quant}, measured(0.8123, 30_000), baselines={})
    figure = captured(made, monkeypatch)
    assert "knee" not in legend(figure)
    assert "knee" not in made.text()
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["20", "25", "30", "35", "40"]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_plots_show_the_same_window(tmp_path, monkeypatch, shape):
    made = SHAPES[shape](tmp_path)
    axes = captured(made, monkeypatch).axes[0]
    _, layout = page(made)
    for name, ends in (("xaxis", axes.get_xlim()), ("yaxis", axes.get_ylim())):
        logarithmic = layout[name].get("type") == "log"
        assert layout[name]["range"] == pytest.approx([math.log10(end) if logarithmic else end for end in ends])


def test_the_page_names_each_group_once_in_full_colour_and_breaks_long_lines(tmp_path):
    made = wordy(tmp_path)
    report.write(made.folder)
    traces, _ = page(made)
    named = [trace for trace in traces if trace["name"].startswith("distill") and trace.get("showlegend", True)]
    assert [trace["name"] for trace in named] == ["distill = assistant", "distill = knowledge_distillat…"]
    assert [trace["marker"]["color"] for trace in named] == ["#0072B2", "#D55E00"]
    assert not any("opacity" in trace["marker"] for trace in named)
    hovers = [text for trace in traces for text in trace.get("text", ())]
    assert hovers
    assert max(len(line) for text in hovers for line in text.split("<br>")) <= 67


def test_the_plot_has_kib_in_powers_of_two_and_the_baselines(tmp_path, monkeypatch):
    figure = captured(typical(tmp_path, constraints={"size_bytes": "<=250000"}), monkeypatch)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "Size of the file (KiB)"
    assert axes.get_ylabel() == "Validation accuracy (%)"
    low, high = axes.get_xlim()
    assert [f"{tick:g}" for tick in axes.get_xticks() if low < tick < high] == ["32", "64", "128", "256", "512", "1024"]
    assert {
        "front",
        "knee",
        "quant = qat",
        "start network, float32",
        "breaks a constraint",
        "size_bytes <=250000 (244 KiB)",
    } <= set(legend(figure))


def test_a_network_with_two_parts_to_play_is_one_baseline():
    def trial(start, student):
        parts = (("start", *start), ("student", *student))
        return SimpleNamespace(baselines=[sweeps.Baseline(role, name, size, 0.8, 0.79, 1.0) for role, name, size in parts])

    pairs = [(("teacher", 900), ("train", 900)), (("train", 900), ("train", 900)), (("train", 90), ("train", 90))]
    both = SimpleNamespace(complete=[trial(*pair) for pair in pairs])
    assert [[(one.name, one.size_bytes) for one in group] for group in baselines.baselines(both, "start")] == [
        [("train", 90)],
        [("teacher", 900)],
    ]
    assert baselines.baselines(both, "student") == []


def test_a_network_that_learnt_nothing_does_not_press_the_others_together(tmp_path, monkeypatch):
    made = typical(tmp_path)
    made.trial({"distill": "kd", "quant": "qat", "prune.sparsity": "0.99"}, measured(0.1, 9_000))
    figure = captured(made, monkeypatch)
    assert figure.axes[0].get_ylim()[0] > 70
    assert "#24 (on the front) outside the axes" in legend(figure)


@pytest.mark.parametrize(
    ("points", "ascending", "corners"),
    [
        ([], True, []),
        ([(1, 5)], True, [(1, 5)]),
        ([(3, 7), (1, 5)], True, [(1, 5), (3, 5), (3, 7)]),
        ([(1, 7), (3, 5)], False, [(3, 5), (1, 5), (1, 7)]),
    ],
)
def test_the_front_is_drawn_as_what_it_attains(points, ascending, corners):
    assert marks.front_line(points, ascending=ascending) == corners


def test_a_plot_of_one_point_with_signs_that_could_be_formulas(tmp_path):
    made = Made(tmp_path, name="x$_{$", axes={})
    made.trial({"model": "$\\alpha$"}, measured(0.5, 1000), baselines={})
    assert report.write(made.folder).front == (0,)
