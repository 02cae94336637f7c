"""Checks before training that the file of the student runs on the target and can keep its budgets."""

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
    """Refuses a student whose file does not run on the target, or exceeds a budget whatever its training.

    Args:
        plan: the plan.
        untrained: makes the file without training.
        memo: the stage cache.

    Raises:
        ConfigError: without the group, with the key of the budget.
    """
    content, refusal = untrained.file()
    if refusal:
        raise ConfigError("", "a network that becomes a file of the form asked for", refusal)
    metrics = _target_metrics(plan, content, memo)
    if "unfit" in metrics:
        raise ConfigError("", f"a file that runs on {plan.target.name}", str(metrics["unfit"]))
    if plan.prune.removes_filters or not plan.cluster.does_nothing:
        return  # the shapes, or the scales of the kernels, change later
    lower_bounds = {name: float(value) for name, value in metrics.items()}
    if not (plan.quant.sparse or plan.quant.bit_search.weights_decide_shapes):  # the size is known before training
        lower_bounds["size_bytes"] = len(content) * (1 - UNCERTAINTY["size_bytes"])
    for metric, (budget, kib) in plan.target.budgets.items():
        if lower_bounds.get(metric, 0) > 1024 * kib:
            needed = math.ceil(10 * lower_bounds[metric] / 1024) / 10
            raise ConfigError(budget, f"at least the {needed} KiB ({metric}) that the network takes untrained", kib)


def _target_metrics(plan: Plan, content: bytes, memo: Memo) -> Arrays:
    """The target's metrics that training does not change; for a file that does not run there the reason, as `unfit`."""

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
