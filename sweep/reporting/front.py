"""The section of the report on the front: its table, its knee, and how fast a search found it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sweep.core.metric import Prominence
from sweep.core.metrics import METRICS, absent, seen_in
from sweep.core.text import count, table
from sweep.reporting import picture
from sweep.reporting.baselines import BASELINE_NAMES, average, baselines
from sweep.reporting.words import SPARSITY, brief
from sweep.results import pareto
from sweep.results.ranking import Ranking, objective_points
from sweep.results.sweeps import BASELINES, Sweep


def section(sweep: Sweep, ranking: Ranking) -> Iterator[str]:
    """The candidates on the front beside the baselines, and its knee."""
    keys = [key for key in sweep.keys if len(sweep.values(key)) > 1]
    shown = tuple(dict.fromkeys([*sweep.objectives, *_known(ranking)]))
    rows = [
        [
            str(candidate.number),
            *(brief(candidate.overrides.get(key, "")) for key in keys),
            *(METRICS[name].text(candidate.mean[name], candidate.deviation[name]) for name in shown),
        ]
        for candidate in ranking.on_front()
    ]
    for role in BASELINES:
        for group in baselines(sweep, role):
            cells = (METRICS[name].text(average(group, name)) if name in group[0].metrics else "" for name in shown)
            rows.append([BASELINE_NAMES[role], *("" for _ in keys), *cells])
    parts = ["## The front", table(["trial", *keys, *shown], rows)]
    if ranking.repeated:
        parts.append("Means over seeds ± sample standard deviation; a candidate has its first trial's number.")
    parts.append(SPARSITY)
    if caveats := _caveats(sweep, ranking):
        parts.append(caveats)
    if (row := picture.knee(ranking)) is not None:
        knee = ranking.candidates[row]
        values = ", ".join(f"`{name}` {METRICS[name].text(knee.mean[name])}" for name in sweep.objectives)
        why = (
            "Of the front, its objectives have the smallest sum, each scaled from 0 (the front's best) to 1 (its worst),"
            " sizes by their logarithm: a compromise where no budget decides."
        )
        parts.append(f"The knee is trial {knee.number}: {values}. {why}")
    yield "\n\n".join([*parts, *_progress(sweep, ranking)])


def _known(ranking: Ranking) -> Iterator[str]:
    """The metrics of the front's table; of those that not every file has, the ones that some file on the front has."""
    for name in seen_in(Prominence.TABLE):
        if not all(absent(name, candidate.mean[name]) for candidate in ranking.on_front()):
            yield name


def _caveats(sweep: Sweep, ranking: Ranking) -> str:
    """The limits of the front's numbers."""
    if not ranking.front:
        return ""
    sentences = []
    if any(len(candidate.trials) == 1 for candidate in ranking.on_front()):
        which = "Some of the front were" if ranking.repeated else "Each of the front was"
        sentences.append(f"{which} trained once: how much another seed would change the numbers is not known.")
    if "val_accuracy" in sweep.objectives and len(ranking.candidates) > 1:
        sentences.append(
            "The best of many look better on validation than they are; `test_accuracy` took no part in the choice."
        )
    return " ".join(sentences)


def _progress(sweep: Sweep, ranking: Ranking) -> Iterator[str]:
    """How fast a search found its front."""
    trials = [trial for candidate in ranking.candidates if candidate.feasible for trial in candidate.trials]
    trials.sort(key=lambda trial: trial.number)
    if sweep.sampler is None or len(trials) < 8:
        return
    columns = {name: [trial.metrics[name] for trial in trials] for name in sweep.objectives}
    points = objective_points(columns, sweep.objectives)
    share = pareto.running_hypervolume(points, pareto.reference_point(points, dominated=True))
    parts = []
    for level in (0.9, 0.99):
        first = trials[int(np.argmax(share >= level * share[-1]))].number
        parts.append(f"{100 * level:.0f} % after {count(first + 1, 'trial')}")
    yield (
        f"Of the hypervolume that the sweep came to, it had {' and '.join(parts)}. That is measured from a tenth beyond the"
        " sweep's worst values, so poor trials raise both figures; they do not show what more trials would find."
    )
