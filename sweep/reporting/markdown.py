"""The report of a sweep as Markdown."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from sweep.core.metrics import METRICS, Prominence, seen_in
from sweep.core.text import clock, count, known, table
from sweep.reporting import picture
from sweep.reporting.baselines import BASELINE_NAMES, average, baselines
from sweep.reporting.techniques import Techniques, reference, round_budgets, size_metric, within
from sweep.reporting.words import SPARSITY, STATES, brief
from sweep.results import pareto, sweeps
from sweep.results.ranking import Ranking, seen
from sweep.results.sweeps import BASELINES, SEED, Sweep, Trial

_MOST_VALUES = 8
"""An axis with more values than that is reported by quarters of its trials."""
_MOST_NUMBERS = 12
"""So many trials at most are named in one cell."""
_STATUS = {
    "FINISHED": "finished",
    "FAILED": "finished, with failed trials",
    "KILLED": "interrupted",
    "RUNNING": "running, or cut short",
}
"""MLflow's words for people."""


@dataclass(frozen=True, eq=False)
class Text:
    """The report as Markdown."""

    sweep: Sweep
    ranking: Ranking

    def markdown(self) -> str:
        """All sections that have something to say."""
        parts = [self._head(), *self._run()]
        if self.ranking.known.any():
            parts += [*self._front(), *self._budgets(), *self._axes(), *Techniques(self.sweep, self.ranking).section()]
        return "\n\n".join([*parts, *self._cost(), *self._stopped(), *self._failures()]) + "\n"

    def _head(self) -> str:
        states = Counter(trial.state for trial in self.sweep.trials)
        counts = ", ".join(f"{states[state]} {word}" for state, word in STATES.items() if states[state])
        told = [f"{count(len(self.sweep.trials), 'trial')}{counts and ': '}{counts}."]
        if self.sweep.ended is None:
            told.append("The sweep has not ended; the same command goes on with it.")
        if not self.sweep.complete:
            told.append("No trial is complete, so there is no front.")
        elif not self.ranking.front:
            told.append("No trial keeps the constraints, so there is no front.")
        plot = "\n\n![The front](pareto.png)\n\nThe same to point at: [pareto.html](pareto.html)."
        return f"# Sweep {self.sweep.name}\n\n{' '.join(told)}{plot if self.ranking.known.any() else ''}"

    def _run(self) -> Iterator[str]:
        sweep = self.sweep
        how = "exact grid" if sweep.sampler is None else f"{sweep.sampler}, seed {sweep.seed}"
        facts = {
            "objectives": ", ".join(f"{direction} `{metric}`" for metric, direction in sweep.objectives.items()),
            "constraints": ", ".join(f"`{metric} {text}`" for metric, text in sweep.constraints.items()),
            "points chosen by": how + (f", {sweep.n_trials} trials wanted" if sweep.n_trials is not None else ""),
            "started": "" if sweep.started is None else _moment(sweep.started),
            "ended": "" if sweep.ended is None else _moment(sweep.ended),
            "status": _STATUS.get(sweep.status, sweep.status),
            **{f"axis `{axis}`": f"`{text}`" for axis, text in sweep.axes.items()},
            "held constant": " ".join(f"`{key}={text}`" for key, text in self._fixed().items()),
        }
        rows = ([name, text] for name, text in facts.items() if text)
        yield f"## What was run\n\n    {sweep.command.strip().replace(chr(10), ' ')}\n\n{table(['', ''], rows)}"

    def _fixed(self) -> Mapping[str, str]:
        return next((trial.fixed for trial in self.sweep.trials if trial.fixed), {})

    def _front(self) -> Iterator[str]:
        keys = [key for key in self.sweep.keys if len(self.sweep.values(key)) > 1]
        shown = tuple(dict.fromkeys([*self.sweep.objectives, *seen_in(Prominence.TABLE)]))
        rows = [
            [
                str(candidate.number),
                *(brief(candidate.overrides.get(key, "")) for key in keys),
                *(METRICS[name].text(candidate.mean[name], candidate.deviation[name]) for name in shown),
            ]
            for candidate in self.ranking.on_front()
        ]
        for role, group in [(name, found) for name in BASELINES for found in baselines(self.sweep, name)]:
            cells = (METRICS[name].text(average(group, name)) if name in group[0].metrics else "" for name in shown)
            rows.append([BASELINE_NAMES[role], *("" for _ in keys), *cells])
        parts = ["## The front", table(["trial", *keys, *shown], rows)]
        if self.ranking.repeated:
            parts.append("Means over seeds ± sample standard deviation; a candidate has its first trial's number.")
        parts.append(SPARSITY)
        parts += [told] if (told := self._chance()) else []
        if (row := picture.knee(self.ranking)) is not None:
            knee = self.ranking.candidates[row]
            values = ", ".join(f"`{name}` {METRICS[name].text(knee.mean[name])}" for name in self.sweep.objectives)
            why = (
                "Of the front, its objectives have the smallest sum, each scaled from 0 (the front's best) to 1 (its worst),"
                " sizes by their logarithm: a compromise where no budget decides."
            )
            parts.append(f"The knee is trial {knee.number}: {values}. {why}")
        yield "\n\n".join([*parts, *self._progress()])

    def _chance(self) -> str:
        """What the front's numbers do not say."""
        if not self.ranking.front:
            return ""
        told = []
        if any(len(one.trials) == 1 for one in self.ranking.on_front()):
            which = "Some of the front were" if self.ranking.repeated else "Each of the front was"
            told.append(f"{which} trained once: how much another seed would change the numbers is not known.")
        if "val_accuracy" in self.sweep.objectives and len(self.ranking.candidates) > 1:
            told.append("The best of many look better on validation than they are; `test_accuracy` took no part in the choice.")
        return " ".join(told)

    def _progress(self) -> Iterator[str]:
        """How fast a search found its front."""
        trials = [trial for one in self.ranking.candidates if one.feasible for trial in one.trials]
        trials.sort(key=lambda trial: trial.number)
        if self.sweep.sampler is None or len(trials) < 8:
            return
        columns = {name: [trial.metrics[name] for trial in trials] for name in self.sweep.objectives}
        points = seen(columns, self.sweep.objectives)
        share = pareto.running_hypervolume(points, reference(points))
        reached = ((level, trials[int(np.argmax(share >= level * share[-1]))].number + 1) for level in (0.9, 0.99))
        told = " and ".join(f"{100 * level:.0f} % after {count(number, 'trial')}" for level, number in reached)
        yield (
            f"Of the hypervolume that the sweep came to, it had {told}. That is measured from a tenth beyond the sweep's worst"
            " values, so poor trials raise both figures; what more trials would have found, they do not tell."
        )

    def _budgets(self) -> Iterator[str]:
        size = size_metric(self.sweep)
        candidates = [one for one in self.ranking.candidates if one.feasible]
        shown = ("val_accuracy", "test_accuracy", size)
        rows = []
        for kib in round_budgets([one.mean[size] for one in candidates]):
            if best := within(candidates, size, kib):
                values = (METRICS[name].text(best.mean[name], best.deviation[name]) for name in shown)
                overrides = " ".join(f"{key}={brief(text)}" for key, text in best.overrides.items() if key != SEED)
                rows.append([f"{kib:,} KiB", str(best.number), *values, f"`{overrides or 'the defaults'}`"])
        if rows:
            best_of = table(["at most", "trial", *shown, "overrides"], rows)
            yield f"## The best within a budget\n\nOf `{size}`, by validation accuracy.\n\n{best_of}"

    def _axes(self) -> Iterator[str]:
        objectives = tuple(self.sweep.objectives)
        trials = [trial for trial in self.sweep.complete if all(math.isfinite(trial.metrics[name]) for name in objectives)]
        parts = []
        for key in self.sweep.keys:
            rows = []
            for value, own in _by_value(trials, key):
                spreads = (_mean_and_spread([trial.metrics[name] for trial in own]) for name in objectives)
                cells = (METRICS[name].text(*spread) for name, spread in zip(objectives, spreads, strict=True))
                rows.append([value, str(len(own)), *cells])
            if len(rows) > 1:
                shares = {name: share[key] for name, share in self.sweep.importances.items() if key in share}
                told = ", ".join(f"`{name}` {share:.2f}" for name, share in shares.items())
                importance = f"Optuna's importance for {told}.\n\n" if told else ""
                parts.append(f"### `{key}`\n\n{importance}{table(['value', 'trials', *objectives], rows)}")
        if parts:
            intro = (
                "Mean ± sample standard deviation over the complete trials with that value, whatever else they have: how far"
                " they lie apart, not how well the mean is known."
            )
            if self.sweep.sampler is not None:
                intro += " A search does not combine values evenly, so these means are no fair comparison."
            elif len(trials) < len(self.sweep.trials):
                intro += " Trials without a result are missing, so the values are not combined evenly."
            if self._early():
                intro += " What was stopped early was behind: a value that it had looks better here than it is."
            if self.sweep.importances:
                intro += " Optuna's importances add up to 1 over the axes of an objective; they do not say which way."
            yield "\n\n".join([f"## What each axis does\n\n{intro}", *parts])

    def _cost(self) -> Iterator[str]:
        sweep = self.sweep
        spent, saved, reused = (
            sum(known(trial.metrics[name]) for trial in sweep.complete)
            for name in ("train_seconds", "seconds_saved", "stages_reused")
        )
        rows = [["all trials, summed", clock(sum(trial.seconds or 0.0 for trial in sweep.trials))]]
        if early := self._early():
            rows.append(["of that, those stopped early", clock(sum(trial.seconds or 0.0 for trial in early))])
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
        yield "\n\n".join(parts)

    def _early(self) -> list[Trial]:
        """The trials that were stopped before their last stages."""
        return [trial for trial in self.sweep.trials if trial.state == "PRUNED"]

    def _stopped(self) -> Iterator[str]:
        """The trials that were stopped early, those together whose reasons differ in numbers only."""
        alike: dict[str, list[Trial]] = {}
        for trial in self._early():
            alike.setdefault(re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "0", self._reason(trial)), []).append(trial)
        rows = [
            [str(len(trials)), _numbers([trial.number for trial in trials]), self._reason(trials[0])]
            for trials in sorted(alike.values(), key=len, reverse=True)
        ]
        if rows:
            told = (
                f"{count(len(self._early()), 'trial')} stopped before the last stages, since a finished trial was ahead already"
                " of what could be expected of them. They are no failures. They have no file and were not measured, so of the"
                " tables above only the cost has them; whether they would have caught up is not known."
            )
            yield f"## Stopped early\n\n{told}\n\n{table(['trials', 'which', 'reason of the first'], rows)}"

    def _failures(self) -> Iterator[str]:
        rows = [
            [str(trial.number), trial.state, f"`{sweeps.shown(trial.overrides)}`" if trial.overrides else "", reason]
            for trial in self.sweep.trials
            if trial.state != "PRUNED" and (reason := self._reason(trial))
        ]
        if rows:
            yield f"## Trials without a result\n\n{table(['trial', 'state', 'overrides', 'reason'], rows)}"

    def _reason(self, trial: Trial) -> str:
        """Why a trial is on no front; empty for one that could be."""
        if trial.complete:
            unknown = [name for name in self.sweep.objectives if not math.isfinite(trial.metrics[name])]
            return f"{', '.join(unknown)}: not a number" if unknown else ""
        if trial.state in ("RUNNING", "WAITING"):
            return "has not finished" if self.sweep.ended is None else "was cut short"
        return trial.error or "no reason was recorded"


def _by_value(trials: Sequence[Trial], key: str) -> Iterator[tuple[str, list[Trial]]]:
    """The trials by their value of an axis; a continuous one in quarters of equal number."""
    having = [trial for trial in trials if key in trial.overrides]
    numbers = {trial.number: sweeps.number(trial.overrides[key]) for trial in having}
    numeric = not any(map(math.isnan, numbers.values()))
    ordered = sorted(having, key=lambda trial: (numbers[trial.number], trial.number)) if numeric else having
    texts = dict.fromkeys(trial.overrides[key] for trial in ordered)
    if numeric and len(texts) > _MOST_VALUES:
        for part in np.array_split(np.arange(len(ordered)), 4):
            own = [ordered[place] for place in part.tolist()]
            low, high = (f"{numbers[one.number]:.3g}" for one in (own[0], own[-1]))
            yield f"{low} to {high}", own
    else:
        for text in texts:
            yield text, [trial for trial in ordered if trial.overrides[key] == text]
    if without := [trial for trial in trials if key not in trial.overrides]:
        yield "(does not apply)", without


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _numbers(numbers: Sequence[int]) -> str:
    """Trial numbers, the first few of many."""
    more = len(numbers) - _MOST_NUMBERS
    return ", ".join(map(str, numbers[:_MOST_NUMBERS])) + (f" and {more} more" if more > 0 else "")


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
