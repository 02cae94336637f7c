"""Checks that the file of a plan is as the plan asks: storage, bit-widths, zeros, clusters, filters, size and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import or_

from sweep.core.metrics import Metrics
from sweep.core.stage import Stage
from sweep.core.types import Arrays, Checkpoint, Storage
from sweep.models import layer_names
from sweep.pipeline.plan import Plan
from sweep.pipeline.protocols import Target
from sweep.tflite import audit, expectations
from sweep.train.context import Context


def verified(
    plan: Plan, stages: Iterable[Stage[Context]], network: Checkpoint, artifact: Arrays, filters: int | None
) -> audit.Audit:
    """Audits the file of a plan.

    Args:
        plan: the plan.
        stages: the stages that were applied to the student.
        network: the network that the file was made of.
        artifact: the result of `Artifacts.file`.
        filters: the number of filters of the student before pruning; needed only where filters were removed.

    Returns:
        The audit.

    Raises:
        AuditError: naming the first tensor or layer that differs, what was expected, and what was found.
    """
    content, before = artifact["tflite"].tobytes(), artifact["named"].tobytes()
    facts = audit.read(content)
    named = facts if before == content else audit.read(before)
    if not audit.same(facts, named):
        raise audit.AuditError("the packed file: expected the kernels that it had before, found others")
    integer = plan.quant.storage is Storage.INTEGER
    in_a_file = layer_names.in_a_file(network) if integer else network
    expected = reduce(or_, (stage.evidence(in_a_file) for stage in (*stages, plan.quant)))
    with _user_names(network):
        expectations.expect(
            named,
            storage=plan.quant.storage,
            bits=expected.bits,
            zeros=expected.zeros or 0,
            layers=expected.layers or "all",
            filters=filters - expected.removed if expected.removed is not None and filters is not None else None,
            activations=plan.quant.activations,
        )
        if expected.max_kib is not None and len(content) > expected.max_kib * 1024:
            raise audit.AuditError(f"the file: expected at most {expected.max_kib} KiB, found {len(content) / 1024:.1f}")
        if integer and (expected.masks or expected.clusters):
            expectations.expect_weights(before, expected.masks or {}, expected.clusters or {})
    return facts


def require_budgets(target: Target, metrics: Metrics) -> None:
    """Refuses a file that exceeds a budget of the target.

    Raises:
        AuditError: naming the budget.
    """
    for metric, (key, kib) in target.budgets.items():
        if metrics[metric] > 1024 * kib:
            raise audit.AuditError(f"target.{key}: expected at most {kib} KiB, found {metrics[metric] / 1024:.1f} ({metric})")


@contextmanager
def _user_names(network: Checkpoint) -> Iterator[None]:
    """Replaces layer names of the file by those of the user in an error."""
    try:
        yield
    except audit.AuditError as error:
        raise audit.AuditError(layer_names.with_user_names(str(error), network)) from error
