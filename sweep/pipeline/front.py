"""The front of a sweep so far, in a file that the sweeper writes and its trials read: what a running trial has to beat.

Optuna has no pruner for several objectives, so the rule is ours: a trial stops when a finished one dominates what is to be
expected of it, by a margin. `pruner` says what is to be expected.
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
        margin: by how much a finished trial must be ahead in every objective, at least 0: for an accuracy as it is (0.05 is
            five points), for any other metric as a fraction of what is expected of the trial.
        front: trial name to the value of each objective.
    """

    objectives: Mapping[str, str]
    margin: float
    front: Mapping[str, Mapping[str, float]]

    @staticmethod
    def read(path: Path) -> FrontRecord | None:
        """What is in the file; None where there is none yet.

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
        """Keep it where the trials find it."""
        files.write_json(path, asdict(self))

    def ahead(self, expected: Mapping[str, float], *, unknown: float = -math.inf) -> str | None:
        """The first trial of the front that is ahead of `expected` by the margin.

        Args:
            expected: metric to the best value that is to be expected of the trial.
            unknown: what stands for a metric that is missing there, to be minimised: -inf for whatever could be, so that
                nothing is ahead of it; inf to ask whether the known ones alone leave any hope.

        Returns:
            The trial's name and where it is ahead, as a person would say it; None when there is none.
        """
        signs = {name: pareto.SIGNS[direction] for name, direction in self.objectives.items()}
        bound = np.array([signs[name] * expected[name] if name in expected else unknown for name in signs])
        margin = np.array([self._margin(name, expected.get(name, 0.0)) for name in signs])
        for trial, values in self.front.items():
            point = [sign * values[name] for name, sign in signs.items()]
            if pareto.dominated(bound, [point], margin):
                met = (f"{name} {values[name]:g} against an expected {expected[name]:g}" for name in signs if name in expected)
                return f"{trial} is ahead by more than the margin of {self.margin:g}: {', '.join(met)}"
        return None

    def _margin(self, name: str, expected: float) -> float:
        return self.margin if METRICS[name].kind is Kind.ACCURACY else self.margin * abs(expected)
