"""The checks before training that need the built network.

The student is built with random weights (initial weights hide faults behind factors of 1 and biases of 0), checked, and
converted to the format that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from sweep.core.errors import ConfigError
from sweep.core.types import Arrays, Data, Progress, Spec, Storage
from sweep.models import checkpoints, contract
from sweep.pipeline import accounting, sources, target_fit
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.pipeline.rehearsal import Rehearsal
from sweep.pipeline.runner import StageRunner
from sweep.pipeline.untrained import Untrained
from sweep.results.sweeps import Limits
from sweep.train import loop


@dataclass(frozen=True, eq=False)
class Preflight:
    """The checks of one plan's networks.

    Args:
        plan: the plan.
        data: its data.
        runner: has its stages.
        converter: makes files.
        memo: the stage cache.
        progress: shows that the plan is checked.
    """

    plan: Plan
    data: Data
    runner: StageRunner
    converter: Converter
    memo: Memo
    progress: Progress

    def require(self) -> None:
        """Refuses a plan that cannot work. The check runs once.

        Raises:
            ConfigError: from the network, the distillation, the pruning, the clustering or the quantisation, with its key.
        """
        return self._passed

    def require_within(self, limits: Limits) -> None:
        """Refuses a plan whose file would violate the constraints of its sweep.

        Args:
            limits: metric to its (lowest, highest) allowed value.

        Raises:
            ConfigError: as `require`.
            TrialPruned: as `Rehearsal.require`.
        """
        rehearsal = Rehearsal(self.plan, self.data, self.runner, self.converter, self.memo, self.progress)
        if rehearsal.covers(limits):
            if not rehearsal.is_cached:
                self.require()
            rehearsal.require(limits)

    @cached_property
    def _passed(self) -> None:
        plan, data = self.plan, self.data
        self.progress.stage("check")
        loop.start(plan.threads)
        named = {"model": plan.model, **plan.distill.networks()}
        trained = [node.model for node in self.runner.nodes]
        models = [*named.items(), *(("distill.assistants", model) for model in trained if model not in named.values())]
        self._require_contracts(models)
        for group, choice in (("distill", plan.distill), ("prune", plan.prune), ("quant", plan.quant)):
            if group == "prune" and choice.does_nothing:
                continue
            checkpoints.fresh(plan.seed)
            with _under(group):
                choice.require(plan.model, data.input_shape, data.classes)
        self._require_files(models)
        self._require_layers()
        if plan.quant.storage is Storage.INTEGER and (refusal := self._untrained.file()[1]):
            raise ConfigError("quant", "a network whose kernels become integers", refusal)
        search = plan.quant.bit_search
        if not (search.does_nothing or plan.prune.removes_filters):
            search.require_budget(self._untrained.network(), data.train, self.converter)
        if plan.target.rehearses:
            with _under("target"):
                target_fit.require_target(plan, self._untrained, self.memo)

    @cached_property
    def _untrained(self) -> Untrained:
        return Untrained(self.plan, self.data, self.converter, self.memo)

    def _require_contracts(self, models: list[tuple[str, Spec]]) -> None:
        """Refuses a network that violates the contract of networks.

        Raises:
            ConfigError: with the network's key.
        """
        for where, model in models:
            if not self.memo.store.holds(self._contract_key(model)):
                with _under(where):
                    contract.require(model, self.data.input_shape, self.data.classes, self.plan.seed)

    def _require_files(self, models: list[tuple[str, Spec]]) -> None:
        """Refuses a network whose float32 file has other kernels than the network.

        Raises:
            ConfigError: with the network's key.
        """
        student = self.plan.model

        def accepted(model: Spec) -> Arrays:
            if model in (student, self.runner.start.model):  # the others are never converted
                facts = self._untrained.facts(model)
                if model == student:
                    accounting.require_counted(checkpoints.restore(self._untrained.network()), facts)
            return {}  # only acceptance is cached: the cause of a refusal may be fixed

        for where, model in models:
            with _under(where):
                self.memo.store.fetch(self._contract_key(model), partial(accepted, model))

    def _require_layers(self) -> None:
        """Refuses a student without the layers that pruning, clustering or QAT needs.

        Raises:
            ConfigError: with the key of the choice.
        """
        plan, built = self.plan, checkpoints.restore(self._untrained.network())
        if not plan.prune.does_nothing:
            with _under("prune"):
                contract.require_targets(built, plan.prune.layers, removed=plan.prune.removes_filters)
                if not plan.prune.removes_filters:
                    accounting.require_true_sparsity(built, plan.prune.layers, self._untrained.facts(plan.model))
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
            "start": model == self.runner.start.model,
            "input_shape": self.data.input_shape,
            "classes": self.data.classes,
            "seed": self.plan.seed,
            "kernels": kernels(),
            "code": sources.behind(model, contract, accounting, Converter).digest,
        }


@contextmanager
def _under(where: str) -> Iterator[None]:
    """Prefixes the key of a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise error.under(where) from error
