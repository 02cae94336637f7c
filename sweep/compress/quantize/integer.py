"""Shared by PTQ and QAT: full-integer files, and the bit-width of each layer.

Weights are quantised symmetrically to 2 to 8 bits with a zero point of 0, so pruned weights stay zero in the file. A
convolution has a scale per channel; a dense kernel has one per tensor, and so has a clustered kernel. A depthwise kernel has a
scale per channel under PTQ, and one per tensor under QAT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, Self

from sweep.compress.quantize.bit_budgets import FileSize, MeanBits
from sweep.compress.quantize.bit_search import BitSearch, NoSearch, images_held_out
from sweep.compress.quantize.clipping import ClippingMethod, MinMax
from sweep.compress.quantize.formats import File
from sweep.core.errors import (
    ConfigError,
    require_integer,
    require_number,
)
from sweep.core.protocols import require_part
from sweep.core.stage import Evidence
from sweep.core.types import Array, Checkpoint, Spec, Split, Storage
from sweep.data import splits
from sweep.models import checkpoints
from sweep.tflite.weight_storage import FEWEST_BITS, MOST_BITS, container


@dataclass(frozen=True)
class Integer(File):
    """Full-integer quantisation: integer weights and activations, integer input and output.

    Args:
        bits: of the weights' grid, 2 to 8.
        calibration_samples: how many training images set the activation ranges (at most all), at least 1.
        per_layer_bits: layer name, or pattern of names with * and ?, to bits of its own; a name counts before a pattern, and a
            longer pattern before a shorter one. `auto` searches the bits that change the network's logits least within a
            budget (see `bit_search`), on training images that take no part in calibration.
        first_last_bits: of the first and the last layer with a kernel, where `per_layer_bits` names neither; None for `bits`.
        weight_range: chooses the clipping thresholds of the weights.
        mean_bits: the budget of `auto` as bits of the grid per weight, in 2 to 8.
        budget_kib: the budget of `auto` as KiB of the file. Files have room for 4 or 8 bits a weight, so layers get either.
    """

    bits: int
    calibration_samples: int
    per_layer_bits: Mapping[str, int] | str | None = field(default=None, kw_only=True)
    first_last_bits: int | None = field(default=None, kw_only=True)
    weight_range: ClippingMethod = field(default=MinMax(), kw_only=True)
    mean_bits: float | None = field(default=None, kw_only=True)
    budget_kib: float | None = field(default=None, kw_only=True)

    does_nothing = False
    weights_decide_shapes = False
    activations = 8
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
        require_part("weight_range", self.weight_range, ClippingMethod)

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
        for pattern in sorted(asked, key=lambda pattern: (len(pattern), pattern)):
            bits |= {name: asked[pattern] for name in names if fnmatchcase(name, pattern)}
        return bits | {name: asked[name] for name in names if name in asked}

    def tried(self) -> Self:
        """The form with 4 bits for 2 to 4, 5 for 5 to 7, and 8: files of the same kind are converted alike.

        `auto` becomes 8 bits, since the search comes later.
        """
        if self._auto:
            return replace(self, bits=MOST_BITS, per_layer_bits=None, first_last_bits=None, mean_bits=None, budget_kib=None)
        asked = {name: _kind(bits) for name, bits in self._asked.items()}
        ends = None if self.first_last_bits is None else _kind(self.first_last_bits)
        return replace(self, bits=_kind(self.bits), per_layer_bits=asked, first_last_bits=ends)

    def evidence(self, network: Checkpoint) -> Evidence:
        """Integer tensors of the layers' bits."""
        return Evidence(storage=self.storage, bits=network.bits, activations=self.activations)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuses a pattern in `per_layer_bits` that matches no layer, and a network with a kernel that is not quantised here.

        Raises:
            ConfigError: naming it.
        """
        built = model.build(input_shape, classes)
        _require_grids(built)
        names = list(checkpoints.every_kernel(built))
        for pattern in self._asked:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError("per_layer_bits", f"names or patterns of {', '.join(names)}", pattern)

    @property
    def bit_search(self) -> BitSearch | NoSearch:
        """The stage before this one, which finds the bits that `auto` asks for."""
        return self._search() if self._auto else NoSearch()

    def _search(self) -> BitSearch:
        if self.mean_bits is not None:
            budget: MeanBits | FileSize = MeanBits(self.mean_bits)
        else:
            budget = FileSize(self.budget_kib or 0, self.untrained())
        return BitSearch(self.weight_range, self._one_depthwise_grid, self.first_last_bits, budget)

    def untrained(self) -> Self:
        """Itself."""
        return self

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """A network with bits as `restore` takes it, without training."""
        return network

    def _images(self, train: Split) -> Array:
        """The calibration set: training images, stratified by class."""
        order = splits.fair_order(train.labels)
        held_out = images_held_out(train) if self._auto else 0
        return train.images[order[: min(self.calibration_samples, len(order) - held_out)]]

    def _with_bits(self, network: Checkpoint) -> Checkpoint:
        """The network with the bit-width of each layer, configured or from the search.

        Raises:
            ValueError: for a network that the search should have seen, and has not.
        """
        if not self._auto:
            return replace(network, bits=self.layer_bits(checkpoints.kernel_names(network)))
        if not network.bits:
            raise ValueError("this stage takes a network with the bits that were found")
        return network


def _kind(bits: int) -> int:
    """The bits that stand for all grids that are stored and rescaled alike: 4 for 2 to 4, 5 for 5 to 7, and 8."""
    if container(bits) == "INT4":
        return 4
    return 5 if bits < MOST_BITS else MOST_BITS


def _require_grids(model: Any) -> None:
    """Refuses a Keras model with a kernel that is not quantised here.

    Raises:
        ConfigError: naming the layer.
    """
    import tf_keras as keras

    for layer in model.layers:
        if type(layer).__name__.startswith("Separable"):
            raise ConfigError("", "separable convolutions as a depthwise and a 1x1 one", f"{layer.name} in one")
        if isinstance(layer, keras.Model):
            raise ConfigError("", "layers, no network inside the network", layer.name)
