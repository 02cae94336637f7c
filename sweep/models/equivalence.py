"""Checks that a step that rewrites a network preserves its logits.

A wrong rewrite need not raise an error (permuted inputs, one channel too many removed, the scale of another layer), and further
training would hide it. So the logits before and after are compared on the same few images, within the tolerance of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from sweep.core.types import Array, Storage


class Step(Enum):
    """A step that rewrites a network."""

    REMOVAL = "the removal of channels"
    WRAPPING = "the wrapping for quantisation-aware training"
    FLOAT32 = "the conversion to float32"
    FLOAT16 = "the conversion to float16"
    DYNAMIC = "the conversion to dynamic range"
    INTEGER = "the conversion to integers"


TOLERANCES: Mapping[Step, float] = {
    # No rounding beyond float32 sums in another order: measured were 1e-7 to 1e-6, also for 56 layers.
    Step.REMOVAL: 1e-4,
    Step.WRAPPING: 1e-4,  # with the fake quantisers disabled
    Step.FLOAT32: 1e-4,
    # The relative rounding error of a weight is at most 2^-11: measured were 2e-4 to 9e-4.
    Step.FLOAT16: 1e-2,
    # Weights and activations have 8 bits, with an error of up to 1/255 of the tensor's range: measured was up to 4 %.
    Step.DYNAMIC: 0.3,
    # The reference network has rounded kernels already, so the difference is the rounding of activations and biases: measured
    # was up to 5 % for accurate networks, and up to 26 % for a network pruned to 97 % and rounded to 2 bits.
    Step.INTEGER: 0.5,
}
"""The largest relative deviation of each step, with a margin over its rounding. A scrambled network deviates by about 1."""
CONVERSIONS: Mapping[Storage, Step] = {
    Storage.FLOAT32: Step.FLOAT32,
    Storage.FLOAT16: Step.FLOAT16,
    Storage.DYNAMIC: Step.DYNAMIC,
    Storage.INTEGER: Step.INTEGER,
}
COUNT = 8
"""The number of images that the logits are compared on."""


class EquivalenceError(RuntimeError):
    """A step changed the logits by more than its tolerance."""


def images(shape: tuple[int, ...]) -> Array:
    """Random images to compare networks on, the same ones at every call.

    Args:
        shape: (height, width, channels).

    Returns:
        uint8 (n, height, width, channels) of independent pixels.
    """
    return np.random.default_rng(0).integers(0, 256, (COUNT, *shape), np.uint8)


def deviation(expected: Array, logits: Array) -> float:
    """The relative deviation of logits: the root mean square of the difference over that of the expected logits."""
    size = float(np.sqrt(np.mean(np.square(expected, dtype=float))))
    off = float(np.sqrt(np.mean(np.square(np.subtract(logits, expected, dtype=float)))))
    return off / max(size, float(np.finfo(np.float32).tiny))


def require(step: Step, expected: Array, logits: Array) -> None:
    """Refuses a rewritten network whose logits deviate by more than the tolerance of the step.

    Args:
        step: the step that rewrote the network.
        expected: float (n, classes), the logits before.
        logits: float (n, classes), the logits after.

    Raises:
        EquivalenceError: with the step and the deviation; also where a logit is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        off = deviation(expected, logits)
    if not off <= TOLERANCES[step]:
        most = f"expected answers within {TOLERANCES[step]:.2%} of the network's, found them {off:.2%} off"
        raise EquivalenceError(f"{step.value}: {most}")
