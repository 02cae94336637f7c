"""One configuration as plain, validated objects. Nothing here trains, and nothing imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import get_type_hints

from sweep.compress.distill import teachers
from sweep.core.errors import ConfigError, require_integer
from sweep.core.protocols import is_protocol, require_part
from sweep.core.types import Data, Spec, Storage
from sweep.pipeline import sources
from sweep.pipeline.cache import canonical
from sweep.pipeline.protocols import Clustering, Dataset, OwnMetric, Pruning, Quantisation, Target
from sweep.results.sweeps import Limits
from sweep.tracking.tracker import Tracker
from sweep.train import recipes

_STAGES = ("train", "distill", "prune", "cluster", "quant")


@dataclass(frozen=True)
class Pipeline:
    """The order of the stages.

    Args:
        order: names out of train, distill, prune, cluster and quant: train or distill first, quant once and last, cluster at
            most once and after every prune. Other stages may repeat, but not next to each other; several prunings reach the
            sparsity in equal steps.
    """

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        order: object = self.order
        if not isinstance(order, (tuple, list)) or not order or any(name not in _STAGES for name in order):
            raise ConfigError("order", f"a list of stages out of {', '.join(_STAGES)}", _shown(order))
        if any(before == after for before, after in pairwise(order)):
            raise ConfigError("order", "no stage twice in a row", _shown(order))
        if order[0] not in ("train", "distill"):
            raise ConfigError("order", "train or distill first: nothing is trained yet", _shown(order))
        if "quant" in order[:-1] or order[-1] != "quant":
            raise ConfigError("order", "quant once, and last: it makes what the file holds", _shown(order))
        if "cluster" in order and not {"prune", "cluster"}.isdisjoint(order[order.index("cluster") + 1 :]):
            raise ConfigError("order", "cluster once, and after every prune: pruning would part the clusters", _shown(order))

    @property
    def stages(self) -> tuple[str, ...]:
        """The order with the stages right before quant: clustering, unless the order names it elsewhere, and the bit search."""
        clustered = () if "cluster" in self.order else ("cluster",)
        return (*self.order[:-1], *clustered, "bit_search", self.order[-1])


def _shown(order: object) -> str:
    return f"[{', '.join(map(str, order))}]" if isinstance(order, (tuple, list)) else repr(order)


@dataclass(frozen=True)
class Plan:
    """The parts of one configuration.

    Args:
        dataset: the data set.
        model: the specification of the student.
        train: the training recipe of every network.
        distill: the distillation, with the teacher.
        prune: the pruning.
        cluster: the weight clustering.
        quant: the quantisation, or the float format, of the file.
        pipeline: the order of the stages.
        target: the device that the file is for.
        seed: the seed of everything random, at least 0.
        threads: the threads of every TensorFlow operation, at least 1.
        metrics: metrics defined by the user, by name.
    """

    dataset: Dataset
    model: Spec
    train: recipes.Recipe
    distill: teachers.Distillation
    prune: Pruning
    cluster: Clustering
    quant: Quantisation
    pipeline: Pipeline
    target: Target
    seed: int
    threads: int
    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, metric in self.metrics.items():
            require_part(f"metrics.{name}", metric, OwnMetric)
        for name, kind in get_type_hints(Plan).items():
            value = getattr(self, name)
            if is_protocol(kind):
                require_part(name, value, kind)
            elif name in _CHOICES and not isinstance(value, kind):
                raise ConfigError(name, "a choice of its group", repr(value))
        require_integer("seed", self.seed, 0, 2**31 - 1)
        require_integer("threads", self.threads, 1, 1024)

    @property
    def sparse(self) -> str:
        """Describes what the file's sparsity is a fraction of."""
        layers = "conv and dense" if self.prune.layers == "all" else self.prune.layers
        if self.prune.removes_filters and not self.prune.does_nothing:
            return f"{layers} filters removed"
        return f"{layers} weights zero"

    @property
    def techniques(self) -> list[str]:
        """The groups that compress the network or its file, out of distill, prune, cluster and quant."""
        used = [name for name in ("distill", "prune", "cluster") if not getattr(self, name).does_nothing]
        return [*used, *(["quant"] if self.quant.storage is not Storage.FLOAT32 else [])]

    def check(self) -> Data:
        """Refuses a plan that cannot work, before anything trains and without TensorFlow. The check runs once.

        Returns:
            The data.

        Raises:
            ConfigError: for a class without a source file, data that cannot be read, a network that does not accept the images,
                a model without the targeted kind of layer, a technique that the order leaves out, or a target that is not
                installed.
        """
        return self._checked

    @cached_property
    def _checked(self) -> Data:
        for name in _CHOICES:
            try:
                sources.behind(getattr(self, name))
            except ConfigError as error:
                raise error.under(name) from error
        try:
            self.target.check()
        except ConfigError as error:
            raise error.under("target") from error
        try:
            images = self.dataset.load()
        except ConfigError as error:
            raise error.under("dataset") from error
        for where, model in {"model": self.model, **self.distill.networks()}.items():
            _require_canonical(where, model)
            try:
                model.check(images.input_shape)
            except ConfigError as error:
                raise error.under(where) from error
        for name in self.techniques:
            if name not in self.pipeline.stages:
                raise ConfigError("pipeline.order", f"{name} in it, or {name}=none", _shown(self.pipeline.order))
        kinds = self.model.kinds()
        for name in ("prune", "cluster"):
            layers = getattr(getattr(self, name), "layers", "all")
            if name in self.techniques and layers not in {*kinds, "all"}:
                raise ConfigError(f"{name}.layers", f"a kind of layer that the model has ({', '.join(sorted(kinds))})", layers)
        return images


def _require_canonical(where: str, model: Spec) -> None:
    """Refuses a specification that cannot be part of a cache key.

    Raises:
        ConfigError: for one that is not a dataclass of plain values.
    """
    try:
        canonical(model)
    except TypeError as error:
        raise ConfigError(where, "a dataclass of plain values", str(error)) from error


# The fields that hold the chosen object of a group.
_CHOICES = tuple(field.name for field in fields(Plan) if field.name not in ("seed", "threads", "metrics"))


@dataclass(frozen=True, eq=False)
class Job:
    """A plan with its folders, its tracker and its sweep.

    Attributes:
        plan: the plan.
        tracker: logs the run.
        store: the folder of the stage cache.
        folder: the output folder of the trial; it exists.
        name: the name of the run.
        swept: override key to text, for the axes of the sweep.
        params: every leaf of the composed configuration, dotted key to text.
        config: the composed configuration as YAML.
        overrides: the overrides of the command line.
        front: the file with the current front of the sweep, for early stopping; None without early stopping.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.
        parent_run_id: the id of the sweep's run in the tracker; None for a plain run, and without tracking.
    """

    plan: Plan
    tracker: Tracker
    store: Path
    folder: Path
    name: str
    swept: Mapping[str, str]
    params: Mapping[str, str]
    config: str
    overrides: tuple[str, ...]
    front: Path | None = None
    limits: Limits = field(default_factory=dict)
    parent_run_id: str | None = None
