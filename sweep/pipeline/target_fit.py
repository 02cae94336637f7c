"""Whether the file of a plan's student runs on its target, and keeps its budgets, however it is trained."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Arrays
from sweep.devices.fitness import Unfit
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.pipeline.rehearsal import UNCERTAINTY
from sweep.pipeline.untrained import Untrained


def require_target(plan: Plan, untrained: Untrained, memo: Memo) -> None:
    """Refuse a student whose file does not run on the target, or exceeds a budget there however it is trained.

    Args:
        plan: what to do.
        untrained: makes the file.
        memo: keeps what was found.

    Raises:
        ConfigError: from the target, with the budget's key.
    """
    content, refusal = untrained.file()
    if refusal:
        raise ConfigError("", "a network that becomes a file of the form asked for", refusal)
    found = _found(plan, content, memo)
    if "unfit" in found:
        raise ConfigError("", f"a file that runs on {plan.target.name}", str(found["unfit"]))
    if plan.prune.removes_filters or not plan.cluster.does_nothing:
        return  # the shapes, or the kernels' scales, are still to change
    least = {name: float(value) for name, value in found.items()}
    if not (plan.quant.sparse or plan.quant.bit_search.weights_decide_shapes):  # else that is known after training only
        least["size_bytes"] = len(content) * (1 - UNCERTAINTY["size_bytes"])
    for metric, (budget, kib) in plan.target.budgets.items():
        if least.get(metric, 0) > 1024 * kib:
            needed = math.ceil(10 * least[metric] / 1024) / 10
            raise ConfigError(budget, f"at least the {needed} KiB ({metric}) that the network takes untrained", kib)


def _found(plan: Plan, content: bytes, memo: Memo) -> Arrays:
    """The target's metrics that training does not change, or under `unfit` why the file does not run there."""

    def measure() -> Arrays:
        try:
            return {name: np.array(value) for name, value in plan.target.rehearsed(content).items()}
        except Unfit as error:
            return {"unfit": np.array(str(error))}

    key = {
        "fit for": plan.target,
        "file": hashlib.sha256(content).hexdigest(),
        "versions": plan.target.versions,
        "code": sources.behind(plan.target).digest,
    }
    return memo.arrays(key, measure)
