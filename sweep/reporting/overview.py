"""The head of the report: the trials by state, and the configuration of the sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from sweep.core.text import code, count, table
from sweep.reporting.words import OUTCOMES
from sweep.results.ranking import Ranking
from sweep.results.sweeps import Sweep

_STATUS = {
    "FINISHED": "finished",
    "FAILED": "finished, with failed trials",
    "KILLED": "interrupted",
    "RUNNING": "running, or cut short",
}
"""MLflow's states in plain words."""
_NAMED = 20  # classes


def head(sweep: Sweep, ranking: Ranking) -> str:
    """The title, the trials by state, and the plot if there is one."""
    outcomes = Counter(trial.outcome for trial in sweep.trials)
    counts = ", ".join(f"{outcomes[outcome]} {word}" for outcome, word in OUTCOMES.items() if outcomes[outcome])
    sentences = [f"{count(len(sweep.trials), 'trial')}{counts and ': '}{counts}."]
    if sweep.ended is None:
        sentences.append("The sweep has not ended; the same command goes on with it.")
    if not sweep.complete:
        sentences.append("No trial is complete, so there is no front.")
    elif not ranking.front:
        sentences.append("No trial keeps the constraints, so there is no front.")
    plot = "\n\n![The front](pareto.png)\n\nThe same to point at: [pareto.html](pareto.html)."
    return f"# Sweep {sweep.name}\n\n{' '.join(sentences)}{plot if ranking.known.any() else ''}"


def run(sweep: Sweep) -> str:
    """The command, the search space, the sampler and the times."""
    how = "exact grid" if sweep.sampler is None else f"{sweep.sampler}, seed {sweep.seed}"
    facts = {
        "objectives": ", ".join(f"{direction} `{metric}`" for metric, direction in sweep.objectives.items()),
        "constraints": ", ".join(f"`{metric} {text}`" for metric, text in sweep.constraints.items()),
        "points chosen by": how + (f", {sweep.n_trials} trials wanted" if sweep.n_trials is not None else ""),
        "started": "" if sweep.started is None else _moment(sweep.started),
        "ended": "" if sweep.ended is None else _moment(sweep.ended),
        "status": _STATUS.get(sweep.status, sweep.status),
        **{f"axis `{axis}`": f"`{text}`" for axis, text in sweep.axes.items()},
        "classes": _class_names(sweep),
        "held constant": " ".join(f"`{key}={text}`" for key, text in _fixed(sweep).items()),
    }
    rows = ([name, text] for name, text in facts.items() if text)
    return f"## What was run\n\n    {sweep.command.strip().replace(chr(10), ' ')}\n\n{table(['', ''], rows)}"


def _fixed(sweep: Sweep) -> Mapping[str, str]:
    return next((trial.fixed for trial in sweep.trials if trial.fixed), {})


def _class_names(sweep: Sweep) -> str:
    """The names of the classes, the first twenty of more than that; empty where they have none."""
    names = next((trial.class_names for trial in sweep.trials if trial.class_names), ())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(code, names[:_NAMED])) + more


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
