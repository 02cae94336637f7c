"""What PTQ and QAT share: full-integer files, the bits of each layer, and the search for them.

Weights live on a symmetric grid of 2 to 8 bits, on which zero is exact: what pruning dropped stays zero in the file. Each
channel of a convolution has a grid; a dense kernel has one, and so has one whose weights are clustered. Of a depthwise kernel
PTQ gives each channel its own, QAT all the same.
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, Self

from sweep.compress.quantize import mixed_precision
from sweep.compress.quantize.clipping import MinMax, Range
from sweep.compress.quantize.formats import File
from sweep.compress.quantize.rounding import is_depthwise, rounded
from sweep.core.errors import (
    ConfigError,
    require_integer,
    require_number,
)
from sweep.core.protocols import require_part
from sweep.core.types import Array, Checkpoint, Spec, Split, Storage
from sweep.data import splits
from sweep.models import checkpoints
from sweep.tflite.weight_storage import container, kernel_bytes
from sweep.train import loop
from sweep.train.context import Context

_log = logging.getLogger(__name__)


_FEWEST, _MOST = 2, 8
_HELD_ASIDE = 512  # training images that sensitivity is measured on


@dataclass(frozen=True)
class Integer(File):
    """Integers throughout, int8 (or int16) in and out.

    Args:
        bits: of the weights' grid, 2 to 8.
        calibration_samples: how many training images set the activation ranges (at most all), at least 1.
        per_layer_bits: layer name, or pattern of names with * and ?, to bits of its own; a name counts before a pattern, and a
            longer pattern before a shorter one. `auto` finds the bits that change the network's answers least within a budget
            (see `mixed`), on training images that take no part in calibration.
        first_last_bits: of the first and the last layer with a kernel, where `per_layer_bits` does not speak; None for `bits`.
        weight_range: where the weights' grid ends.
        mean_bits: the budget of `auto` as bits of the grid per weight, in 2 to 8.
        budget_kib: the budget of `auto` as KiB of the file. Files have room for 4 or 8 bits a weight, so layers get either.
    """

    bits: int
    calibration_samples: int
    per_layer_bits: Mapping[str, int] | str | None = field(default=None, kw_only=True)
    first_last_bits: int | None = field(default=None, kw_only=True)
    weight_range: Range = field(default=MinMax(), kw_only=True)
    mean_bits: float | None = field(default=None, kw_only=True)
    budget_kib: float | None = field(default=None, kw_only=True)

    storage = Storage.INTEGER
    _one_depthwise_grid = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("bits", self.bits, _FEWEST, _MOST)
        require_integer("calibration_samples", self.calibration_samples, 1, 10**9)
        if not isinstance(self.per_layer_bits, (Mapping, NoneType)) and not self._auto:
            raise ConfigError("per_layer_bits", "a mapping of layer names to bits, or auto", repr(self.per_layer_bits))
        for name, bits in self._asked.items():
            require_integer(f"per_layer_bits.{name}", bits, _FEWEST, _MOST)
        budgets = {name: value for name in ("mean_bits", "budget_kib") if (value := getattr(self, name)) is not None}
        if self._auto and len(budgets) != 1:
            raise ConfigError("per_layer_bits", "auto with either mean_bits or budget_kib", ", ".join(budgets) or "neither")
        if budgets and not self._auto:
            raise ConfigError(*next((name, "null without per_layer_bits=auto", value) for name, value in budgets.items()))
        if self.mean_bits is not None:
            require_number("mean_bits", self.mean_bits, _FEWEST, _MOST)
        if self.budget_kib is not None:
            require_number("budget_kib", self.budget_kib, 0, 1e9, open_low=True)
            if self.sparse:  # what that comes to is known after training only, and INT4 is never stored so
                raise ConfigError("budget_kib", "sparse=false beside it", self.budget_kib)
        if self.first_last_bits is not None:
            require_integer("first_last_bits", self.first_last_bits, _FEWEST, _MOST)
        require_part("weight_range", self.weight_range, Range)

    @property
    def _auto(self) -> bool:
        return self.per_layer_bits == "auto"

    @property
    def _asked(self) -> Mapping[str, int]:
        return self.per_layer_bits if isinstance(self.per_layer_bits, Mapping) else {}

    def layer_bits(self, names: Sequence[str]) -> dict[str, int]:
        """Layer name to the bits of its kernel's grid, as asked for.

        Args:
            names: the layers with a kernel, depthwise ones too, in the network's order.
        """
        bits = dict.fromkeys(names, self.bits)
        if self.first_last_bits is not None and names:
            bits[names[0]] = bits[names[-1]] = self.first_last_bits
        asked = self._asked
        for pattern in sorted(asked, key=lambda one: (len(one), one)):
            bits |= {name: asked[pattern] for name in names if fnmatchcase(name, pattern)}
        return bits | {name: asked[name] for name in names if name in asked}

    def tried(self) -> Self:
        """This form with bits in three kinds, within which files are alike: 4 for 2 to 4, 5 for 5 to 7, and 8.

        What `auto` will find is not known yet: 8 bits.
        """
        if self._auto:
            return replace(self, bits=_MOST, per_layer_bits=None, first_last_bits=None, mean_bits=None, budget_kib=None)
        kinds = {bits: 4 if container(bits) == "INT4" else 5 if bits < _MOST else _MOST for bits in range(_FEWEST, _MOST + 1)}
        return replace(
            self,
            bits=kinds[self.bits],
            per_layer_bits={name: kinds[bits] for name, bits in self._asked.items()},
            first_last_bits=None if self.first_last_bits is None else kinds[self.first_last_bits],
        )

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse a name in `per_layer_bits` that no layer has, and a network with a kernel that has no grid here.

        Raises:
            ConfigError: naming it.
        """
        import tf_keras as keras

        built = model.build(input_shape, classes)
        for layer in built.layers:
            if type(layer).__name__.startswith("Separable"):
                raise ConfigError("", "separable convolutions as a depthwise and a 1x1 one", f"{layer.name} in one")
            if isinstance(layer, keras.Model):
                raise ConfigError("", "layers, no network inside the network", layer.name)
        names = list(checkpoints.every_kernel(built))
        for pattern in self._asked:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError("per_layer_bits", f"names or patterns of {', '.join(names)}", pattern)

    def stage(self) -> Self:
        """As `_File`, but for a budget that the packed file has to keep."""
        return self if self.budget_kib is not None else super().stage()

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """A network that has bits as `restore` takes it, without training."""
        return network

    def _images(self, train: Split) -> Array:
        """Training images of all classes in fair proportion, for calibration."""
        order = splits.fair_order(train.labels)
        return train.images[order[: min(self.calibration_samples, len(order) - self._aside(train))]]

    def _aside(self, train: Split) -> int:
        """How many of the training images, the last in the order, are kept from calibration."""
        return min(_HELD_ASIDE, len(train) // 2) if self._auto else 0

    def _with_bits(self, network: Checkpoint, context: Context) -> Checkpoint:
        """The network with the bits of each layer: those asked for, or found."""
        if not self._auto:
            return replace(network, bits=self.layer_bits(checkpoints.kernel_names(network)))
        model = checkpoints.restore(network)
        kernels = checkpoints.every_kernel(model)
        sizes = {name: math.prod(kernel.shape) for name, kernel in kernels.items()}
        losses = self._losses(model, network, context)
        bits = self._within(losses, sizes, network, context.data.train, context.weigh)
        _log.info("bits found: %s", ", ".join(f"{name} {width}" for name, width in bits.items()))
        return replace(network, bits=bits)

    def _widths(self, kernels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Layer name to the bits that `auto` may give it."""
        every = (4, 8) if self.budget_kib is not None else tuple(range(_FEWEST, _MOST + 1))
        names = tuple(kernels)
        ends = () if self.first_last_bits is None else (names[0], names[-1])
        return {name: (self.first_last_bits or _MOST,) if name in ends else every for name in names}

    def _losses(self, model: Any, network: Checkpoint, context: Context) -> dict[str, dict[int, float]]:
        """Layer name to bits to how far the answers move when this layer alone has so few."""
        train, kernels = context.data.train, checkpoints.every_kernel(model)
        images = train.images[splits.fair_order(train.labels)[len(train) - self._aside(train) :]]
        answers = loop.Answers(model)
        whole = answers(images)
        losses: dict[str, dict[int, float]] = {}
        context.progress.stage("sensitivity", "layer")
        for number, (name, widths) in enumerate(self._widths(kernels).items()):
            kernel, losses[name] = kernels[name], {}
            before = kernel.numpy()
            for width in widths:
                one = name in network.clusters or (self._one_depthwise_grid and is_depthwise(kernel))
                kernel.assign(rounded(kernel, width, self.weight_range, one=one).values.reshape(before.shape))
                losses[name][width] = mixed_precision.divergence(whole, answers(images))
                kernel.assign(before)
            context.progress.advance(number, len(kernels), name)
        context.progress.stage("quant")
        return losses

    def require_budget(self, untrained: Callable[[], Checkpoint], train: Split, weigh: Callable[[Checkpoint], int]) -> None:
        """Refuse a budget that the fewest bits of each layer exceed.

        Args:
            untrained: makes a float network of the shape that will be quantised.
            train: for calibration.
            weigh: says how many bytes the file of a network has that is as `restore` takes it.

        Raises:
            ConfigError: naming the key, and what would do.
        """
        if self._auto:
            kernels = checkpoints.every_kernel(checkpoints.restore(network := untrained()))
            sizes = {name: math.prod(kernel.shape) for name, kernel in kernels.items()}
            lossless = {name: dict.fromkeys(widths, 0.0) for name, widths in self._widths(kernels).items()}
            self._within(lossless, sizes, network, train, weigh)

    def _within(
        self,
        losses: Mapping[str, Mapping[int, float]],
        sizes: Mapping[str, int],
        network: Checkpoint,
        train: Split,
        weigh: Callable[[Checkpoint], int],
    ) -> dict[str, int]:
        """The best bits within the budget.

        Raises:
            ConfigError: when the fewest exceed it.
        """
        if self.mean_bits is not None:
            return self._within_mean(losses, sizes)
        return self._within_file(losses, sizes, lambda bits: weigh(self.ready(replace(network, bits=bits), train)))

    def _within_mean(self, losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int]) -> dict[str, int]:
        """The best bits of this mean over all weights.

        Raises:
            ConfigError: when `first_last_bits` alone take more.
        """
        weights = sum(sizes.values())
        try:
            return mixed_precision.assignment(losses, sizes, operator.mul, math.floor((self.mean_bits or _MOST) * weights))
        except mixed_precision.OverBudget as error:
            least = math.ceil(100 * error.least / weights) / 100
            raise ConfigError("quant.mean_bits", f"at least {least}, with such first_last_bits", self.mean_bits) from error

    def _within_file(
        self,
        losses: Mapping[str, Mapping[int, float]],
        sizes: Mapping[str, int],
        weighed: Callable[[Mapping[str, int]], int],
    ) -> dict[str, int]:
        """The best bits with which the file, written and weighed, is within the budget.

        Raises:
            ConfigError: when it is not with 4 bits everywhere.
        """
        budget = math.floor((self.budget_kib or 0) * 1024)
        bits = {name: max(options) for name, options in losses.items()}
        while True:
            over = weighed(bits) - budget
            if over <= 0:
                return bits
            # What the file weighs besides its kernels is known now; kernels are padded, so it may take a second step.
            room = sum(kernel_bytes(sizes[name], width) for name, width in bits.items()) - over
            try:
                bits = mixed_precision.assignment(losses, sizes, kernel_bytes, room)
            except mixed_precision.OverBudget as error:
                least = (budget + error.least - room) / 1024
                expected = f"at least about {least:.1f}, which the fewest bits take"
                raise ConfigError("quant.budget_kib", expected, self.budget_kib) from error
