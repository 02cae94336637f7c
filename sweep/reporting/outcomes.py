"""The sections of the report on what the trials cost, which were stopped early, and which have no result."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from sweep.core.text import clock, count, finite_or_zero, table
from sweep.results import sweeps
from sweep.results.sweeps import Sweep, Trial

_MOST_NUMBERS = 12
"""So many trials at most are named in one cell."""


def cost(sweep: Sweep) -> str:
    """What the trials took, and what reuse of stages saved."""
    spent, saved, reused = (
        sum(finite_or_zero(trial.metrics[name]) for trial in sweep.complete)
        for name in ("train_seconds", "seconds_saved", "stages_reused")
    )
    rows = [["all trials, summed", clock(sum(trial.seconds or 0.0 for trial in sweep.trials))]]
    if sweep.pruned:
        rows.append(["of that, those stopped early", clock(sum(trial.seconds or 0.0 for trial in sweep.pruned))])
    if sweep.started is not None and sweep.ended is not None:
        rows.append(["from start to end", clock(sweep.ended - sweep.started)])
    rows += [
        ["computing stages, complete trials", clock(spent)],
        [f"saved by reuse of {count(round(reused), 'stage')}", clock(saved)],
    ]
    parts = ["## Cost", table(["", "h:mm:ss"], rows)]
    if spent > 0 and saved > 0:
        times = f"{(spent + saved) / spent:.1f} times as long"
        parts.append(f"Without reuse, the stages of the complete trials would have taken {times}.")
    return "\n\n".join(parts)


def refused(sweep: Sweep) -> Iterator[str]:
    """The trials that were refused before they trained."""
    if sweep.refused:
        explanation = (
            f"{count(len(sweep.refused), 'trial')} refused before training, since the file would not have kept the constraints:"
            " its shapes and types, which training does not change, were counted on a file of random weights."
        )
        yield f"## Refused before training\n\n{explanation}\n\n{_reasons(sweep, sweep.refused)}"


def stopped(sweep: Sweep) -> Iterator[str]:
    """The trials that were stopped early."""
    if sweep.pruned:
        explanation = (
            f"{count(len(sweep.pruned), 'trial')} stopped before the last stages, since a finished trial was ahead already"
            " of what could be expected of them. They are no failures. They have no file and were not measured, so of the"
            " tables above only the cost has them; whether they would have caught up is not known."
        )
        yield f"## Stopped early\n\n{explanation}\n\n{_reasons(sweep, sweep.pruned)}"


def _reasons(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """A table of reasons, those together that differ in numbers only."""
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "0", _reason(sweep, trial)), []).append(trial)
    rows = [
        [str(len(group)), _numbers([trial.number for trial in group]), _reason(sweep, group[0])]
        for group in sorted(alike.values(), key=len, reverse=True)
    ]
    return table(["trials", "which", "reason of the first"], rows)


def failures(sweep: Sweep) -> Iterator[str]:
    """The trials that are on no front for another reason than an early stop."""
    rows = [
        [str(trial.number), trial.state, f"`{sweeps.override_line(trial.overrides)}`" if trial.overrides else "", reason]
        for trial in sweep.trials
        if trial.state != "PRUNED" and (reason := _reason(sweep, trial))
    ]
    if rows:
        yield f"## Trials without a result\n\n{table(['trial', 'state', 'overrides', 'reason'], rows)}"


def _reason(sweep: Sweep, trial: Trial) -> str:
    """Why a trial is on no front; empty for one that could be."""
    if trial.complete:
        unknown = [name for name in sweep.objectives if not math.isfinite(trial.metrics[name])]
        return f"{', '.join(unknown)}: not a number" if unknown else ""
    if trial.state in ("RUNNING", "WAITING"):
        return "has not finished" if sweep.ended is None else "was cut short"
    return trial.error or "no reason was recorded"


def _numbers(numbers: Sequence[int]) -> str:
    """Trial numbers, the first few of many."""
    more = len(numbers) - _MOST_NUMBERS
    return ", ".join(map(str, numbers[:_MOST_NUMBERS])) + (f" and {more} more" if more > 0 else "")
