"""The search: nothing twice, small spaces to their end, resumption, constraints, and every sampler."""

from __future__ import annotations

import pytest
from conftest import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweep.core.errors import ConfigError
from sweep.search.axes import Interval, number_text
from sweep.search.constraints import Constraint
from sweep.search.space import Space
from sweep.search.study import Study

OBJECTIVES = {"val_accuracy": "maximize", "size_bytes": "minimize"}


@pytest.fixture(scope="module")
def space():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

        def make(*overrides):
            config = loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)
            return Space.parse(loader, config, {}, overrides)

        yield make


def study(folder, space, total=None, sampler="tpe", constraints=(), seed=0):
    return Study(folder, space, objectives=OBJECTIVES, constraints=constraints, sampler=sampler, seed=seed, total=total)


def asked(made, stop=None):
    """Every proposal, told as it comes; the last one is left running where it stops before the end."""
    proposals = []
    while (proposal := made.ask()) is not None:
        proposals.append(proposal)
        if len(proposals) == stop:
            break
        made.tell(proposal, {"val_accuracy": 1 / (1 + len(proposals)), "size_bytes": len(proposals)})
    return proposals


MIXED = (
    "distill=none,kd",
    "distill.temperature=tag(log,interval(1,20))",
    "seed=int(interval(0,9))",
    "prune.sparsity=range(0.1,0.9,0.1)",
)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "qmc", "random"])
def test_every_sampler_proposes_points_of_the_space_each_once(tmp_path, space, sampler):
    proposals = asked(study(tmp_path, space(*MIXED), 20, sampler))
    assert [proposal.number for proposal in proposals] == list(range(20))
    assert len({proposal.point for proposal in proposals}) == 20
    for proposal in proposals:
        values = dict(text.split("=") for text in proposal.point)
        assert ("distill.temperature" in values) == (values["distill"] == "kd")
        assert 1 <= float(values.get("distill.temperature", 1)) <= 20
        assert values["seed"] in set("0123456789")
        assert values["prune.sparsity"] in {f"{step / 10:g}" for step in range(1, 9)}


def test_the_same_seed_proposes_the_same_points(tmp_path, space):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        runs.append([proposal.point for proposal in asked(study(tmp_path / name, space(*MIXED), 15, seed=seed))])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "qmc", "random"])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, space, sampler):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    told = []

    def run(made, stop):
        while (proposal := made.ask()) is not None:
            if len(told) == stop:
                return  # and the trial is left running
            told.append((proposal.number, proposal.point))
            value = int.from_bytes(" ".join(proposal.point).encode()) % 997
            made.tell(proposal, {"val_accuracy": value / 997, "size_bytes": 997 - value % 31})

    run(study(whole, space(*MIXED), 25, sampler), 25)
    expected, told[:] = list(told), []
    for stop in (1, 4, 5, 12, 19, 25):
        run(study(cut, space(*MIXED), 25, sampler), stop)
    assert told == expected


@pytest.mark.parametrize("overrides", [MIXED, ("prune.sparsity=0.1,0.2,0.3,0.4",)])
def test_two_kills_in_a_row_lose_no_trial_under_way(tmp_path, space, overrides):
    total = 4 if overrides is MIXED else None
    first = study(tmp_path, space(*overrides), total)
    under_way = [first.ask(), first.ask()]
    study(tmp_path, space(*overrides), total)  # killed before it took anything up
    again = study(tmp_path, space(*overrides), total)
    taken_up = [again.ask(), again.ask()]
    assert [(one.number, one.point) for one in taken_up] == [(one.number, one.point) for one in under_way]
    last = study(tmp_path, space(*overrides), total)
    rest = asked(last)
    assert [one.number for one in rest] == [0, 1, 2, 3]
    assert [one.point for one in rest[:2]] == [one.point for one in under_way]
    assert len({one.point for one in rest}) == 4


def test_a_kill_in_the_middle_of_a_proposal_leaves_no_trial(tmp_path, space):
    made = study(tmp_path, space(*MIXED), 3)
    asked(made, 1)
    whole = made.ask()
    journal = tmp_path / "study.journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    again = study(tmp_path, space(*MIXED), 3)
    proposals = asked(again)
    assert [one.number for one in proposals] == [0, 1, 2]
    assert proposals[1].point == whole.point


def test_a_small_space_is_searched_to_its_end_and_no_further(tmp_path, space):
    proposals = asked(study(tmp_path, space("quant=none,ptq,qat", "quant.bits=4,8"), 100))
    assert len({proposal.point for proposal in proposals}) == len(proposals) == 5


def test_a_grid_keeps_its_order(tmp_path, space):
    proposals = asked(study(tmp_path, space("quant=none,ptq", "quant.bits=8,4")))
    assert [proposal.point for proposal in proposals] == [
        ("quant=none",),
        ("quant=ptq", "quant.bits=8"),
        ("quant=ptq", "quant.bits=4"),
    ]


@pytest.mark.parametrize(("axes", "total"), [(("quant=none,ptq,qat", "quant.bits=4,8"), None), (MIXED, 9)])
def test_a_killed_study_goes_on_with_what_was_under_way_and_repeats_nothing(tmp_path, space, axes, total):
    before = asked(study(tmp_path, space(*axes), total), stop=3)
    after = asked(study(tmp_path, space(*axes), total))
    assert (after[0].number, after[0].point) == (before[-1].number, before[-1].point)
    every = {proposal.number: proposal.point for proposal in (*before, *after)}
    assert list(every) == list(range(total or 5))
    assert len(set(every.values())) == len(every)
    assert asked(study(tmp_path, space(*axes), total)) == []


def test_a_finished_search_goes_on_to_a_larger_total(tmp_path, space):
    first = asked(study(tmp_path, space(*MIXED), 4))
    more = asked(study(tmp_path, space(*MIXED), 7))
    assert [proposal.number for proposal in more] == [4, 5, 6]
    assert not {proposal.point for proposal in first} & {proposal.point for proposal in more}


def test_failures_are_not_tried_again(tmp_path, space):
    made = study(tmp_path, space("seed=1,2"))
    made.fail(made.ask(), "it broke")
    assert [proposal.point for proposal in asked(study(tmp_path, space("seed=1,2")))] == [("seed=2",)]


@pytest.mark.parametrize(
    ("text", "metrics", "violation"),
    [("<=50000", {"size_bytes": 60000}, 10000), ("<= 5e4", {"size_bytes": 50000}, 0), (">=0.97", {"size_bytes": 0.9}, 0.07)],
)
def test_constraints(text, metrics, violation):
    assert Constraint.parse("size_bytes", text).violation(metrics) == pytest.approx(violation)


@pytest.mark.parametrize("text", ["50000", "<50", "<=many", "<=nan", "==5", ""])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.constraints\.size_bytes"):
        Constraint.parse("size_bytes", text)


def test_an_unknown_sampler_is_refused(tmp_path, space):
    with pytest.raises(ConfigError, match="one of tpe, nsga2, nsga3, qmc, random"):
        study(tmp_path, space("seed=1,2"), sampler="grid")


@pytest.mark.parametrize("override", ["prune.sparsity=interval(0.5,0.5)", "prune.sparsity=tag(log,interval(0,1))"])
def test_an_empty_interval_is_refused(space, override):
    with pytest.raises(ConfigError, match=r"prune\.sparsity"):
        space(override)


def test_numbers_are_written_short():
    assert number_text(0.1 + 0.2, Interval(0, 1, log=False, integer=False)) == "0.3"
    assert number_text(3.0, Interval(0, 9, log=False, integer=True)) == "3"
