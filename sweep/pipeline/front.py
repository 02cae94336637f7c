"""The current front of a sweep, in a file that the sweeper writes and its trials read, for early stopping.

Optuna has no pruner for several objectives. The rule here: a trial stops when a finished trial dominates its expected metrics
by a margin. `pruner` computes the expected metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sweep.core import files, jsonfiles
from sweep.core.errors import require_choice
from sweep.core.metric import Kind
from sweep.core.metrics import METRICS
from sweep.results import pareto


@dataclass(frozen=True)
class FrontRecord:
    """The front of a sweep.

    Args:
        objectives: one to four metrics, each with "maximize" or "minimize".
        margin: the lead that a finished trial must have in every objective, at least 0: absolute for an accuracy (0.05 is five
            points), relative to the expected value for any other metric.
        front: trial name to the value of each objective.
    """

    objectives: Mapping[str, str]
    margin: float
    front: Mapping[str, Mapping[str, float]]

    @staticmethod
    def read(path: Path) -> FrontRecord | None:
        """Reads the file; None where there is none yet.

        Raises:
            ConfigError: for a file that is damaged.
        """
        if not path.exists():
            return None
        record = jsonfiles.read(path)
        objectives = jsonfiles.texts(path, record, "objectives")
        for metric, direction in objectives.items():
            require_choice(f"{path}: objectives", metric, tuple(METRICS))
            require_choice(f"{path}: objectives.{metric}", direction, tuple(pareto.SIGNS))
        rows = {
            trial: jsonfiles.get(path, record["front"], trial, dict) for trial in jsonfiles.get(path, record, "front", dict)
        }
        front = {
            trial: {metric: float(jsonfiles.get(path, row, metric, float)) for metric in objectives}
            for trial, row in rows.items()
        }
        return FrontRecord(objectives, float(jsonfiles.get(path, record, "margin", float)), front)

    def write(self, path: Path) -> None:
        """Writes the file that the trials read."""
        files.write_json(path, asdict(self))

    def ahead(self, expected: Mapping[str, float], *, unknown: float = -math.inf) -> str | None:
        """The first trial of the front that dominates the expected metrics by the margin.

        Args:
            expected: metric to the best value that is expected of the trial.
            unknown: the value of an objective that is not in `expected`, oriented to be minimised: -inf for the best possible
                one, which nothing dominates; inf to compare the known objectives alone.

        Returns:
            The name of that trial and its lead, as a message; None where no trial dominates.
        """
        signs = {name: pareto.SIGNS[direction] for name, direction in self.objectives.items()}
        bound = np.array([signs[name] * expected[name] if name in expected else unknown for name in signs])
        margin = np.array([self._margin(name, expected.get(name, 0.0)) for name in signs])
        for trial, values in self.front.items():
            point = [sign * values[name] for name, sign in signs.items()]
            if pareto.dominated(bound, [point], margin):
                leads = (
                    f"{name} {values[name]:g} against an expected {expected[name]:g}" for name in signs if name in expected
                )
                return f"{trial} is ahead by more than the margin of {self.margin:g}: {', '.join(leads)}"
        return None

    def _margin(self, name: str, expected: float) -> float:
        return self.margin if METRICS[name].kind is Kind.ACCURACY else self.margin * abs(expected)
