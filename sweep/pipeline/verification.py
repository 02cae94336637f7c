"""Whether a plan's file shows what the plan asked for."""

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
    """What was read from the file, once it is known to be as asked for.

    Args:
        plan: what was asked for.
        stages: what the student went through.
        network: what the file was made of.
        artifact: see `Artifacts.file`.
        filters: how many filters the student had before pruning; needed only where filters were removed.

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
        if (most := expected.max_kib) is not None and len(content) > most * 1024:
            raise audit.AuditError(f"the file: expected at most {most} KiB, found {len(content) / 1024:.1f}")
        if integer and (expected.masks or expected.clusters):
            expectations.expect_weights(before, expected.masks or {}, expected.clusters or {})
    return facts


def require_budgets(target: Target, metrics: Metrics) -> None:
    """Refuse a file that takes more than the target's budgets allow.

    Raises:
        AuditError: naming the budget.
    """
    for metric, (key, kib) in target.budgets.items():
        if metrics[metric] > 1024 * kib:
            raise audit.AuditError(f"target.{key}: expected at most {kib} KiB, found {metrics[metric] / 1024:.1f} ({metric})")


@contextmanager
def _user_names(network: Checkpoint) -> Iterator[None]:
    """Say what a file lacks with the user's names for the layers."""
    try:
        yield
    except audit.AuditError as error:
        raise audit.AuditError(layer_names.with_user_names(str(error), network)) from error
