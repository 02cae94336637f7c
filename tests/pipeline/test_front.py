"""When a trial has to give up: the rule itself, in closed form. That trials obey it is in test_trial and test_sweeper."""

from __future__ import annotations

import math

import pytest

from sweep.pipeline.front import FrontRecord

OBJECTIVES = {"val_accuracy": "maximize", "size_bytes": "minimize"}


def made(margin=0.05, objectives=OBJECTIVES, **front):
    return FrontRecord(objectives, margin, {name: dict(zip(objectives, values, strict=True)) for name, values in front.items()})


@pytest.mark.parametrize(
    ("accuracy", "size", "beaten"),
    [
        (0.80, 1000, True),
        (0.849, 1053, True),
        (0.851, 1053, False),  # less than five points behind
        (0.80, 1050, False),  # less than five per cent larger than the finished one: 1050 - 52.5 < 1000
        (0.95, 9999, False),
        (0.10, 900, False),
    ],
)
def test_a_finished_trial_has_to_be_ahead_by_the_margin_in_every_objective(accuracy, size, beaten):
    one = made(trial=(0.90, 950.0 if size == 1000 else 1000.0))
    assert (one.ahead({"val_accuracy": accuracy, "size_bytes": size}) is not None) == beaten


def test_exactly_the_margin_behind_in_every_objective_is_a_tie():
    one = made(margin=0.25, trial=(0.75, 768.0))
    assert one.ahead({"val_accuracy": 0.5, "size_bytes": 1024}) is None
    assert one.ahead({"val_accuracy": 0.5, "size_bytes": 1025}) is not None


def test_the_reason_names_the_trial_and_both_values():
    reason = made(a=(0.5, 10.0), b=(0.9, 1000.0)).ahead({"val_accuracy": 0.6, "size_bytes": 2000})
    assert reason == (
        "b is ahead by more than the margin of 0.05: "
        "val_accuracy 0.9 against an expected 0.6, size_bytes 1000 against an expected 2000"
    )


def test_two_trials_that_are_each_ahead_in_one_objective_beat_nobody():
    assert made(a=(0.99, 5000.0), b=(0.10, 10.0)).ahead({"val_accuracy": 0.5, "size_bytes": 1000}) is None


def test_an_unknown_metric_leaves_hope_unless_one_asks_whether_the_known_ones_do():
    one = made(trial=(0.9, 1000.0))
    assert one.ahead({"val_accuracy": 0.1}) is None
    assert one.ahead({"val_accuracy": 0.1}, unknown=math.inf) is not None
    assert one.ahead({"val_accuracy": 0.88}, unknown=math.inf) is None


def test_no_front_and_nan_beat_nobody():
    assert made().ahead({"val_accuracy": 0.1, "size_bytes": 10**9}) is None
    assert made(trial=(0.9, 10.0)).ahead({"val_accuracy": math.nan, "size_bytes": 10**9}) is None


def test_the_file_says_the_same_again_and_one_that_is_not_there_says_nothing(tmp_path):
    one = made(trial=(0.9, 1000.0))
    one.write(tmp_path / "front.json")
    assert FrontRecord.read(tmp_path / "front.json") == one
    assert [path.name for path in tmp_path.iterdir()] == ["front.json"]
    assert FrontRecord.read(tmp_path / "absent.json") is None
