"""What is refused before anything trains because only the built network shows it.

The student is built with random weights (fresh ones hide things by factors of 1 and biases of 0), checked, and converted into
the kind of file that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sweep.compress.quantize.integer import Integer
from sweep.core.errors import ConfigError
from sweep.core.types import Arrays, Checkpoint, Data, Progress, Spec, Storage
from sweep.models import checkpoints, contract, random_weights
from sweep.pipeline import accounting, rehearsal, sources
from sweep.pipeline.conversion import Converter, FileSize, kernels
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.tflite import audit, convert
from sweep.train import loop


@dataclass(frozen=True, eq=False)
class Preflight:
    """The checks of one plan's networks.

    Args:
        plan: what to do.
        data: its data.
        start: the network that the plan begins with.
        converter: makes files.
        memo: keeps what was found.
        progress: where to say that it checks.
    """

    plan: Plan
    data: Data
    start: Spec
    converter: Converter
    memo: Memo
    progress: Progress

    def require(self, chosen: list[Spec]) -> None:
        """Refuse what cannot work.

        Args:
            chosen: networks that the plan trains besides those that the configuration names.

        Raises:
            ConfigError: from the network, the distillation, the pruning, the clustering or the quantisation, with its key.
        """
        plan, data = self.plan, self.data
        self.progress.stage("check")
        loop.start(plan.threads)
        named = {"model": plan.model, **plan.distill.networks()}
        models = [*named.items(), *(("distill.assistants", model) for model in chosen if model not in named.values())]
        self._require_contracts(models)
        for group, choice in (("distill", plan.distill), ("prune", plan.prune), ("quant", plan.quant)):
            if group == "prune" and choice.does_nothing:
                continue
            checkpoints.fresh(plan.seed)
            with _under(group):
                choice.require(plan.model, data.input_shape, data.classes)
        self._require_files(models)
        self._require_layers()
        if plan.quant.storage is Storage.INTEGER and (refusal := self._refusal()):
            raise ConfigError("quant", "a network whose kernels become integers", refusal)
        if not plan.prune.removes_filters:
            plan.quant.require_budget(self._untrained, data.train, FileSize(self.converter, plan.quant))
        if plan.target.rehearses:
            with _under("target"):
                rehearsal.require_target(plan, data, self.converter, self.memo, self._untrained)

    def _require_contracts(self, models: list[tuple[str, Spec]]) -> None:
        """Refuse a network that is not what a network must be.

        Raises:
            ConfigError: with the network's key.
        """
        for where, model in models:
            if not self.memo.store.holds(self._contract_key(model)):
                with _under(where):
                    contract.require(model, self.data.input_shape, self.data.classes, self.plan.seed)

    def _require_files(self, models: list[tuple[str, Spec]]) -> None:
        """Refuse a network that its own float32 file does not show as it is.

        Raises:
            ConfigError: with the network's key.
        """
        student = self.plan.model

        def accepted(model: Spec) -> Arrays:
            if model in (student, self.start):  # the others never become files
                facts = self._untrained_facts(model)
                if model == student:
                    accounting.require_counted(checkpoints.restore(self._untrained()), facts)
            return {}  # that it was accepted is all there is to keep: what refuses a network may be gone tomorrow

        for where, model in models:
            with _under(where):
                self.memo.store.fetch(self._contract_key(model), partial(accepted, model))

    def _require_layers(self) -> None:
        """Refuse a student whose layers do not suit what is to be done to them.

        Raises:
            ConfigError: with the key of the choice.
        """
        plan, built = self.plan, checkpoints.restore(self._untrained())
        if not plan.prune.does_nothing:
            with _under("prune"):
                contract.require_targets(built, plan.prune.layers, removed=plan.prune.removes_filters)
                if not plan.prune.removes_filters:
                    accounting.require_true_sparsity(built, plan.prune.layers, self._untrained_facts(plan.model))
        if not plan.cluster.does_nothing:
            with _under("cluster"):
                contract.require_targets(built, getattr(plan.cluster, "layers", "all"))
        if plan.quant.storage is Storage.INTEGER and plan.quant.untrained() != plan.quant:
            with _under("quant"):
                contract.require_wrappable(built)

    def _contract_key(self, model: Spec) -> dict[str, Any]:
        return {
            "contract of": model,
            "student": model == self.plan.model,
            "start": model == self.start,
            "input_shape": self.data.input_shape,
            "classes": self.data.classes,
            "seed": self.plan.seed,
            "kernels": kernels(),
            "code": sources.behind(model, contract, accounting, Converter).digest,
        }

    def _untrained_facts(self, model: Spec) -> audit.Audit:
        """What the float32 file of the network with random weights holds.

        Raises:
            ConfigError: without a key, for a network that does not become one.
        """
        try:
            return audit.read(self.converter.float_file(self._untrained(model)))
        except (convert.ExportError, audit.AuditError) as error:
            raise ConfigError("", "a network that becomes a .tflite file", str(error)) from error

    def _refusal(self) -> str:
        """Why the student cannot become a file of the form asked for, found with random weights; empty where it can."""
        plan, data = self.plan, self.data
        form, bits = rehearsal.stand_in(plan.quant), None
        if isinstance(form, Integer):
            bits = [form.bits, form.per_layer_bits, form.first_last_bits]

        def attempt() -> Arrays:
            return {"refusal": np.array(self.converter.refusal(self._untrained(), form, rehearsal.few(data)))}

        key = {
            "refusal of": plan.model,
            "by": type(form).__qualname__,
            "activations": form.activations,
            "bits": bits,
            "input_shape": data.input_shape,
            "classes": data.classes,
            "kernels": kernels(),
            "code": sources.behind(plan.model, form, Converter, random_weights).digest,
        }
        return str(self.memo.arrays(key, attempt)["refusal"])

    def _untrained(self, spec: Spec | None = None) -> Checkpoint:
        """A network, the student where none is given, with random weights."""
        checkpoints.fresh(self.plan.seed)
        model = (spec or self.plan.model).build(self.data.input_shape, self.data.classes)
        model.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in model.weights]))
        return checkpoints.snapshot(model)


@contextmanager
def _under(where: str) -> Iterator[None]:
    """Place the key of a refusal below another."""
    try:
        yield
    except ConfigError as error:
        raise error.under(where) from error
