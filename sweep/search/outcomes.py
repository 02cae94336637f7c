"""The outcome of a trial, from the JobReturn of its launcher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn, JobStatus

from sweep.config import explain
from sweep.core.trial_files import TrialFile

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: the state in its record.
        metrics: metric name to value, with `run_id`, for a complete trial; the metrics known before training for a refused one;
            else empty.
        error: why the trial was pruned or failed; empty for a complete one.
    """

    state: State
    metrics: Mapping[str, Any]
    error: str = ""

    @property
    def refused(self) -> bool:
        """Whether it was pruned before training, since its file would violate a constraint."""
        return self.state == "PRUNED" and bool(self.metrics)


def outcome(returned: JobReturn, objectives: Iterable[str], folder: Path) -> Outcome:
    """The outcome of a trial. A trial whose objectives are not all finite has failed.

    Args:
        returned: the JobReturn of the launcher.
        objectives: the metrics that have to be finite.
        folder: the folder of the trial; its `error.txt` has the reason of a failure.
    """
    value = returned._return_value  # Hydra's property would print a line and raise
    if isinstance(value, Mapping) and "pruned" in value:
        return Outcome("PRUNED", {name: known for name, known in value.items() if name != "pruned"}, value["pruned"])
    if returned.status is JobStatus.COMPLETED and isinstance(value, Mapping):
        infinite = [name for name in objectives if not math.isfinite(float(value.get(name, math.nan)))]
        return Outcome("FAIL", {}, f"not a finite number: {', '.join(infinite)}") if infinite else Outcome("COMPLETE", value)
    error_file = folder / TrialFile.ERROR
    if error_file.exists():
        return Outcome("FAIL", {}, error_file.read_text().strip())
    cause = value if isinstance(value, BaseException) else RuntimeError(str(value))
    return Outcome("FAIL", {}, explain.explain(cause)[1])
