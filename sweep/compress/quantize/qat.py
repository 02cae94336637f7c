"""Quantisation-aware training (QAT): the network is fake-quantised, calibrated on training images, and trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from sweep.compress.quantize import fake_quant
from sweep.compress.quantize.integer import Integer
from sweep.core.errors import (
    require_epochs,
    require_learning_rate,
)
from sweep.core.stage import Outcome
from sweep.core.types import Checkpoint, Split
from sweep.models import checkpoints
from sweep.train import constraints, loop
from sweep.train.context import Context, required


@dataclass(frozen=True)
class QAT(Integer):
    """Quantisation-aware training (Jacob et al. 2018, arXiv 1712.05877) with TFMOT's n-bit scheme.

    `Integer` describes the keys that are not listed here.

    Args:
        finetune: epochs of training under fake quantisation, at least 0.
        learning_rate: the peak learning rate, above 0.
    """

    finetune: int
    learning_rate: float

    _one_depthwise_grid = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Fake-quantises, calibrates and trains. Masks and clusters are preserved."""
        network = self._with_bits(required(network))
        model = self._calibrated(network, context.data.train)
        fixed = constraints.FixedConstraints(checkpoints.kernels(model), network)
        curves = loop.fit(
            model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, constraints=fixed
        )
        fake_quant.pin_input_range(model)
        return Outcome(replace(network, weights=tuple(model.get_weights())), curves)

    def untrained(self) -> Self:
        """Calibration without training."""
        return replace(self, finetune=0)

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, None]:
        """The fake-quantised Keras model to convert, which brings its ranges."""
        model = fake_quant.wrapped(checkpoints.architecture(network), network.bits, shared=network.clusters)
        model.set_weights(list(network.weights))
        return model, None

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """The network fake-quantised and calibrated."""
        return replace(network, weights=tuple(self._calibrated(network, train).get_weights()))

    def _calibrated(self, network: Checkpoint, train: Split) -> Any:
        """The fake-quantised Keras model, its ranges set by training images."""
        model = checkpoints.restore(network)
        for name, kernel in checkpoints.every_kernel(model).items():
            values = kernel.numpy()
            # TFMOT has a scale per channel of a convolution, and one per tensor of a dense or a depthwise layer.
            columns = values.reshape(-1, 1 if values.ndim == 2 or name in network.clusters else values.shape[-1])
            thresholds = self.weight_range.thresholds(columns, network.bits[name]).astype(np.float32)
            kernel.assign(np.clip(columns, -thresholds, thresholds).reshape(values.shape))
        wrapped = fake_quant.wrapped(model, network.bits, shared=network.clusters)
        fake_quant.require_equivalent(wrapped, model)
        fake_quant.calibrate_ranges(wrapped, self._images(train))
        return wrapped
