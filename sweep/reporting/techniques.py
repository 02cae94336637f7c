"""The section of the report that compares combined techniques with each technique alone.

The comparison is by hypervolume and by accuracy within size budgets, paired by seed.
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
from sweep.results.ranking import Candidate, Ranking, objective_points
from sweep.results.sweeps import SEED, TECHNIQUES, Sweep

_RESAMPLES = 10_000
_LEVEL = 0.05
_VERDICTS = {1: "ahead", -1: "behind", 0: "no difference"}
"""The common sign of all differences to the verdict."""


@dataclass(frozen=True, eq=False)
class Techniques:
    """Compares a sweep's feasible candidates by the techniques that they use."""

    sweep: Sweep
    ranking: Ranking

    def section(self) -> Iterator[str]:
        """The section; empty for a sweep with one objective or without a front."""
        subsets = self._subsets()
        if len(self.sweep.objectives) < 2 or not subsets:
            return
        together = max(subsets, key=lambda used: (len(used), len(subsets[used]), _together(used)))
        alone = [frozenset({name}) for name in TECHNIQUES if name in together]
        tried = {used: subsets[used] for used in alone if used in subsets}
        missing = [_together(used) for used in alone if used not in subsets]
        parts = ["## Do the techniques win together?", self._overview(subsets)]
        within = " within the constraints" if self.sweep.constraints else ""
        if len(together) < 2:
            parts.append(f"It cannot be told from this sweep: no trial with a result{within} uses more than one technique.")
        else:
            if tried:
                parts.append(self._comparison(subsets[together], together, tried))
            if missing:
                question = f"Whether {_together(together)} beats {' or '.join(missing)} alone"
                parts.append(f"{question} cannot be told from this sweep: it has no such trial with a result{within}.")
        yield "\n\n".join(parts)

    def _subsets(self) -> dict[frozenset[str], list[Candidate]]:
        """The feasible candidates by set of techniques, smaller sets first."""
        subsets: dict[frozenset[str], list[Candidate]] = {}
        for candidate in self.ranking.candidates:
            if candidate.feasible:
                subsets.setdefault(candidate.trials[0].techniques(), []).append(candidate)
        return dict(sorted(subsets.items(), key=lambda item: (len(item[0]), [name not in item[0] for name in TECHNIQUES])))

    @cached_property
    def _size(self) -> str:
        return size_metric(self.sweep)

    @cached_property
    def _budgets(self) -> list[int]:
        return round_budgets([candidate.mean[self._size] for candidate in self.ranking.candidates if candidate.feasible])

    @cached_property
    def _frame(self) -> tuple[pareto.Floats, float]:
        """The reference point, and the hypervolume of the whole sweep."""
        points = self.ranking.points[[candidate.feasible for candidate in self.ranking.candidates]]
        corner = pareto.reference_point(points, dominated=True)
        return corner, pareto.hypervolume(points, corner)

    def _share(self, candidates: Sequence[Candidate]) -> float:
        """The hypervolume of some candidates, in per cent of that of the whole sweep."""
        corner, whole = self._frame
        columns = {name: [candidate.mean[name] for candidate in candidates] for name in self.sweep.objectives}
        return 100 * pareto.hypervolume(objective_points(columns, self.sweep.objectives), corner) / whole

    def _overview(self, subsets: Mapping[frozenset[str], Sequence[Candidate]]) -> str:
        accuracy = METRICS["val_accuracy"]
        rows = []
        for used, candidates in subsets.items():
            bests = (within(candidates, self._size, kib) for kib in self._budgets)
            cells = (
                accuracy.text(best.mean["val_accuracy"], best.deviation["val_accuracy"]) if best else "–" for best in bests
            )
            rows.append([_together(used), str(len(candidates)), f"{self._share(candidates):.0f} %", *cells])
        header = ["techniques", "candidates", "hypervolume", *(f"≤ {kib:,} KiB" for kib in self._budgets)]
        return (
            f"{table(header, rows)}\n\n"
            "Hypervolume: the volume that these candidates dominate, in per cent of the whole sweep's, sizes by logarithm."
            f" Budgets: the best validation accuracy within so many KiB of `{self._size}`. More candidates find more by chance."
        )

    def _comparison(
        self, combined: Sequence[Candidate], together: frozenset[str], alone: Mapping[frozenset[str], Sequence[Candidate]]
    ) -> str:
        """A table that compares the candidates with combined techniques to those with each technique alone."""
        rows, repeats = [], set()
        for used, single in alone.items():
            gains, only = self._gains(combined, single)
            seeds = [(_under(combined, seed), _under(single, seed)) for seed in _common_seeds([*combined, *single])]
            repeats.add(len(seeds))
            volumes = [self._share(first) - self._share(second) for first, second in seeds]
            differences = [_Difference.of(self._share(combined) - self._share(single), volumes)]
            if gains:
                pairs = [float(np.mean(self._gains(first, second)[0] or math.nan)) for first, second in seeds]
                differences.append(_Difference.of(float(np.mean(gains)), [pair for pair in pairs if math.isfinite(pair)]))
            won = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
            texts = [difference.text() for difference in differences] + ([] if gains else ["–"])
            numbers = f"{len(combined)} to {len(single)}"
            rows.append([f"{_together(used)} alone", numbers, _verdict(differences), *texts, won, str(only)])
        header = ["against", "candidates", "verdict", "hypervolume, points", "accuracy at equal budget, points", "budgets won"]
        return f"{_together(together)}, in comparison:\n\n{table([*header, 'met alone'], rows)}\n\n{_note(repeats)}"

    def _gains(self, first: Sequence[Candidate], second: Sequence[Candidate]) -> tuple[list[float], int]:
        """The difference of the best accuracies at equal budgets, first minus second.

        Returns:
            Percentage points at each budget that both meet, and the number of budgets that the first alone meets.
        """
        pairs = [(within(first, self._size, kib), within(second, self._size, kib)) for kib in self._budgets]
        gains = [100 * (best.mean["val_accuracy"] - other.mean["val_accuracy"]) for best, other in pairs if best and other]
        return gains, sum(best is not None and other is None for best, other in pairs)


def _common_seeds(candidates: Sequence[Candidate]) -> list[str]:
    """The seeds that all candidates have in common."""
    seeds = [{trial.overrides[SEED] for trial in candidate.trials if SEED in trial.overrides} for candidate in candidates]
    return sorted(set.intersection(*seeds))


def _under(candidates: Sequence[Candidate], seed: str) -> list[Candidate]:
    """The candidates with the results of one seed alone."""
    trials = (next(trial for trial in candidate.trials if trial.overrides[SEED] == seed) for candidate in candidates)
    return [Candidate((trial,), trial.metrics, dict.fromkeys(trial.metrics, math.nan), feasible=True) for trial in trials]


@dataclass(frozen=True)
class _Difference:
    """The difference between two sets of candidates.

    Attributes:
        value: the mean paired difference; the difference itself with fewer than two pairs.
        low: the lower end of the bootstrap interval; NaN with fewer than two pairs.
        high: the upper end; NaN with fewer than two pairs.
        p: the p-value of the permutation test; NaN with fewer than two pairs.
    """

    value: float
    low: float
    high: float
    p: float

    @staticmethod
    def of(value: float, pairs: Sequence[float]) -> _Difference:
        """The mean of the pairs; `value` for fewer than two."""
        return _Difference(float(np.mean(pairs)), *paired(pairs)) if len(pairs) > 1 else _Difference(value, *(math.nan,) * 3)

    @property
    def sign(self) -> int:
        """The sign of the difference; 0 if the interval contains 0."""
        if self.value == 0 or self.low <= 0 <= self.high:
            return 0
        return 1 if self.value > 0 else -1

    def text(self) -> str:
        chance = "" if math.isnan(self.p) else f" ({self.low:+.1f} to {self.high:+.1f}, p {self.p:.2g})"
        return f"{self.value:+.1f}{chance}"


def _verdict(differences: Sequence[_Difference]) -> str:
    """The verdict of all differences, marked if it is untested or not significant."""
    signs = {difference.sign for difference in differences}
    verdict = _VERDICTS[signs.pop()] if len(signs) == 1 else "mixed"
    if any(math.isnan(difference.p) for difference in differences):
        return f"{verdict}, untested"
    largest = max((difference.p for difference in differences if difference.sign), default=0.0)
    return f"{verdict}, p > {_LEVEL}" if largest > _LEVEL else verdict


def _note(repeats: set[int]) -> str:
    """The note on the statistics, for the numbers of common seeds of the rows."""
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
    """The bootstrap interval and permutation test of paired differences, with a fixed seed.

    Args:
        differences: a difference for each pair, at least two.

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
