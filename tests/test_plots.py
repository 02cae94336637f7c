"""The plots of sweeps whose records are made up: what is drawn, where its labels are, and what the page holds."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from test_report import Made, measured, typical

from sweep import picture, report


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


@pytest.mark.parametrize("seeds", [1, 3])
def test_labels_cover_neither_each_other_nor_leave_the_axes(tmp_path, monkeypatch, seeds):
    figure = captured(typical(tmp_path, seeds=seeds), monkeypatch)
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert 3 <= len(boxes) <= 8
    for place, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_the_plot_has_kib_in_powers_of_two_and_the_baselines(tmp_path, monkeypatch):
    figure = captured(typical(tmp_path, constraints={"size_bytes": "<=250000"}), monkeypatch)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "Size of the file (KiB)"
    assert axes.get_ylabel() == "Validation accuracy (%)"
    low, high = axes.get_xlim()
    assert [f"{tick:g}" for tick in axes.get_xticks() if low < tick < high] == ["32", "64", "128", "256", "512", "1024"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"front", "knee", "quant = qat", "start network, float32", "breaks a constraint", "size_bytes <=250000"} <= set(
        names
    )


def test_a_network_that_learnt_nothing_does_not_press_the_others_together(tmp_path, monkeypatch):
    made = typical(tmp_path)
    made.trial({"distill": "kd", "quant": "qat", "prune.sparsity": "0.99"}, measured(0.1, 9_000))
    figure = captured(made, monkeypatch)
    assert figure.axes[0].get_ylim()[0] > 70
    assert "#24 outside the axes" in [text.get_text() for text in figure.legends[0].get_texts()]


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
    assert picture._staircase(points, ascending=ascending) == corners


def test_a_plot_of_one_point_with_signs_that_could_be_formulas(tmp_path):
    made = Made(tmp_path, name="x$_{$", axes={})
    made.trial({"model": "$\\alpha$"}, measured(0.5, 1000), baselines={})
    assert report.write(made.folder).front == (0,)
