"""The protocols of a plan's parts, one for each group of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sweep.core.measurement import Predictions
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
        """The augmentation of training images (see `Context`)."""

    def load(self) -> Data:
        """Loads the three splits; raises a ConfigError for data that cannot be read or used."""


class OwnMetric(Protocol):
    """A metric defined by the user, under its name in the `metrics` of the configuration."""

    @property
    def entry(self) -> Metric:
        """Its entry in the table of metrics, without `compute`."""

    def measure(self, content: bytes, predictions: Predictions) -> float:
        """Computes its value, a finite number.

        Args:
            content: the bytes of the file.
            predictions: the predictions of the file on the validation split.
        """


class Pruning(Stage[Context], Protocol):
    """A choice of the `prune` group."""

    @property
    def sparsity(self) -> float:
        """The target sparsity, in [0, 1)."""

    @property
    def layers(self) -> str:
        """The targeted kind of layer: conv, dense or all."""

    @property
    def removes_filters(self) -> bool:
        """Whether it removes filters."""

    def share(self, fraction: float) -> Stage[Context]:
        """The pruning to a fraction, in (0, 1], of the sparsity: one step where the order has several prunings."""

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Raises a ConfigError for a network that it cannot prune."""


class Clustering(Stage[Context], Protocol):
    """A choice of the `cluster` group."""

    @property
    def levels(self) -> int | None:
        """The maximum number of distinct values of a clustered kernel; None without clustering."""


class BitSearch(Stage[Context], Protocol):
    """The stage that searches the bit-width of each layer."""

    def require_budget(self, network: Checkpoint, train: Split, files: Files) -> None:
        """Raises a ConfigError for a budget below the smallest file of a network of this shape."""


class Quantisation(Stage[Context], Protocol):
    """A choice of the `quant` group."""

    @property
    def bit_search(self) -> BitSearch:
        """The search for bit-widths that runs before; it does nothing where they are configured, or for float files."""

    def stage(self) -> Stage[Context]:
        """The stage that is applied to the network, without the options of the file."""

    @property
    def storage(self) -> Storage:
        """The format of the file."""

    @property
    def sparse(self) -> bool:
        """Whether kernels may be stored as sparse tensors, where that is smaller and runs."""

    @property
    def strip(self) -> bool:
        """Whether names are left out of the file."""

    def ready(self, network: Checkpoint, train: Split) -> Checkpoint:
        """Prepares a network with bit-widths for `restore`, without training."""

    def restore(self, network: Checkpoint, train: Split) -> tuple[Any, requantize.Calibration | None]:
        """Rebuilds the Keras model, with the calibration for post-training quantisation of its float32 file where that is used.

        Args:
            network: the network of the last stage.
            train: the training split, for calibration.
        """

    @property
    def activations(self) -> int:
        """The bits of the activations."""

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Raises a ConfigError for a network that it cannot quantise."""


class Target(Protocol):
    """A choice of the `target` group."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """Metric in bytes to the key of its budget and the budget in KiB."""

    @property
    def rehearses(self) -> bool:
        """Whether a file is made before training, for `rehearsed` and the budgets."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The distributions that its measurements depend on, name to version."""

    def check(self) -> None:
        """Raises a ConfigError for a target whose packages are not installed."""

    def require_form(self, form: Quantisation) -> None:
        """Raises a ConfigError for a format that the target cannot run."""

    def metrics(self, form: Quantisation) -> frozenset[str]:
        """The names of the metrics that `measured` gives for a file of a format."""

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """The device metrics that training does not change. Raises `Unfit` for a file that does not run there."""

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """The device metrics of a file. Raises `Unfit` for a file that does not run there.

        Args:
            content: the bytes of the file.
            validation: the validation split, for the comparison of predictions with LiteRT.
            threads: the number of LiteRT interpreters that run at once.
            interface: the scaling of the input and the meaning of the output.
        """
