"""LiteRT, on a phone or a computer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sweep.core.types import Split
from sweep.devices import fitness
from sweep.tflite import tflm
from sweep.tflite.interface import OWN, Interface


@dataclass(frozen=True)
class LiteRT:
    """LiteRT with its XNNPACK delegate. It runs every form that there is.

    Args:
        flash_kib: the budget for the file in KiB; None for no budget.
    """

    flash_kib: float | None = None

    name = "litert"

    def __post_init__(self) -> None:
        fitness.require_kib(flash_kib=self.flash_kib)

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """The budget for the file."""
        return fitness.budgets_set(size_bytes=("flash_kib", self.flash_kib))

    @property
    def rehearses(self) -> bool:
        """Only for a budget: LiteRT runs every form that there is."""
        return bool(self.budgets)

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of TFLM, which measures `arena_bytes`."""
        return fitness.versions(tflm.DISTRIBUTION)

    def check(self) -> None:
        """Accepts: LiteRT is always installed."""

    def require_form(self, form: fitness.Form) -> None:
        """Accepts every format."""

    def metrics(self, form: fitness.Form) -> frozenset[str]:
        """`arena_bytes`, where TFLM is installed and loads the form."""
        return fitness.arena_metrics(form)

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """Nothing: no metric of this target is known before training."""
        return {}

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """`arena_bytes`, where TFLM is installed and loads the file."""
        return fitness.arena(content)
