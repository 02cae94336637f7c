"""Whether distillation, pruning and quantisation together beat each alone, as the sweep's own candidates tell it.

Scope: that section of the report, and what it compares by: round budgets of size, hypervolume, and pairs of equal seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweep.core.metrics import METRICS
from sweep.core.text import table
from sweep.reporting.budgets import round_budgets, size_metric, within
from sweep.results import pareto
from sweep.results.ranking import Candidate, Ranking, seen
from sweep.results.sweeps import SEED, TECHNIQUES, Sweep

_RESAMPLES = 10_000
_LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Techniques:
    """Whether distillation, pruning and quantisation together beat each alone, as far as the sweep can tell."""

    sweep: Sweep
    ranking: Ranking

    def section(self) -> Iterator[str]:
        """The section; nothing for a sweep with one objective, or without a front."""
        subsets = self._subsets()
        if len(self.sweep.objectives) < 2 or not subsets:
            return
        together = max(subsets, key=lambda used: (len(used), len(subsets[used]), _together(used)))
        alone = [frozenset({name}) for name in TECHNIQUES if name in together]
        rivals = [one for one in alone if one in subsets]
        missing = [_together(one) for one in alone if one not in subsets]
        parts = ["## Do the techniques win together?", self._overview(subsets)]
        kept = " within the constraints" if self.sweep.constraints else ""
        if len(together) < 2:
            parts.append(f"It cannot be told from this sweep: no trial with a result{kept} uses more than one technique.")
        else:
            parts += [self._comparison(subsets[together], together, {one: subsets[one] for one in rivals})] if rivals else []
            told = f"Whether {_together(together)} beats {' or '.join(missing)} alone cannot be told from this sweep"
            parts += [f"{told}: it has no such trial with a result{kept}."] if missing else []
        yield "\n\n".join(parts)

    def _subsets(self) -> dict[frozenset[str], list[Candidate]]:
        """The feasible candidates by the techniques they use, fewer techniques first."""
        found: dict[frozenset[str], list[Candidate]] = {}
        for candidate in self.ranking.candidates:
            if candidate.feasible:
                found.setdefault(candidate.trials[0].techniques(), []).append(candidate)
        return dict(sorted(found.items(), key=lambda item: (len(item[0]), [name not in item[0] for name in TECHNIQUES])))

    @cached_property
    def _size(self) -> str:
        return size_metric(self.sweep)

    @cached_property
    def _budgets(self) -> list[int]:
        return round_budgets([one.mean[self._size] for one in self.ranking.candidates if one.feasible])

    @cached_property
    def _frame(self) -> tuple[pareto.Floats, float]:
        """The reference point, and the hypervolume of the whole sweep under it."""
        points = self.ranking.points[[one.feasible for one in self.ranking.candidates]]
        corner = pareto.reference_point(points, dominated=True)
        return corner, pareto.hypervolume(points, corner)

    def _share(self, candidates: Sequence[Candidate]) -> float:
        """The hypervolume of some candidates, in per cent of the whole sweep's."""
        corner, whole = self._frame
        columns = {name: [one.mean[name] for one in candidates] for name in self.sweep.objectives}
        return 100 * pareto.hypervolume(seen(columns, self.sweep.objectives), corner) / whole

    def _overview(self, subsets: Mapping[frozenset[str], Sequence[Candidate]]) -> str:
        accuracy = METRICS["val_accuracy"]
        rows = []
        for used, own in subsets.items():
            bests = (within(own, self._size, kib) for kib in self._budgets)
            cells = (accuracy.text(one.mean["val_accuracy"], one.deviation["val_accuracy"]) if one else "–" for one in bests)
            rows.append([_together(used), str(len(own)), f"{self._share(own):.0f} %", *cells])
        header = ["techniques", "candidates", "hypervolume", *(f"≤ {kib:,} KiB" for kib in self._budgets)]
        return (
            f"{table(header, rows)}\n\n"
            "Hypervolume: what these candidates dominate, in per cent of what the whole sweep does, sizes by their logarithm."
            f" Budgets: the best validation accuracy within so many KiB of `{self._size}`. More candidates find more by chance."
        )

    def _comparison(
        self, ours: Sequence[Candidate], together: frozenset[str], rivals: Mapping[frozenset[str], Sequence[Candidate]]
    ) -> str:
        rows, repeats = [], set()
        for used, theirs in rivals.items():
            gains, only = self._gains(ours, theirs)
            seeds = [(_under(ours, seed), _under(theirs, seed)) for seed in _common_seeds([*ours, *theirs])]
            repeats.add(len(seeds))
            volumes = [self._share(our) - self._share(their) for our, their in seeds]
            differences = [_Difference.of(self._share(ours) - self._share(theirs), volumes)]
            if gains:
                pairs = [float(np.mean(self._gains(our, their)[0] or math.nan)) for our, their in seeds]
                differences.append(_Difference.of(float(np.mean(gains)), [pair for pair in pairs if math.isfinite(pair)]))
            won = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
            told = [one.text() for one in differences] + ([] if gains else ["–"])
            numbers = f"{len(ours)} to {len(theirs)}"
            rows.append([f"{_together(used)} alone", numbers, _verdict(differences), *told, won, str(only)])
        header = ["against", "candidates", "verdict", "hypervolume, points", "accuracy at equal budget, points", "budgets won"]
        return f"{_together(together)}, in comparison:\n\n{table([*header, 'met alone'], rows)}\n\n{_note(repeats)}"

    def _gains(self, ours: Sequence[Candidate], theirs: Sequence[Candidate]) -> tuple[list[float], int]:
        """Best accuracy of ours less theirs, in points, at each budget that both meet; and how many budgets ours alone meet."""
        pairs = [(within(ours, self._size, kib), within(theirs, self._size, kib)) for kib in self._budgets]
        gains = [100 * (our.mean["val_accuracy"] - their.mean["val_accuracy"]) for our, their in pairs if our and their]
        return gains, sum(our is not None and their is None for our, their in pairs)


def _common_seeds(candidates: Sequence[Candidate]) -> list[str]:
    """The seeds that every one of the candidates was tried under."""
    each = [{trial.overrides[SEED] for trial in one.trials if SEED in trial.overrides} for one in candidates]
    return sorted(set.intersection(*each))


def _under(candidates: Sequence[Candidate], seed: str) -> list[Candidate]:
    """The candidates as they came out under one seed."""
    trials = (next(trial for trial in one.trials if trial.overrides[SEED] == seed) for one in candidates)
    return [Candidate((trial,), trial.metrics, dict.fromkeys(trial.metrics, math.nan), feasible=True) for trial in trials]


@dataclass(frozen=True)
class _Difference:
    """By how much ours exceed theirs: the mean of several pairs with what they say of chance, or else NaN for that."""

    value: float
    low: float
    high: float
    p: float

    @staticmethod
    def of(value: float, pairs: Sequence[float]) -> _Difference:
        """The mean of the pairs; `value` where there are not several."""
        return _Difference(float(np.mean(pairs)), *paired(pairs)) if len(pairs) > 1 else _Difference(value, *(math.nan,) * 3)

    @property
    def sign(self) -> int:
        """Which way it points: 0 where the interval holds 0."""
        return 0 if self.value == 0 or self.low <= 0 <= self.high else 1 if self.value > 0 else -1

    def text(self) -> str:
        chance = "" if math.isnan(self.p) else f" ({self.low:+.1f} to {self.high:+.1f}, p {self.p:.2g})"
        return f"{self.value:+.1f}{chance}"


def _verdict(differences: Sequence[_Difference]) -> str:
    """Which way all differences point, and what speaks against relying on it."""
    signs = {one.sign for one in differences}
    told = {frozenset({1}): "ahead", frozenset({-1}): "behind", frozenset({0}): "no difference"}.get(frozenset(signs), "mixed")
    if any(math.isnan(one.p) for one in differences):
        return f"{told}, untested"
    return f"{told}, p > {_LEVEL}" if signs & {-1, 1} and max(one.p for one in differences if one.sign) > _LEVEL else told


def _note(repeats: set[int]) -> str:
    """What the comparison rests on, for the numbers of seeds that its rows have in common."""
    least, most = min(repeats), max(repeats)
    unequal = "Where the numbers of candidates differ, the larger has the better chance to win."
    if most < 2:
        return f"No two seeds are common to all: chance is not ruled out, and no interval can be given. {unequal}"
    seeds = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"Means of the differences under {seeds} seeds. In brackets: the 95 % bootstrap interval ({_RESAMPLES:,} resamples),"
        " too narrow for few seeds, and the two-sided p of permuted signs, not corrected for the number of comparisons, which"
        f" {most} seeds cannot bring below {2.0 ** (1 - most):.2g}. A verdict takes a difference whose interval holds 0 for"
        f" none, and says so where p is above {_LEVEL}. {unequal}"
    )


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """What paired differences say of chance, with a fixed seed.

    Args:
        differences: one a pair, at least two.

    Returns:
        The ends of the 95 % percentile bootstrap interval of their mean (Efron and Tibshirani 1993), and the two-sided p of a
        permutation of their signs: of all assignments where there are at most 10,000, and of that many random ones otherwise.
    """
    from scipy import stats

    sample, draws = (np.array(differences),), np.random.default_rng(0)
    interval = stats.bootstrap(
        sample, np.mean, n_resamples=_RESAMPLES, confidence_level=0.95, method="percentile", rng=draws
    ).confidence_interval
    test = stats.permutation_test(
        sample, np.mean, n_resamples=_RESAMPLES, permutation_type="samples", vectorized=True, rng=draws
    )
    return float(interval.low), float(interval.high), float(test.pvalue)


def _together(used: frozenset[str]) -> str:
    return " + ".join(name for name in TECHNIQUES if name in used) or "none"
