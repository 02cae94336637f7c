"""The file of a plan's student as its target would get it, made without training: whether it runs there, and what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Arrays, Checkpoint, Data
from sweep.devices.fitness import Unfit
from sweep.models import random_weights
from sweep.pipeline import sources
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.pipeline.untrained import few, stand_in

# What a trained network's file may be smaller by: scales that training makes equal are written once.
_SMALLER = 0.02


def require_target(plan: Plan, data: Data, converter: Converter, memo: Memo, untrained: Callable[[], Checkpoint]) -> None:
    """Refuse a student whose file does not run on the target, or exceeds a budget there however it is trained.

    Args:
        plan: what to do.
        data: its data.
        converter: makes the file.
        memo: keeps what was found.
        untrained: makes the student with random weights.

    Raises:
        ConfigError: from the target, with the budget's key.
    """
    found = _measured(plan, data, converter, memo, untrained)
    if "unfit" in found:
        raise ConfigError("", f"a file that runs on {plan.target.name}", str(found["unfit"]))
    if plan.prune.removes_filters or not plan.cluster.does_nothing:
        return  # the shapes, or the kernels' scales, are still to change
    least = {name: float(value) for name, value in found.items()}
    least["size_bytes"] *= 1 - _SMALLER
    if plan.quant.sparse or getattr(plan.quant, "per_layer_bits", None) == "auto":
        del least["size_bytes"]  # what that comes to is known after training only
    for metric, (budget, kib) in plan.target.budgets.items():
        if least.get(metric, 0) > 1024 * kib:
            needed = math.ceil(10 * least[metric] / 1024) / 10
            raise ConfigError(budget, f"at least the {needed} KiB ({metric}) that the network takes untrained", kib)


def _measured(plan: Plan, data: Data, converter: Converter, memo: Memo, untrained: Callable[[], Checkpoint]) -> Arrays:
    """The metrics that are known of the file, or under `unfit` why it does not run."""
    form = stand_in(plan.quant)

    def measure() -> Arrays:
        content = converter.rehearsed(untrained(), form, few(data))
        found: Mapping[str, float] = {"size_bytes": len(content)}
        try:
            found = {**found, **plan.target.rehearsed(content)}
        except Unfit as error:
            return {"unfit": np.array(str(error))}
        return {name: np.array(value) for name, value in found.items()}

    key = {
        "rehearsal of": plan.model,
        "on": plan.target,
        "versions": plan.target.versions,
        "form": form,
        "input_shape": data.input_shape,
        "classes": data.classes,
        "kernels": kernels(),
        "code": sources.behind(plan.model, form, plan.target, Converter, random_weights).digest,
    }
    return memo.arrays(key, measure)
