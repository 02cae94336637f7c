"""Constraints of a search: bounds on metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sweep.core.errors import ConfigError
from sweep.results.constraints import Bound

_RELATIONS: Mapping[str, Callable[[float, float], float]] = {
    "<=": lambda value, bound: value - bound,
    ">=": lambda value, bound: bound - value,
}


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric: `<=50000` or `>=0.97`."""

    metric: str
    relation: str
    bound: float

    @staticmethod
    def parse(metric: str, text: object) -> Constraint:
        """Parses a constraint.

        Raises:
            ConfigError: for another form than `<=NUMBER` or `>=NUMBER`.
        """
        bound = Bound.parse(str(text))
        if bound is None or bound.relation not in _RELATIONS:
            raise ConfigError(f"hydra.sweeper.constraints.{metric}", "a bound like <=50000 or >=0.97", str(text))
        return Constraint(metric, bound.relation, bound.value)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much the metrics break it; at most 0 when they keep it."""
        return _RELATIONS[self.relation](float(metrics[self.metric]), self.bound)
