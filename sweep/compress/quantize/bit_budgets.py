"""Budgets for the bit-widths of a network's layers: a mean over its weights, or the size of its file."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from sweep.compress.quantize import mixed_precision
from sweep.core.errors import ConfigError
from sweep.core.types import Checkpoint, Split
from sweep.tflite.weight_storage import FEWEST_BITS, MOST_BITS, kernel_bytes
from sweep.train.context import Files

Losses = Mapping[str, Mapping[int, float]]
"""Layer name to bits to what that many bits of its kernel alone change."""


class Budget(Protocol):
    """A budget for bit-widths, with the assignment of bits to layers within it."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that a layer may get, ascending."""

    @property
    def max_kib(self) -> float | None:
        """The maximum size of the file in KiB; None without a limit."""

    def assigned(
        self, losses: Losses, sizes: Mapping[str, int], network: Checkpoint, train: Split, files: Files
    ) -> dict[str, int]:
        """The bits of least loss within the budget.

        Args:
            losses: for each layer the bits that it may get.
            sizes: layer name to the number of its weights.
            network: the float network.
            train: the training split, for calibration.
            files: makes the network's file.

        Returns:
            Layer name to bits.

        Raises:
            ConfigError: naming the budget and the least that would do, when the fewest bits exceed it.
        """


@dataclass(frozen=True)
class MeanBits:
    """A mean over all weights.

    Args:
        bits: of the grid, in 2 to 8.
    """

    bits: float

    widths = tuple(range(FEWEST_BITS, MOST_BITS + 1))
    max_kib = None

    def assigned(
        self, losses: Losses, sizes: Mapping[str, int], network: Checkpoint, train: Split, files: Files
    ) -> dict[str, int]:
        """As `Budget`; no file is made. Only `first_last_bits` can exceed it."""
        weights = sum(sizes.values())
        try:
            return mixed_precision.assignment(losses, sizes, operator.mul, math.floor(self.bits * weights))
        except mixed_precision.OverBudget as error:
            least = math.ceil(100 * error.least / weights) / 100
            raise ConfigError("quant.mean_bits", f"at least {least}, with such first_last_bits", self.bits) from error


class FileForm(Protocol):
    """A kind of full-integer file."""

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """A network with bits as it becomes a file, without training."""


@dataclass(frozen=True)
class FileSize:
    """The size of the file. It stores 4 or 8 bits a weight, so layers get either.

    Args:
        max_kib: the most KiB.
        form: the kind of file.
    """

    max_kib: float
    form: FileForm

    widths = (4, MOST_BITS)

    def assigned(
        self, losses: Losses, sizes: Mapping[str, int], network: Checkpoint, train: Split, files: Files
    ) -> dict[str, int]:
        """As `Budget`; the file is made and weighed for each assignment that is tried."""
        budget = math.floor(self.max_kib * 1024)
        bits = {name: max(options) for name, options in losses.items()}
        while (over := self._weight(network, bits, train, files) - budget) > 0:
            # Now the size of the file without its kernels is known. It changes a little with the bits: more steps may follow.
            room = sum(kernel_bytes(sizes[name], width) for name, width in bits.items()) - over
            try:
                bits = mixed_precision.assignment(losses, sizes, kernel_bytes, room)
            except mixed_precision.OverBudget as error:
                bits = {name: min(options) for name, options in losses.items()}
                if (least := self._weight(network, bits, train, files)) <= budget:
                    return bits
                expected = f"at least about {least / 1024:.1f}, which the fewest bits take"
                raise ConfigError("quant.budget_kib", expected, self.max_kib) from error
        return bits

    def _weight(self, network: Checkpoint, bits: Mapping[str, int], train: Split, files: Files) -> int:
        """Bytes of the network's file with these bits."""
        return len(files.file(self.form.ready(replace(network, bits=bits), train), self.form))
