"""Post-training quantisation (PTQ): kernels are rounded, then activation ranges are calibrated on training images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweep.compress.quantize.integer import Integer
from sweep.compress.quantize.rounding import is_depthwise, quantize_kernel
from sweep.core.errors import (
    ConfigError,
    require_choice,
)
from sweep.core.stage import Outcome
from sweep.core.types import Checkpoint, Spec, Split
from sweep.models import checkpoints
from sweep.tflite import requantize
from sweep.tflite.weight_storage import container
from sweep.train.context import Context, required


@dataclass(frozen=True)
class PTQ(Integer):
    """Post-training quantisation of the network's float32 file. `Integer` describes the keys that are not listed here.

    Args:
        activations: the bits of the activations, 8 or 16; with 16 a depthwise layer takes at least 5 bits.
    """

    activations: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("activations", self.activations, (8, 16))

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Sets the bits of each layer. The weights stay float: they are rounded when the file is written."""
        return Outcome(self._with_bits(required(network)))

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, requantize.Calibration]:
        """The float Keras model with dequantised kernels, and what quantises the network's float32 file to the same."""
        model, kernels = checkpoints.restore(network), {}
        for name, kernel in checkpoints.every_kernel(model).items():
            per_tensor = name in network.clusters
            kernels[name] = quantize_kernel(kernel, network.bits[name], self.weight_range, per_tensor=per_tensor)
            kernel.assign(kernels[name].values.reshape(kernel.shape))
        return model, requantize.Calibration(self._images(train), kernels, self.activations)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """As `Integer`; also refuses a depthwise INT4 kernel with 16-bit activations, which LiteRT computes wrongly.

        Raises:
            ConfigError: naming it.
        """
        super().require(model, input_shape, classes)
        if self.activations == 16:
            kernels = checkpoints.every_kernel(model.build(input_shape, classes))
            bits = self.layer_bits(list(kernels))
            if self._auto:
                bits = {name: min(widths) for name, widths in self._search().widths(kernels).items()}
            for name, kernel in kernels.items():
                if is_depthwise(kernel) and container(bits[name]) == "INT4":
                    received = f"16, {name} with {bits[name]} bits"
                    raise ConfigError("activations", "8 where a depthwise layer has 2 to 4 bits", received)
