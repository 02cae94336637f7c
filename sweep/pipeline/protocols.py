"""What the parts of a plan are: a protocol for each group of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sweep.core.measurement import Answers
from sweep.core.metric import Metric
from sweep.core.stage import Stage
from sweep.core.types import Array, Checkpoint, Data, Spec, Split, Storage
from sweep.tflite import requantize
from sweep.tflite.interface import OWN, Interface
from sweep.train.context import Context, Files


class Dataset(Protocol):
    """A choice of the `dataset` group."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def augment(self) -> Callable[[Array, int, int], Array]:
        """What training does to its images (see `Context`)."""

    def load(self) -> Data:
        """The three splits; a ConfigError for data that cannot be read or used."""


class OwnMetric(Protocol):
    """A metric of the user's own, under its name in the `metrics` of the configuration."""

    @property
    def entry(self) -> Metric:
        """Its entry in the table of metrics, which needs no `compute`."""

    def measure(self, content: bytes, answers: Answers) -> float:
        """Its value: a finite number.

        Args:
            content: the file's bytes.
            answers: those of the file on the validation split.
        """


class Pruning(Stage[Context], Protocol):
    """A choice of the `prune` group."""

    @property
    def sparsity(self) -> float:
        """The fraction asked for."""

    @property
    def layers(self) -> str:
        """The targeted kind of layer: conv, dense or all."""

    @property
    def removes_filters(self) -> bool:
        """Whether the network that it hands on has fewer filters."""

    def share(self, fraction: float) -> Stage[Context]:
        """The pruning to a fraction, in (0, 1], of the sparsity: what one of several prunings in an order does."""

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse, with a ConfigError, a network that it cannot prune."""


class Clustering(Stage[Context], Protocol):
    """A choice of the `cluster` group."""

    @property
    def levels(self) -> int | None:
        """The most values that a clustered kernel has; None where nothing is clustered."""


class BitSearch(Stage[Context], Protocol):
    """The stage that finds the bits of each layer."""

    def require_budget(self, network: Checkpoint, train: Split, files: Files) -> None:
        """Refuse, with a ConfigError, a budget that no file of a network of this shape can keep."""


class Quantisation(Stage[Context], Protocol):
    """A choice of the `quant` group."""

    @property
    def bit_search(self) -> BitSearch:
        """What finds the bits of each layer before; it does nothing where they are given, or where there are none."""

    def stage(self) -> Stage[Context]:
        """What is done to the network, however the file is packed."""

    @property
    def storage(self) -> Storage:
        """The kind of file."""

    @property
    def sparse(self) -> bool:
        """Whether kernels are stored sparsely where that is smaller and runs."""

    @property
    def strip(self) -> bool:
        """Whether the file goes without names."""

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """A network that has bits as `restore` takes it, without training."""

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, requantize.Calibration | None]:
        """The Keras model to convert, or what makes the same of its network's float32 file.

        Args:
            network: what the last stage handed on.
            train: the training split, for calibration.
        """

    @property
    def activations(self) -> int:
        """The bits of the activations."""

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse, with a ConfigError, a network that it cannot quantise."""


class Target(Protocol):
    """A choice of the `target` group."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """Of metrics in bytes that have a budget: the budget's key and its KiB."""

    @property
    def rehearses(self) -> bool:
        """Whether a file is to be made without training, for `rehearsed` and the budgets."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What its measurements depend on besides the code: name to version."""

    def check(self) -> None:
        """Refuse, with a ConfigError, a target whose tools are not installed."""

    def require_form(self, form: Quantisation) -> None:
        """Refuse, with a ConfigError, a form that does not run there whatever the network."""

    def metrics(self, form: Quantisation) -> frozenset[str]:
        """The names of the metrics that `measured` gives of a file of such a form."""

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """Those metrics of a network's file that training does not change; an `Unfit` for a file that does not run there."""

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """Every metric of a file that is about a device; an `Unfit` for a file that does not run there.

        Args:
            content: the file's bytes.
            validation: the validation split, for its answers.
            threads: of LiteRT, which is compared with.
            interface: of a file that takes or gives something else than those of this project.
        """
