"""Whether a plan's file shows what the plan asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweep.core.types import Arrays, Checkpoint, Storage
from sweep.models import layer_names
from sweep.pipeline.plan import Plan
from sweep.tflite import audit, expectations


def verified(plan: Plan, network: Checkpoint, artifact: Arrays, filters: int | None) -> audit.Audit:
    """What was read from the file, once it is known to be as asked for.

    Args:
        plan: what was asked for.
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
    in_a_file = layer_names.in_a_file(network) if plan.quant.storage is Storage.INTEGER else network
    with _user_names(network):
        expectations.expect(
            named,
            storage=plan.quant.storage,
            bits=in_a_file.bits,
            zeros=network.zeros,
            layers=plan.prune.layers,
            filters=filters - network.removed if network.filters and filters is not None else None,
            activations=plan.quant.activations,
        )
        if (most := plan.quant.budget_kib) is not None and len(content) > most * 1024:
            raise audit.AuditError(f"the file: expected at most {most} KiB, found {len(content) / 1024:.1f}")
        if plan.quant.storage is Storage.INTEGER and (network.masks or network.clusters):
            expectations.expect_weights(before, in_a_file.masks, in_a_file.clusters)
    return facts


@contextmanager
def _user_names(network: Checkpoint) -> Iterator[None]:
    """Say what a file lacks with the user's names for the layers."""
    try:
        yield
    except audit.AuditError as error:
        raise audit.AuditError(layer_names.told(str(error), network)) from error
