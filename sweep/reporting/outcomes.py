"""The sections of the report on cost, refused and stopped trials, and failures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from sweep.core.text import clock, count, finite_or_zero, table
from sweep.results import sweeps
from sweep.results.sweeps import Sweep, Trial

_MAX_NUMBERS = 12
"""The most trial numbers in one cell."""


def cost(sweep: Sweep) -> str:
    """The time of the trials, and the time that reused stages saved."""
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
    """The trials that were refused before training."""
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
    """A table of reasons, grouped by their text without numbers."""
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "0", _reason(sweep, trial)), []).append(trial)
    rows = [
        [str(len(group)), _numbers([trial.number for trial in group]), _reason(sweep, group[0])]
        for group in sorted(alike.values(), key=len, reverse=True)
    ]
    return table(["trials", "which", "reason of the first"], rows)


def failures(sweep: Sweep) -> Iterator[str]:
    """The trials without a result, other than refused and stopped ones."""
    rows = [
        [str(trial.number), trial.state, f"`{sweeps.override_line(trial.overrides)}`" if trial.overrides else "", reason]
        for trial in sweep.trials
        if trial.state != "PRUNED" and (reason := _reason(sweep, trial))
    ]
    if rows:
        yield f"## Trials without a result\n\n{table(['trial', 'state', 'overrides', 'reason'], rows)}"


def _reason(sweep: Sweep, trial: Trial) -> str:
    """The reason why a trial has no result; empty for a trial with a result."""
    if trial.complete:
        unknown = [name for name in sweep.objectives if not math.isfinite(trial.metrics[name])]
        return f"{', '.join(unknown)}: not a number" if unknown else ""
    if trial.state in ("RUNNING", "WAITING"):
        return "has not finished" if sweep.ended is None else "was cut short"
    return trial.error or "no reason was recorded"


def _numbers(numbers: Sequence[int]) -> str:
    """Trial numbers as text, shortened to the first few."""
    more = len(numbers) - _MAX_NUMBERS
    return ", ".join(map(str, numbers[:_MAX_NUMBERS])) + (f" and {more} more" if more > 0 else "")
