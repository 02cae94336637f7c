"""The forms of file without integer activations: float32, float16 and dynamic range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sweep.compress.quantize.bit_search import NoSearch
from sweep.core.errors import ConfigError
from sweep.core.stage import Evidence
from sweep.core.types import Checkpoint, Spec, Split, Storage
from sweep.models import checkpoints
from sweep.train.unchanged import Unchanged


@dataclass(frozen=True, kw_only=True)
class File:
    """The options that all formats share.

    Args:
        sparse: whether kernels are stored sparsely where that is smaller and runs.
        strip: whether the names of tensors and the signature are left out. Redundant data are left out of every file.
    """

    sparse: bool = False
    strip: bool = False

    def __post_init__(self) -> None:
        for name in ("sparse", "strip"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, "true or false", repr(getattr(self, name)))

    def stage(self) -> Self:
        """The form without what concerns the packing of the file alone, which is no part of the stage's cache key."""
        return replace(self, sparse=False, strip=False)


@dataclass(frozen=True)
class _Untouched(Unchanged, File):
    """A form that does not change the network: the converter does all."""

    storage: ClassVar[Storage]
    activations = 32
    bit_search = NoSearch()

    def evidence(self, network: Checkpoint) -> Evidence:
        """The kind of file."""
        return Evidence(storage=self.storage, activations=self.activations)

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """The network itself."""
        return network

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, None]:
        """The Keras model to convert; nothing else is needed."""
        return checkpoints.restore(network), None

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""


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
    """Dynamic range quantisation: weights of at least 1,024 elements stored as int8, activations quantised at run time."""

    storage = Storage.DYNAMIC
