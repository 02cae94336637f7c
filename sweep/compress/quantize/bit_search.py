"""The search for the bits of each layer, a stage before quantisation: sensitivities are measured, then bits are assigned.

The bits change the network's logits least within a budget (see `bit_budgets`), after Cai et al. 2020 (arXiv 2001.00281).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from sweep.compress.quantize import mixed_precision
from sweep.compress.quantize.bit_budgets import Budget
from sweep.compress.quantize.clipping import ClippingMethod
from sweep.compress.quantize.rounding import is_depthwise, quantize_kernel
from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Array, Arrays, Checkpoint, Split
from sweep.data import splits
from sweep.models import checkpoints
from sweep.tflite.weight_storage import MOST_BITS
from sweep.train import loop
from sweep.train.context import Context, Files, required
from sweep.train.unchanged import Unchanged

_log = logging.getLogger(__name__)

_IMAGES = 512  # training images that sensitivities are measured on


def images_held_out(train: Split) -> int:
    """How many training images sensitivities are measured on, the last in the stratified order; calibration leaves them out."""
    return min(_IMAGES, len(train) // 2)


@dataclass(frozen=True)
class NoSearch(Unchanged):
    """The bits are configured."""

    def require_budget(self, network: Checkpoint, train: Split, files: Files) -> None:
        """There is none."""


@dataclass(frozen=True)
class BitSearch:
    """Finds the bits of each layer that change the network's logits least within a budget.

    Args:
        weight_range: the clipping of the weights.
        one_depthwise_grid: whether the channels of a depthwise kernel share a scale.
        first_last_bits: the bits of the first and the last layer with a kernel, in 2 to 8; None to search them too.
        budget: the budget for the bits.
    """

    weight_range: ClippingMethod
    one_depthwise_grid: bool
    first_last_bits: int | None
    budget: Budget

    does_nothing = False
    weights_decide_shapes = True

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Measures the sensitivities, assigns the bits, and hands on the network with them.

        Raises:
            ConfigError: naming the budget when the fewest bits exceed it.
        """
        network = required(network)
        model = checkpoints.restore(network)
        kernels = checkpoints.every_kernel(model)
        losses = self._sensitivities(model, kernels, network, context)
        bits = self.budget.assigned(losses, _sizes(kernels), network, context.data.train, context.files)
        _log.info("bits found: %s", ", ".join(f"{name} {width}" for name, width in bits.items()))
        return Outcome(replace(network, bits=bits))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def evidence(self, network: Checkpoint) -> Evidence:
        """The evidence that the file is within the budget."""
        return Evidence(max_kib=self.budget.max_kib)

    def require_budget(self, network: Checkpoint, train: Split, files: Files) -> None:
        """Refuses a budget that the fewest bits of each layer exceed.

        Args:
            network: a float network of the shape that will be quantised.
            train: the training split, for calibration.
            files: makes the file that is weighed.

        Raises:
            ConfigError: naming the budget and the least that would do.
        """
        kernels = checkpoints.every_kernel(checkpoints.restore(network))
        lossless = {name: dict.fromkeys(widths, 0.0) for name, widths in self.widths(kernels).items()}
        self.budget.assigned(lossless, _sizes(kernels), network, train, files)

    def widths(self, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Layer name to the bits that the search may give it.

        Args:
            names: the layers with a kernel, depthwise ones too, in the network's order.
        """
        names = tuple(names)
        ends = () if self.first_last_bits is None else (names[0], names[-1])
        return {name: (self.first_last_bits or MOST_BITS,) if name in ends else self.budget.widths for name in names}

    def _sensitivities(
        self, model: Any, kernels: Mapping[str, Any], network: Checkpoint, context: Context
    ) -> dict[str, dict[int, float]]:
        """Layer name to bits to the divergence of the logits, in nats, with this kernel alone rounded to so many bits.

        They are cached for searches with other budgets, and for other quantisers with the same grids.
        """
        widths = self.widths(kernels)
        per_tensor = {
            name: name in network.clusters or (self.one_depthwise_grid and is_depthwise(kernel))
            for name, kernel in kernels.items()
        }

        def measured() -> Arrays:
            logits, images = loop.Predictor(model), _images(context.data.train)
            float_logits = logits(images)
            context.progress.stage("bit_search", "layer")
            losses = {}
            for number, (name, kernel) in enumerate(kernels.items()):
                weights: Array = kernel.numpy()
                divergences = []
                for width in widths[name]:
                    rounded = quantize_kernel(kernel, width, self.weight_range, per_tensor=per_tensor[name])
                    kernel.assign(rounded.values.reshape(weights.shape))
                    divergences.append(mixed_precision.divergence(float_logits, logits(images)))
                    kernel.assign(weights)
                losses[name] = np.array(divergences)
                context.progress.advance(number, len(kernels), name)
            return losses

        key = {
            "sensitivities of": network.fingerprint,
            "widths": widths,
            "per_tensor": per_tensor,
            "weight_range": self.weight_range,
            "data": context.data.split_hash,
        }
        losses = context.results.arrays(key, measured)
        return {name: dict(zip(widths[name], losses[name].tolist(), strict=True)) for name in widths}


def _images(train: Split) -> Array:
    """The images that sensitivities are measured on, uint8 (n, height, width, channels)."""
    return train.images[splits.fair_order(train.labels)[len(train) - images_held_out(train) :]]


def _sizes(kernels: Mapping[str, Any]) -> dict[str, int]:
    """Layer name to the number of its weights."""
    return {name: math.prod(kernel.shape) for name, kernel in kernels.items()}
