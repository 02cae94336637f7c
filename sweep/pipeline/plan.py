"""What is to be done: one configuration as plain, validated objects. Nothing here trains, and nothing imports TensorFlow."""

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
    """In which order the stages run.

    Args:
        order: names out of train, distill, prune, cluster and quant: train or distill first, quant once and last, cluster at
            most once and after every prune. The others may come again, though not next to each other; several prunings reach
            the sparsity in equal shares.
    """

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        order: object = self.order
        if not isinstance(order, (tuple, list)) or not order or any(name not in _STAGES for name in order):
            raise ConfigError("order", f"a list of stages out of {', '.join(_STAGES)}", _shown(order))
        if any(one == other for one, other in pairwise(order)):
            raise ConfigError("order", "no stage twice in a row", _shown(order))
        if order[0] not in ("train", "distill"):
            raise ConfigError("order", "train or distill first: nothing is trained yet", _shown(order))
        if "quant" in order[:-1] or order[-1] != "quant":
            raise ConfigError("order", "quant once, and last: it makes what the file holds", _shown(order))
        if "cluster" in order and not {"prune", "cluster"}.isdisjoint(order[order.index("cluster") + 1 :]):
            raise ConfigError("order", "cluster once, and after every prune: pruning would part the clusters", _shown(order))

    @property
    def stages(self) -> tuple[str, ...]:
        """The order with what goes right before quant: clustering where no other place is named, the search for bits."""
        clustered = () if "cluster" in self.order else ("cluster",)
        return (*self.order[:-1], *clustered, "bit_search", self.order[-1])


def _shown(order: object) -> str:
    return f"[{', '.join(map(str, order))}]" if isinstance(order, (tuple, list)) else repr(order)


@dataclass(frozen=True)
class Plan:
    """What one configuration asks for.

    Args:
        dataset: where the images come from.
        model: the student.
        train: how networks are trained.
        distill: who teaches the student.
        prune: which weights go.
        cluster: which weights are shared.
        quant: what the file's weights become.
        pipeline: in which order.
        target: what the file is for.
        seed: of everything random, at least 0.
        threads: of every TensorFlow operation, at least 1.
        metrics: the user's own, by name.
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
        """What the file's sparsity is a fraction of, for people."""
        layers = "conv and dense" if self.prune.layers == "all" else self.prune.layers
        if self.prune.removes_filters and not self.prune.does_nothing:
            return f"{layers} filters removed"
        return f"{layers} weights zero"

    @property
    def techniques(self) -> list[str]:
        """Which groups compress the network or its file: out of distill, prune, cluster, quant."""
        used = [name for name in ("distill", "prune", "cluster") if not getattr(self, name).does_nothing]
        return [*used, *(["quant"] if self.quant.storage is not Storage.FLOAT32 else [])]

    def check(self) -> Data:
        """Refuse what cannot work, before anything trains and without TensorFlow. What passed once is not checked again.

        Returns:
            The data.

        Raises:
            ConfigError: for a part whose code is in no file, data that cannot be read, a network that cannot take its images,
                nothing to prune, a choice that the pipeline's order leaves out, or a target that is not installed.
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
    """Refuse a network that no key of the cache can name.

    Raises:
        ConfigError: for one that is no dataclass of plain values.
    """
    try:
        canonical(model)
    except TypeError as error:
        raise ConfigError(where, "a dataclass of plain values", str(error)) from error


# The fields that are an object of a group's.
_CHOICES = tuple(field.name for field in fields(Plan) if field.name not in ("seed", "threads", "metrics"))


@dataclass(frozen=True, eq=False)
class Job:
    """A plan and everything around it.

    Attributes:
        plan: what to do.
        tracker: where the run is logged.
        store: the stage cache's folder.
        folder: where the trial's files go; it exists.
        name: the run's name.
        swept: override key to text of what the sweep varies.
        params: every leaf of the composed configuration, dotted key to text.
        config: the composed configuration as YAML.
        overrides: the command line's overrides, as given.
        front: the file with the front of the sweep so far; None where the trial runs to its end whatever comes.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.
        parent_run_id: the run of the sweep in the tracker; None for a plain run, and where nothing is tracked.
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
