"""A phone or a computer: LiteRT, which every file is measured with anyway."""

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
        flash_kib: the most KiB of the file; None for whatever it takes.
    """

    flash_kib: float | None = None

    name = "litert"

    def __post_init__(self) -> None:
        fitness.require_kib(flash_kib=self.flash_kib)

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """The budget on the file."""
        return fitness.given(size_bytes=("flash_kib", self.flash_kib))

    @property
    def rehearses(self) -> bool:
        """Only for a budget: LiteRT runs every form that there is."""
        return bool(self.budgets)

    @property
    def versions(self) -> Mapping[str, str]:
        """Of TFLM, which says what the file would take on a microcontroller."""
        return fitness.versions(tflm.DISTRIBUTION)

    def check(self) -> None:
        """It is always installed."""

    def require_form(self, form: fitness.Form) -> None:
        """Any will do."""

    def metrics(self, form: fitness.Form) -> frozenset[str]:
        """`arena_bytes`, where TFLM is installed and loads the form."""
        return fitness.arena_of(form)

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """Nothing: every file that is written was run with LiteRT."""
        return {}

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """`arena_bytes`, where TFLM is installed and loads the file."""
        return fitness.arena(content)
