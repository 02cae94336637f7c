"""References in the report and the plots: what stands for them, what is said of them, and that they move nothing else."""

from __future__ import annotations

import json

import pytest
from test_plots import captured, legend
from test_report import Made, measured, typical

from sweep.reporting import picture, report
from sweep.reporting.references import PLAIN, TEST, VALIDATION
from sweep.results import ranking, reader, references
from sweep.results.references import Reference

THEIRS = Reference(
    "theirs", "theirs.tflite; int8 input", True, {"val_accuracy": 0.9, "test_accuracy": 0.86, "size_bytes": 98_496}
)
PUBLISHED = Reference("MCUNet", "Lin et al. 2020", False, {"test_accuracy": 0.84, "size_bytes": 200_000})


def pictured(made: Made, *beside: Reference) -> picture.Picture:
    references.write(made.folder, beside)
    sweep = reader.read(made.folder)
    return picture.of(sweep, ranking.rank(sweep))


def places(shown: picture.Picture, kind: str) -> dict[str, tuple[float, float]]:
    return {mark.label: (mark.x, mark.y) for mark in shown.baselines[kind]}


def test_an_axis_of_validation_accuracy_shows_a_measured_file_by_both_accuracies(tmp_path):
    shown = pictured(typical(tmp_path), THEIRS, PUBLISHED)
    assert places(shown, VALIDATION) == {"theirs": pytest.approx((98_496 / 1024, 90.0))}
    assert places(shown, TEST) == {
        "theirs": pytest.approx((98_496 / 1024, 86.0)),
        "MCUNet": pytest.approx((200_000 / 1024, 84.0)),
    }
    assert "references may have learnt from validation images" in shown.notes
    [mark] = shown.baselines[VALIDATION]
    assert mark.hover[:2] == ("theirs", "measured: theirs.tflite; int8 input")
    assert "Test accuracy: 86.00 %" in mark.hover


def test_published_points_alone_say_nothing_of_validation(tmp_path):
    shown = pictured(typical(tmp_path), PUBLISHED)
    assert VALIDATION not in shown.baselines
    assert not any("validation" in note for note in shown.notes)


def test_axes_without_validation_accuracy_show_it_once(tmp_path):
    made = Made(tmp_path, objectives={"macs": "minimize", "size_bytes": "minimize"})
    made.trial({"quant": "ptq"}, measured(0.8, 30_000))
    file = Reference("theirs", "x", True, {**THEIRS.metrics, "macs": 12_500_000})
    shown = pictured(made, file, PUBLISHED)
    assert set(places(shown, PLAIN)) == {"theirs"}
    assert not {TEST, VALIDATION} & shown.baselines.keys()
    assert "MCUNet (reference) without a value on an axis" in shown.notes


def test_references_far_away_leave_the_candidates_their_room(tmp_path):
    made = typical(tmp_path)
    alone = pictured(made)
    far = [
        Reference("huge", "x", False, {"test_accuracy": 0.85, "size_bytes": 10**10}),
        Reference("poor", "x", False, {"test_accuracy": 0.1, "size_bytes": 100_000}),
    ]
    shown = pictured(made, *far)
    assert (shown.window, shown.visible) == (alone.window, alone.visible)
    assert any(
        note.startswith("huge, reference, test accuracy (") and note.endswith("outside the axes") for note in shown.notes
    )
    assert any(note.startswith("poor, reference, test accuracy (") for note in shown.notes)
    near = pictured(made, Reference("better", "x", False, {"test_accuracy": 0.93, "size_bytes": 100_000}))
    assert near.window[1][1] > 93 > alone.window[1][1]
    assert all(near.shows(mark) for mark in near.front)


def test_the_front_and_the_tables_stay_as_they_are(tmp_path):
    made = typical(tmp_path)
    before = report.write(made.folder)
    tables = {name: made.csv(name) for name in ("trials.csv", "pareto.csv")}
    references.write(made.folder, [THEIRS, PUBLISHED])
    after = report.write(made.folder)
    assert (after.front, after.knee, after.trials) == (before.front, before.knee, before.trials)
    assert {name: made.csv(name) for name in tables} == tables


def test_the_report_has_a_table_of_them(tmp_path):
    made = typical(tmp_path)
    report.write(made.folder)
    assert "## References" not in made.text()
    references.write(made.folder, [THEIRS, PUBLISHED])
    report.write(made.folder)
    section = made.text().partition("## References\n\n")[2].partition("\n\n## ")[0]
    assert section.splitlines()[:4] == [
        "| name | val_accuracy | size_bytes | test_accuracy |  | source |",
        "| --- | --- | --- | --- | --- | --- |",
        "| theirs | 90.00 % | 96.2 KiB | 86.00 % | measured | theirs.tflite; int8 input |",
        "| MCUNet |  | 195 KiB | 84.00 % | as published | Lin et al. 2020 |",
    ]
    assert "may have learnt from the images of the validation split" in section


def test_the_plots_have_them_by_name(tmp_path, monkeypatch):
    made = typical(tmp_path)
    references.write(made.folder, [THEIRS, PUBLISHED, Reference("</script><b>", "x", False, PUBLISHED.metrics)])
    figure = captured(made, monkeypatch)
    assert {TEST, VALIDATION} <= set(legend(figure))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("theirs") == 2
    assert "MCUNet" in texts
    page = (made.folder / "pareto.html").read_text()
    body = page.rpartition("<script>")[2]
    assert body.count("</script>") == 1
    assert json.dumps(TEST) in body
    assert "Lin et al. 2020" in body


def test_three_objectives_have_them_too(tmp_path, monkeypatch):
    objectives = {"val_accuracy": "maximize", "size_bytes": "minimize", "latency_ms": "minimize"}
    made = typical(tmp_path, objectives=objectives)
    references.write(made.folder, [THEIRS])
    assert TEST in legend(captured(made, monkeypatch))
