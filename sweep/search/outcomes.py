"""What came of a trial, from what its launcher returned."""

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
        state: as its record has it.
        metrics: metric name to value, and `run_id`; of one that was refused before training what is known; else empty.
        error: why it was pruned or failed; empty for one that is complete.
    """

    state: State
    metrics: Mapping[str, Any]
    error: str = ""

    @property
    def refused(self) -> bool:
        """Whether it was pruned before it trained, since its file could not have kept the constraints."""
        return self.state == "PRUNED" and bool(self.metrics)


def outcome(returned: JobReturn, objectives: Iterable[str], folder: Path) -> Outcome:
    """The outcome of a trial. One whose objectives are not all finite has failed.

    Args:
        returned: what the launcher returned.
        objectives: the metrics that have to be finite.
        folder: of the trial, whose `error.txt` tells best why it failed.
    """
    value = returned._return_value  # the property would print a line of Hydra's own and raise
    if isinstance(value, Mapping) and "pruned" in value:
        return Outcome("PRUNED", {name: known for name, known in value.items() if name != "pruned"}, value["pruned"])
    if returned.status is JobStatus.COMPLETED and isinstance(value, Mapping):
        infinite = [name for name in objectives if not math.isfinite(float(value.get(name, math.nan)))]
        return Outcome("FAIL", {}, f"not a finite number: {', '.join(infinite)}") if infinite else Outcome("COMPLETE", value)
    written = folder / TrialFile.ERROR
    if written.exists():
        return Outcome("FAIL", {}, written.read_text().strip())
    cause = value if isinstance(value, BaseException) else RuntimeError(str(value))
    return Outcome("FAIL", {}, explain.explain(cause)[1])
