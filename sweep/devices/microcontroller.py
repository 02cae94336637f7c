"""A microcontroller: TensorFlow Lite for Microcontrollers (TFLM) with its reference kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sweep.core.errors import ConfigError, require_integer
from sweep.core.types import Split, Storage
from sweep.devices import fitness
from sweep.tflite import benchmark, tflm
from sweep.tflite.interface import OWN, Interface

_INSTEAD = "none (float32), ptq or qat: TFLM has kernels of float32 and of integers alone"
_LACKING = {
    Storage.FLOAT16: "float16, whose weights DEQUANTIZE would restore, which TFLM has of integers alone",
    Storage.DYNAMIC: "dynamic, whose CONV_2D and FULLY_CONNECTED take float32 images and int8 weights, which TFLM's do not",
}


@dataclass(frozen=True)
class Microcontroller:
    """TFLM, run on this machine. Its tensor arena is an upper bound for a 32-bit device, whose pointers are half as wide.

    Args:
        ram_kib: the budget for the tensor arena in KiB; None for no budget.
        flash_kib: the budget for the file in KiB; None for no budget.
        images: the number of validation images whose predictions are compared with those of LiteRT; at least 1.
        accuracy: whether TFLM runs the whole validation split.
    """

    ram_kib: float | None = None
    flash_kib: float | None = None
    images: int = 200
    accuracy: bool = False

    name = "tflm"

    def __post_init__(self) -> None:
        fitness.require_kib(ram_kib=self.ram_kib, flash_kib=self.flash_kib)
        require_integer("images", self.images, 1, 10**9)
        if not isinstance(self.accuracy, bool):
            raise ConfigError("accuracy", "true or false", repr(self.accuracy))

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """The budgets for the arena and the file."""
        return fitness.budgets_set(arena_bytes=("ram_kib", self.ram_kib), size_bytes=("flash_kib", self.flash_kib))

    @property
    def rehearses(self) -> bool:
        """Always."""
        return True

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of TFLM."""
        return fitness.versions(tflm.DISTRIBUTION)

    def check(self) -> None:
        """Refuses the target where TFLM is not installed.

        Raises:
            ConfigError: naming the extra.
        """
        fitness.require_installed(tflm.MODULE, "tflm")

    def require_form(self, form: fitness.Form) -> None:
        """Refuses float16, dynamic-range quantisation and sparse storage.

        Raises:
            ConfigError: with the operator that TFLM lacks, and the remedy.
        """
        if (lacking := _LACKING.get(form.storage)) is not None:
            raise ConfigError("quant", _INSTEAD, lacking)
        fitness.require_no_sparse(form, "TFLM has no DENSIFY")

    def metrics(self, form: fitness.Form) -> frozenset[str]:
        """`arena_bytes`, `target_agreement` and, if asked for, `tflm_accuracy`."""
        return frozenset({"arena_bytes", "target_agreement", *(["tflm_accuracy"] if self.accuracy else [])})

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """`arena_bytes`, which depends only on the shapes of a network.

        Raises:
            Unfit: for a file that TFLM does not load.
        """
        try:
            return {"arena_bytes": tflm.arena(content).total}
        except tflm.TflmError as error:
            raise fitness.Unfit(str(error)) from error

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """`arena_bytes`, `target_agreement` and, if asked for, `tflm_accuracy`.

        Raises:
            Unfit: for a file that TFLM does not run.
        """
        compared = min(self.images, len(validation))
        images = validation.images if self.accuracy else validation.images[:compared]
        try:
            arena, classes = tflm.predict(content, images, interface)
        except tflm.TflmError as error:
            raise fitness.Unfit(str(error)) from error
        expected = benchmark.predict(content, images[:compared], threads, interface)
        metrics: dict[str, float] = {
            "arena_bytes": arena.total,
            "target_agreement": np.count_nonzero(classes[:compared] == expected) / compared,
        }
        if self.accuracy:
            metrics["tflm_accuracy"] = np.count_nonzero(classes == validation.labels) / len(validation)
        return metrics
