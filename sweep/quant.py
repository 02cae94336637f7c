"""Quantisation: what the file's weights become, after training (PTQ) or with training (QAT).

Weights live on a symmetric grid of 2 to 8 bits, on which zero is exact: what pruning dropped stays zero in the file. PTQ rounds
the kernels of the network's float32 file to it, and the activations take the ranges that training images then give them. QAT
wraps the network with the toolkit's n-bit scheme, calibrates that, and trains under the fake quantisation. Each channel of a
convolution has a grid; a dense kernel has one, and so has one whose weights are clustered. Of a depthwise kernel PTQ gives each
channel its own, QAT all the same.
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, Protocol, Self

import numpy as np

from sweep import data, fake_quant, fit, grids, mixed, models
from sweep.parts import require_part
from sweep.records import (
    Array,
    Checkpoint,
    ConfigError,
    Spec,
    Split,
    Storage,
    require_choice,
    require_epochs,
    require_integer,
    require_learning_rate,
    require_number,
)

_log = logging.getLogger(__name__)

_FEWEST, _MOST = 2, 8
_HELD_ASIDE = 512  # training images that sensitivity is measured on


@dataclass(frozen=True, kw_only=True)
class _File:
    """What every choice says of the file.

    Args:
        sparse: whether kernels are stored sparsely where that is smaller and runs.
        strip: whether names are left out.
    """

    sparse: bool = False
    strip: bool = False

    def __post_init__(self) -> None:
        for name in ("sparse", "strip"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, "true or false", repr(getattr(self, name)))

    def stage(self) -> Self:
        """What is done to the network, however the file is packed."""
        return replace(self, sparse=False, strip=False)


@dataclass(frozen=True)
class _Untouched(_File):
    """A choice that leaves the network as it is and speaks to the converter only."""

    activations = 32
    budget_kib = None

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Hand the network on."""
        return fit.Outcome(fit.required(network))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """The network itself."""
        return network

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, None]:
        """The Keras model to convert; nothing else is needed."""
        return models.restore(network), None

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""

    def require_budget(self, untrained: Callable[[], Checkpoint], train: Split, weigh: Callable[[Checkpoint], int]) -> None:
        """There is none."""


@dataclass(frozen=True)
class Float32(_Untouched):
    """No quantisation."""

    storage = Storage.FLOAT32


@dataclass(frozen=True)
class Float16(_Untouched):
    """Weights stored as float16, computed in float32."""

    storage = Storage.FLOAT16


@dataclass(frozen=True)
class Dynamic(_Untouched):
    """Weights of the larger tensors stored as int8, activations float (quantised on the fly)."""

    storage = Storage.DYNAMIC


class Range(Protocol):
    """Where the grid of a kernel's channel ends: what is larger is cut off."""

    def ends(self, weights: Array, bits: int) -> Array:
        """The largest magnitude that each channel keeps.

        Args:
            weights: float (n, channels).
            bits: of the grid.

        Returns:
            float (channels,), at most the channel's largest magnitude.
        """


@dataclass(frozen=True)
class MinMax:
    """The grid reaches to the largest magnitude."""

    def ends(self, weights: Array, bits: int) -> Array:
        """Nothing is cut off."""
        most: Array = np.abs(weights).max(axis=0)
        return most


@dataclass(frozen=True)
class MSE:
    """Of a hundred even fractions of the largest magnitude, the end at which rounding and cutting err least in the square."""

    def ends(self, weights: Array, bits: int) -> Array:
        """See `Range`."""
        most, grid = np.abs(weights).max(axis=0), grids.largest(bits)
        best, least = most.copy(), np.full(most.shape, np.inf)
        off = np.empty_like(weights)  # one array for all of them: making a hundred takes longer than filling them
        for fraction in np.linspace(1.0, 0.01, 100):
            end = most * fraction
            step = (np.where(end > 0, end, 1.0) / grid).astype(weights.dtype)
            np.clip(np.rint(np.divide(weights, step, out=off), out=off), -grid, grid, out=off)
            error = np.square(np.subtract(np.multiply(off, step, out=off), weights, out=off), out=off).sum(axis=0)
            best, least = np.where(error < least, end, best), np.minimum(error, least)
        return np.asarray(best)


@dataclass(frozen=True)
class OCTAV:
    """The end that Newton's method finds for the least mean square error of a grid (Sakr et al. 2022, arXiv 2206.06501, eq. 6).

    c becomes sum(|w| where |w| > c) / (4^-bits / 3 * count(0 < |w| <= c) + count(|w| > c)), from the mean magnitude on.
    """

    def ends(self, weights: Array, bits: int) -> Array:
        """See `Range`."""
        magnitude = np.abs(weights).astype(float)
        most = magnitude.max(axis=0)
        end = magnitude.sum(axis=0) / np.maximum(1, np.count_nonzero(magnitude, axis=0))
        for _ in range(50):
            beyond = magnitude > end
            within = np.count_nonzero((magnitude > 0) & ~beyond, axis=0)
            below = 4.0**-bits / 3.0 * within + np.count_nonzero(beyond, axis=0)
            moved = np.where(below > 0, (magnitude * beyond).sum(axis=0) / np.where(below > 0, below, 1.0), end)
            # Past the largest magnitude there is nothing to cut.
            moved = np.minimum(np.where(moved > 0, moved, end), most)
            if np.allclose(moved, end, rtol=1e-6):
                break
            end = moved
        return np.asarray(end)


@dataclass(frozen=True)
class _Integer(_File):
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
        kinds = {bits: 4 if bits <= 4 else 5 if bits < _MOST else _MOST for bits in range(_FEWEST, _MOST + 1)}
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
        names = list(models.every_kernel(built))
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
        order = data.fair_order(train.labels)
        return train.images[order[: min(self.calibration_samples, len(order) - self._aside(train))]]

    def _aside(self, train: Split) -> int:
        """How many of the training images, the last in the order, are kept from calibration."""
        return min(_HELD_ASIDE, len(train) // 2) if self._auto else 0

    def _with_bits(self, network: Checkpoint, context: fit.Context) -> Checkpoint:
        """The network with the bits of each layer: those asked for, or found."""
        if not self._auto:
            return replace(network, bits=self.layer_bits(models.kernel_names(network)))
        model = models.restore(network)
        kernels = models.every_kernel(model)
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

    def _losses(self, model: Any, network: Checkpoint, context: fit.Context) -> dict[str, dict[int, float]]:
        """Layer name to bits to how far the answers move when this layer alone has so few."""
        train, kernels = context.data.train, models.every_kernel(model)
        images = train.images[data.fair_order(train.labels)[len(train) - self._aside(train) :]]
        answers = fit.Answers(model)
        whole = answers(images)
        losses: dict[str, dict[int, float]] = {}
        context.progress.stage("sensitivity", "layer")
        for number, (name, widths) in enumerate(self._widths(kernels).items()):
            kernel, losses[name] = kernels[name], {}
            before = kernel.numpy()
            for width in widths:
                one = name in network.clusters or (self._one_depthwise_grid and _is_depthwise(kernel))
                kernel.assign(rounded(kernel, width, self.weight_range, one=one).values.reshape(before.shape))
                losses[name][width] = mixed.divergence(whole, answers(images))
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
            kernels = models.every_kernel(models.restore(network := untrained()))
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
            return mixed.assignment(losses, sizes, operator.mul, math.floor((self.mean_bits or _MOST) * weights))
        except mixed.OverBudget as error:
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
            room = sum(_stored(sizes[name], width) for name, width in bits.items()) - over
            try:
                bits = mixed.assignment(losses, sizes, _stored, room)
            except mixed.OverBudget as error:
                least = (budget + error.least - room) / 1024
                expected = f"at least about {least:.1f}, which the fewest bits take"
                raise ConfigError("quant.budget_kib", expected, self.budget_kib) from error


@dataclass(frozen=True)
class PTQ(_Integer):
    """Post-training quantisation.

    Args:
        bits: see `_Integer`, for this and all other keys but the one here.
        calibration_samples: see `_Integer`.
        activations: their bits: 8, or 16, for which a depthwise layer has at least 5.
    """

    activations: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("activations", self.activations, (8, 16))

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Say how many bits each layer gets; the weights stay, to be rounded where the file is made."""
        return fit.Outcome(self._with_bits(fit.required(network), context))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, grids.Calibration]:
        """The float Keras model with its kernels rounded, and what makes that of the network's float32 file."""
        model, kernels = models.restore(network), {}
        for name, kernel in models.every_kernel(model).items():
            one = name in network.clusters
            kernels[name] = grid = rounded(kernel, network.bits[name], self.weight_range, one=one)
            kernel.assign(grid.values.reshape(kernel.shape))
        return model, grids.Calibration(self._images(train), kernels, self.activations)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """As `_Integer`, and refuse what LiteRT computes wrongly: a depthwise INT4 kernel under 16-bit activations.

        Raises:
            ConfigError: naming it.
        """
        super().require(model, input_shape, classes)
        if self.activations == 16:
            kernels = models.every_kernel(model.build(input_shape, classes))
            bits = self.layer_bits(list(kernels))
            if self._auto:
                bits = {name: min(widths) for name, widths in self._widths(kernels).items()}
            for name, kernel in kernels.items():
                if _is_depthwise(kernel) and bits[name] <= 4:
                    received = f"16, {name} with {bits[name]} bits"
                    raise ConfigError("activations", "8 where a depthwise layer has 2 to 4 bits", received)


@dataclass(frozen=True)
class QAT(_Integer):
    """Quantisation-aware training (Jacob et al. 2018, arXiv 1712.05877): calibrated, then trained under fake quantisation.

    Args:
        bits: see `_Integer`, for this and all other keys but the two here.
        calibration_samples: see `_Integer`.
        finetune: epochs of that training, at least 0.
        learning_rate: their peak rate, above 0.
    """

    finetune: int
    learning_rate: float

    activations = 8
    _one_depthwise_grid = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Wrap, calibrate and train; pruned weights are held at zero, and those of a cluster equal."""
        network = self._with_bits(fit.required(network), context)
        model = self._calibrated(network, context.data.train)
        held = fit.Held(models.kernels(model), network)
        curves = fit.fit(model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, held=held)
        fake_quant.pin_input_range(model)
        return fit.Outcome(replace(network, weights=tuple(model.get_weights())), curves)

    def untrained(self) -> Self:
        """The calibration alone."""
        return replace(self, finetune=0)

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, None]:
        """The fake-quantised Keras model to convert, which brings its ranges."""
        model = fake_quant.wrapped(models.architecture(network), network.bits, shared=network.clusters)
        model.set_weights(list(network.weights))
        return model, None

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """Wrapped and calibrated."""
        return replace(network, weights=tuple(self._calibrated(network, train).get_weights()))

    def _calibrated(self, network: Checkpoint, train: Split) -> Any:
        """The fake-quantised Keras model, its ranges set by training images."""
        model = models.restore(network)
        for name, kernel in models.every_kernel(model).items():
            values = kernel.numpy()
            # As the toolkit has it: a grid for each channel of a convolution, one for all of a dense or a depthwise layer.
            columns = values.reshape(-1, 1 if values.ndim == 2 or name in network.clusters else values.shape[-1])
            ends = self.weight_range.ends(columns, network.bits[name]).astype(np.float32)
            kernel.assign(np.clip(columns, -ends, ends).reshape(values.shape))
        wrapped = fake_quant.wrapped(model, network.bits, shared=network.clusters)
        fake_quant.require_equivalent(wrapped, model)
        fake_quant.calibrate_ranges(wrapped, self._images(train))
        return wrapped


def rounded(kernel: Any, bits: int, weight_range: Range, *, one: bool) -> grids.Rounded:
    """A kernel on its grid.

    Args:
        kernel: a kernel variable of Keras; its channels are those of the output, of a depthwise one too.
        bits: of the grid.
        weight_range: where it ends.
        one: whether all channels share one grid; those of a dense kernel always do.
    """
    values: Array = kernel.numpy()
    columns = values.reshape(-1, math.prod(values.shape[-2:]) if _is_depthwise(kernel) else values.shape[-1])
    ends = weight_range.ends(columns.reshape(-1, 1) if one or values.ndim == 2 else columns, bits)
    grid = grids.largest(bits)
    steps = (np.where(ends > 0, ends, 1.0) / grid).astype(np.float32)
    return grids.Rounded(columns, bits, np.clip(np.round(columns / steps), -grid, grid).astype(np.int8), steps)


def _is_depthwise(kernel: Any) -> bool:
    return bool(kernel.name.endswith("depthwise_kernel:0"))


def _stored(weights: int, bits: int) -> int:
    """Bytes of a kernel in a file."""
    return -(-weights // 2) if bits <= 4 else weights
