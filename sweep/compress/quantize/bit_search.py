"""The search for the bits of each layer: sensitivities are measured, then bits are assigned within a budget."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.compress.quantize import mixed_precision
from sweep.compress.quantize.clipping import ClippingMethod
from sweep.compress.quantize.rounding import is_depthwise, quantize_kernel
from sweep.core.errors import ConfigError
from sweep.core.types import Array, Checkpoint, Progress
from sweep.models import checkpoints
from sweep.tflite.weight_storage import FEWEST_BITS, MOST_BITS, kernel_bytes
from sweep.train import loop

_log = logging.getLogger(__name__)

FileBytes = Callable[[Mapping[str, int]], int]
"""Layer name to bits, to the bytes of the file that has these bits."""


@dataclass(frozen=True)
class BitSearch:
    """Finds the bits of each layer that change the network's logits least within a budget.

    Either `mean_bits` or `budget_kib` is the budget.

    Args:
        weight_range: the clipping of the weights.
        one_depthwise_grid: whether the channels of a depthwise kernel share a scale.
        first_last_bits: the bits of the first and the last layer with a kernel, in 2 to 8; None to search them too.
        mean_bits: the mean bits of the grid over all weights, in 2 to 8.
        budget_kib: KiB of the file. It stores 4 or 8 bits a weight, so layers get either.
    """

    weight_range: ClippingMethod
    one_depthwise_grid: bool
    first_last_bits: int | None
    mean_bits: float | None
    budget_kib: float | None

    def search(self, network: Checkpoint, images: Array, progress: Progress, file_bytes: FileBytes) -> dict[str, int]:
        """Measures the sensitivities and assigns the bits.

        Args:
            network: a float network.
            images: uint8 (n, height, width, channels), to measure the sensitivities on.
            progress: the progress display, advanced by a layer at a time.
            file_bytes: weighs the file; called for `budget_kib` only.

        Returns:
            Layer name to the bits of its kernel's grid.

        Raises:
            ConfigError: naming the budget when the fewest bits exceed it.
        """
        model = checkpoints.restore(network)
        kernels = checkpoints.every_kernel(model)
        losses = self._sensitivities(model, kernels, network, images, progress)
        bits = self._assigned(losses, _sizes(kernels), file_bytes)
        _log.info("bits found: %s", ", ".join(f"{name} {width}" for name, width in bits.items()))
        return bits

    def require_budget(self, network: Checkpoint, file_bytes: FileBytes) -> None:
        """Refuses a budget that the fewest bits of each layer exceed.

        Args:
            network: a float network of the shape that will be quantised.
            file_bytes: weighs the file; called for `budget_kib` only.

        Raises:
            ConfigError: naming the budget and the least that would do.
        """
        kernels = checkpoints.every_kernel(checkpoints.restore(network))
        lossless = {name: dict.fromkeys(widths, 0.0) for name, widths in self.widths(kernels).items()}
        self._assigned(lossless, _sizes(kernels), file_bytes)

    def widths(self, kernels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Layer name to the bits that the search may give it."""
        every = (4, MOST_BITS) if self.budget_kib is not None else tuple(range(FEWEST_BITS, MOST_BITS + 1))
        names = tuple(kernels)
        ends = () if self.first_last_bits is None else (names[0], names[-1])
        return {name: (self.first_last_bits or MOST_BITS,) if name in ends else every for name in names}

    def _sensitivities(
        self, model: Any, kernels: Mapping[str, Any], network: Checkpoint, images: Array, progress: Progress
    ) -> dict[str, dict[int, float]]:
        """Layer name to bits to the divergence of the logits, in nats, with this kernel alone rounded to so many bits."""
        logits = loop.Answers(model)
        float_logits = logits(images)
        losses: dict[str, dict[int, float]] = {}
        progress.stage("sensitivity", "layer")
        for number, (name, widths) in enumerate(self.widths(kernels).items()):
            kernel, losses[name] = kernels[name], {}
            weights = kernel.numpy()
            per_tensor = name in network.clusters or (self.one_depthwise_grid and is_depthwise(kernel))
            for width in widths:
                kernel.assign(
                    quantize_kernel(kernel, width, self.weight_range, per_tensor=per_tensor).values.reshape(weights.shape)
                )
                losses[name][width] = mixed_precision.divergence(float_logits, logits(images))
                kernel.assign(weights)
            progress.advance(number, len(kernels), name)
        progress.stage("quant")
        return losses

    def _assigned(
        self, losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], file_bytes: FileBytes
    ) -> dict[str, int]:
        if self.mean_bits is not None:
            return self._within_mean(losses, sizes, self.mean_bits)
        return self._within_file(losses, sizes, file_bytes)

    def _within_mean(
        self, losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], mean_bits: float
    ) -> dict[str, int]:
        """The bits of least loss whose mean over all weights is within the budget.

        Raises:
            ConfigError: when `first_last_bits` alone take more.
        """
        weights = sum(sizes.values())
        try:
            return mixed_precision.assignment(losses, sizes, operator.mul, math.floor(mean_bits * weights))
        except mixed_precision.OverBudget as error:
            least = math.ceil(100 * error.least / weights) / 100
            raise ConfigError("quant.mean_bits", f"at least {least}, with such first_last_bits", mean_bits) from error

    def _within_file(
        self, losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], file_bytes: FileBytes
    ) -> dict[str, int]:
        """The bits of least loss with which the file, written and weighed, is within the budget.

        Raises:
            ConfigError: when it is not with 4 bits everywhere.
        """
        budget = math.floor((self.budget_kib or 0) * 1024)
        bits = {name: max(options) for name, options in losses.items()}
        while (over := file_bytes(bits) - budget) > 0:
            # What the file weighs besides its kernels is known now. It changes a little with the bits: there may be more steps.
            room = sum(kernel_bytes(sizes[name], width) for name, width in bits.items()) - over
            try:
                bits = mixed_precision.assignment(losses, sizes, kernel_bytes, room)
            except mixed_precision.OverBudget as error:
                bits = {name: min(options) for name, options in losses.items()}
                if (least := file_bytes(bits)) <= budget:
                    return bits
                expected = f"at least about {least / 1024:.1f}, which the fewest bits take"
                raise ConfigError("quant.budget_kib", expected, self.budget_kib) from error
        return bits


def _sizes(kernels: Mapping[str, Any]) -> dict[str, int]:
    """Layer name to the number of its weights."""
    return {name: math.prod(kernel.shape) for name, kernel in kernels.items()}
