"""The outcome of a trial, from the JobReturn of its launcher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn, JobStatus

from sweep.config import explain
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.core.trial_files import TrialFile

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: as its record has it.
        metrics: metric name to value, and `run_id`; of one that was refused before training what is known; else empty.
        error: why it was pruned or failed; empty for one that is complete.
        refused: whether it failed before it trained, of a configuration that cannot work.
    """

    state: State
    metrics: Mapping[str, Any]
    error: str = ""
    refused: bool = False

    @property
    def infeasible(self) -> bool:
        """Whether it was pruned before it trained, since its file could not have kept the constraints."""
        return self.state == "PRUNED" and bool(self.metrics)


def outcome(returned: JobReturn, objectives: Iterable[str], constraints: Iterable[str], folder: Path) -> Outcome:
    """The outcome of a trial. One without a metric that was asked for, or with an objective that is not finite, has failed.

    Args:
        returned: the JobReturn of the launcher.
        objectives: the metrics that have to be finite.
        constraints: those that have to be there.
        folder: of the trial, whose `error.txt` tells best why it failed.
    """
    value = returned._return_value  # Hydra's property would print a line and raise
    if isinstance(value, Mapping) and "pruned" in value:
        return Outcome("PRUNED", {name: known for name, known in value.items() if name != "pruned"}, value["pruned"])
    if returned.status is JobStatus.COMPLETED and isinstance(value, Mapping):
        if lacking := [name for name in (*objectives, *constraints) if name not in value]:
            return Outcome("FAIL", {}, f"the file has no {lacking[0]}: there is one {METRICS[lacking[0]].only}")
        infinite = [name for name in objectives if not math.isfinite(float(value[name]))]
        return Outcome("FAIL", {}, f"not a finite number: {', '.join(infinite)}") if infinite else Outcome("COMPLETE", value)
    written = folder / TrialFile.ERROR
    if written.exists():
        error = written.read_text().strip()
        return Outcome("FAIL", {}, error, refused=error.startswith(f"{ConfigError.__name__}:"))
    cause = value if isinstance(value, BaseException) else RuntimeError(str(value))
    return Outcome("FAIL", {}, explain.explain(cause)[1], refused=isinstance(cause, ConfigError))
