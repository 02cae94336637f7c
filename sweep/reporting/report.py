"""The tables, plots and report of a sweep, rebuilt from its records alone: equal records give equal bytes.

    python -m sweep.report NAME [--output mlruns]

writes to the sweep's folder: `trials.csv`, one row a trial; `pareto.csv`, one row a candidate of the front, the best accuracy
first (a candidate repeated under several seeds has its first trial's number, and the mean of each metric); `pareto.png`,
`pareto.html` and `report.md`. A sweep without a result has `trials.csv` and `report.md` only.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.core import files
from sweep.core.metrics import METRICS, absent
from sweep.reporting import html, picture, png
from sweep.reporting.markdown import markdown
from sweep.results import reader
from sweep.results.ranking import Candidate, Ranking, rank
from sweep.results.sweeps import Sweep, Trial


@dataclass(frozen=True)
class Report:
    """The written files and a summary of the report.

    Attributes:
        front: the numbers of the candidates on the front, best first; for repeats the number of the first trial.
        members: the trials on the front in the same order, with all repeats.
        knee: the number of the knee of the front; None without a front.
        trials: state to number of trials.
        paths: the paths of the files.
    """

    front: tuple[int, ...]
    members: tuple[Trial, ...]
    knee: int | None
    trials: Mapping[str, int]
    paths: tuple[Path, ...]


def write(folder: Path) -> Report:
    """Writes the report of the sweep in `folder`, each file atomically.

    Raises:
        ConfigError: for a folder without a sweep, or a damaged record.
        OSError: where the folder cannot be written.
    """
    sweep = reader.read(folder)
    ranking = rank(sweep)
    contents = {"trials.csv": _trials_csv(sweep, ranking).encode(), "report.md": markdown(sweep, ranking).encode()}
    if ranking.known.any():
        shown = picture.of(sweep, ranking)
        contents |= {
            "pareto.csv": _pareto_csv(sweep, ranking).encode(),
            "pareto.png": png.png(shown),
            "pareto.html": html.html(shown).encode(),
        }
    paths = tuple(files.write(folder / name, content) for name, content in contents.items())
    return Report(
        front=tuple(candidate.number for candidate in ranking.on_front()),
        members=tuple(trial for candidate in ranking.on_front() for trial in candidate.trials),
        knee=None if ranking.knee is None else ranking.candidates[ranking.knee].number,
        trials=dict(Counter(trial.state for trial in sweep.trials)),
        paths=paths,
    )


def _trials_csv(sweep: Sweep, ranking: Ranking) -> str:
    of = {trial.number: candidate for candidate in ranking.candidates for trial in candidate.trials}
    rows = ([*_cells(sweep, trial), *_spread(sweep, ranking, of.get(trial.number))] for trial in sweep.trials)
    return files.csv_text(_columns(sweep, ranking), rows)


def _pareto_csv(sweep: Sweep, ranking: Ranking) -> str:
    rows = []
    for candidate in ranking.on_front():
        first = candidate.trials[0]
        cells = dict(zip(_columns(sweep, ranking), _cells(sweep, first), strict=False))
        if len(candidate.trials) > 1:
            cells |= {key: candidate.overrides.get(key, "") for key in sweep.keys}
            means = {name: _mean(candidate, name) for name in METRICS}
            cells |= {name: None if absent(name, mean) else mean for name, mean in means.items()}
            cells["seconds"] = sum(trial.seconds or 0.0 for trial in candidate.trials)
        rows.append([*cells.values(), *_spread(sweep, ranking, candidate)])
    return files.csv_text(_columns(sweep, ranking), rows)


def _columns(sweep: Sweep, ranking: Ranking) -> list[str]:
    spread = [f"{name}_{kind}" for name in sweep.objectives for kind in ("mean", "std")]
    return ["number", "state", *sweep.keys, *METRICS, "seconds", "error", *(["repeats", *spread] if ranking.repeated else [])]


def _cells(sweep: Sweep, trial: Trial) -> list[object]:
    """A trial's row without the columns on repeats."""
    swept = (trial.overrides.get(key) for key in sweep.keys)
    known = {**trial.known, **trial.metrics}
    metrics = (None if absent(name, value := known.get(name)) else value for name in METRICS)
    return [trial.number, trial.state, *swept, *metrics, trial.seconds, trial.error]


def _spread(sweep: Sweep, ranking: Ranking, candidate: Candidate | None) -> list[object]:
    """The columns on repeats; empty for a sweep without repeats."""
    if not ranking.repeated:
        return []
    if candidate is None:
        return [None] * (1 + 2 * len(sweep.objectives))
    deviations = (value if math.isfinite(value := candidate.deviation[name]) else None for name in sweep.objectives)
    means = (_mean(candidate, name) for name in sweep.objectives)
    return [len(candidate.trials), *itertools.chain.from_iterable(zip(means, deviations, strict=True))]


def _mean(candidate: Candidate, name: str) -> float:
    """The mean of a metric; the exact value, possibly an integer, if all repeats are equal."""
    first = candidate.trials[0].metrics[name]
    return first if candidate.mean[name] == first else candidate.mean[name]
