"""What PTQ and QAT share: full-integer files, and the bits of each layer.

Weights live on a symmetric grid of 2 to 8 bits, on which zero is exact: what pruning dropped stays zero in the file. Each
channel of a convolution has a grid; a dense kernel has one, and so has one whose weights are clustered. Of a depthwise kernel
PTQ gives each channel its own, QAT all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, Self

from sweep.compress.quantize.bit_search import BitSearch, FileBytes
from sweep.compress.quantize.clipping import MinMax, Range
from sweep.compress.quantize.formats import File
from sweep.core.errors import (
    ConfigError,
    require_integer,
    require_number,
)
from sweep.core.protocols import require_part
from sweep.core.types import Array, Checkpoint, Spec, Split, Storage
from sweep.data import splits
from sweep.models import checkpoints
from sweep.tflite.weight_storage import FEWEST_BITS, MOST_BITS, container
from sweep.train.context import Context

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
        require_integer("bits", self.bits, FEWEST_BITS, MOST_BITS)
        require_integer("calibration_samples", self.calibration_samples, 1, 10**9)
        if not isinstance(self.per_layer_bits, (Mapping, NoneType)) and not self._auto:
            raise ConfigError("per_layer_bits", "a mapping of layer names to bits, or auto", repr(self.per_layer_bits))
        for name, bits in self._asked.items():
            require_integer(f"per_layer_bits.{name}", bits, FEWEST_BITS, MOST_BITS)
        budgets = {name: value for name in ("mean_bits", "budget_kib") if (value := getattr(self, name)) is not None}
        if self._auto and len(budgets) != 1:
            raise ConfigError("per_layer_bits", "auto with either mean_bits or budget_kib", ", ".join(budgets) or "neither")
        if budgets and not self._auto:
            raise ConfigError(*next((name, "null without per_layer_bits=auto", value) for name, value in budgets.items()))
        if self.mean_bits is not None:
            require_number("mean_bits", self.mean_bits, FEWEST_BITS, MOST_BITS)
        if self.budget_kib is not None:
            require_number("budget_kib", self.budget_kib, 0, 1e9, open_low=True)
            if self.sparse:  # what that comes to is known after training only, and INT4 is never stored so
                raise ConfigError("budget_kib", "sparse=false beside it", self.budget_kib)
        if self.first_last_bits is not None:
            require_integer("first_last_bits", self.first_last_bits, FEWEST_BITS, MOST_BITS)
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
            return replace(self, bits=MOST_BITS, per_layer_bits=None, first_last_bits=None, mean_bits=None, budget_kib=None)
        return replace(
            self,
            bits=_kind(self.bits),
            per_layer_bits={name: _kind(bits) for name, bits in self._asked.items()},
            first_last_bits=None if self.first_last_bits is None else _kind(self.first_last_bits),
        )

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse a name in `per_layer_bits` that no layer has, and a network with a kernel that has no grid here.

        Raises:
            ConfigError: naming it.
        """
        built = model.build(input_shape, classes)
        _require_grids(built)
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

    @property
    def _search(self) -> BitSearch:
        return BitSearch(self.weight_range, self._one_depthwise_grid, self.first_last_bits, self.mean_bits, self.budget_kib)

    def _with_bits(self, network: Checkpoint, context: Context) -> Checkpoint:
        """The network with the bits of each layer: those asked for, or found."""
        if not self._auto:
            return replace(network, bits=self.layer_bits(checkpoints.kernel_names(network)))
        train = context.data.train
        images = train.images[splits.fair_order(train.labels)[len(train) - self._aside(train) :]]
        file_bytes = self._file_bytes(network, train, context.weigh)
        return replace(network, bits=self._search.search(network, images, context.progress, file_bytes))

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
            network = untrained()
            self._search.require_budget(network, self._file_bytes(network, train, weigh))

    def _file_bytes(self, network: Checkpoint, train: Split, weigh: Callable[[Checkpoint], int]) -> FileBytes:
        """Weighs the file of a network with given bits."""
        return lambda bits: weigh(self.ready(replace(network, bits=bits), train))


def _kind(bits: int) -> int:
    """The bits that stand for all grids that are stored and rescaled alike: 4 for 2 to 4, 5 for 5 to 7, and 8."""
    if container(bits) == "INT4":
        return 4
    return 5 if bits < MOST_BITS else MOST_BITS


def _require_grids(model: Any) -> None:
    """Refuse a Keras model with a kernel that has no grid here.

    Raises:
        ConfigError: naming the layer.
    """
    import tf_keras as keras

    for layer in model.layers:
        if type(layer).__name__.startswith("Separable"):
            raise ConfigError("", "separable convolutions as a depthwise and a 1x1 one", f"{layer.name} in one")
        if isinstance(layer, keras.Model):
            raise ConfigError("", "layers, no network inside the network", layer.name)
