"""The space that a sweep covers: its axes in Hydra's grammar, where each applies, its points, and the check of them all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.pipeline.origin import Origin
from sweep.pipeline.plan import Plan
from sweep.search.axes import Axis, axis_size, parse_axis, product

if TYPE_CHECKING:
    from sweep.search.axes import Point


# Up to here every single point is checked; in a larger space every value of every axis, each once.
_CHECKED_WHOLE = 256
# Choices of the groups that are composed to count the points exactly.
_COMPOSED = 64
# What all trials of a sweep have in common, by its nature or (threads) by that of the processes that they share.
_SHARED = ("output", "sweep.", "tracking", "threads")


@dataclass(frozen=True, eq=False)
class Space:
    """Axes, and overrides that hold for every point.

    Args:
        loader: composes configurations.
        config: the parent's configuration.
        axes: what varies; an axis applies to a point only where its key exists in the point's configuration.
        fixed: override texts that hold everywhere.
        where_known: override texts of one value each that hold, as an axis does, where their key exists.
    """

    loader: ConfigLoader
    config: DictConfig
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]
    where_known: tuple[str, ...] = ()

    @staticmethod
    def parse(loader: ConfigLoader, config: DictConfig, params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
        """The space of the sweeper's `params` (override key to text) with the command line's `arguments` on top.

        A single value among the `params` holds where its key exists, as an axis does; on the command line it must exist. null
        takes an axis out.

        Raises:
            ConfigError: for an interval without numbers in it.
        """
        parser = OverridesParser.create(config_loader=loader)
        given = list(parser.parse_overrides(list(arguments)))
        keys = {override.get_key_element() for override in given}
        wanted = {key: value for key, value in params.items() if value is not None and key not in keys}
        defaults = parser.parse_overrides([f"{key}={value}" for key, value in wanted.items()])
        every = [*defaults, *given]
        axes = tuple(parse_axis(override) for override in every if override.is_sweep_override())
        single = [override for override in every if not override.is_sweep_override()]
        known = [one for one in single if one in defaults and not _always_there(loader, one.get_key_element())]
        known.sort(key=lambda one: not _is_brought(one.get_key_element()))  # a teacher's network, then its width
        fixed = tuple(str(override.input_line) for override in single if override not in known)
        for axis in axes:
            if axis.key.startswith(_SHARED):
                raise ConfigError(axis.key, "one value for the whole sweep", axis.text)
        return Space(loader, config, axes, fixed, tuple(str(override.input_line) for override in known))

    @property
    def finite(self) -> bool:
        """Whether every axis has a list of values."""
        return not any(axis.interval for axis in self.axes)

    @property
    def text(self) -> dict[str, str]:
        """Axis key to its values as written."""
        return {axis.key: axis.text for axis in self.axes}

    def walk(self, choose: Callable[[Axis], str]) -> Point:
        """One point, chosen axis by axis: the groups first, which decide which of the others apply.

        Args:
            choose: gives the text of a value of the axis.
        """
        chosen: list[str] = []
        for applying in (self._first, self._second, self._third):
            chosen += [f"{axis.key}={choose(axis)}" for axis in applying(tuple(chosen))]
        return self.ordered(chosen)

    def points(self) -> Iterator[Point]:
        """Every point of a finite space, each once."""
        seen = set()
        for choices in self._choices:
            for combination in product(self._third(choices)):
                point = self.ordered((*choices, *combination))
                if point not in seen:
                    seen.add(point)
                    yield point

    @property
    def size(self) -> float:
        """How many points there are; infinite with an interval of real numbers."""
        return sum(math.prod(axis_size(axis) for axis in self._third(choices)) for choices in self._choices)

    def require_at_most(self, points: int, *, search: bool) -> None:
        """Refuse a grid of more points, and a search over more choices of the groups: each of those is composed.

        Raises:
            ConfigError: with their number, within a second.
        """
        groups = math.prod(axis_size(axis) for level in self._levels[:2] for axis in level)
        if groups > points or (not search and self._most > points and groups > _COMPOSED):
            found = groups if search else self._most
        else:
            found = 0 if search or self._most <= points else self.size
        if found > points:
            expected = f"at most {points:,} points, or n_trials for a search"
            raise ConfigError("hydra.sweeper.max_points", expected, f"{found:,.0f}")

    @property
    def _most(self) -> float:
        """How many points there are where every axis applies everywhere."""
        return math.prod(axis_size(axis) for axis in self.axes)

    def _first(self, chosen: Point) -> tuple[Axis, ...]:
        """The axes over groups that every configuration has."""
        return self._levels[0]

    def _second(self, chosen: Point) -> tuple[Axis, ...]:
        """The axes over groups that these choices bring (a teacher's, with distill=kd; a schedule's, with prune=global)."""
        return tuple(axis for axis in self._levels[1] if self._composes((*chosen, f"{axis.key}={axis.values[0]}")))

    def _third(self, chosen: Point) -> tuple[Axis, ...]:
        """The axes over values that exist under these choices."""
        if chosen not in self._known:
            composed = self.compose(chosen)
            existing = (axis for axis in self._levels[2] if axis.key.startswith("+") or _exists(composed, axis.key))
            self._known[chosen] = tuple(existing)
        return self._known[chosen]

    @cached_property
    def _known(self) -> dict[Point, tuple[Axis, ...]]:
        """What `_third` found, since composing takes its time."""
        return {}

    @cached_property
    def _levels(self) -> tuple[tuple[Axis, ...], tuple[Axis, ...], tuple[Axis, ...]]:
        groups = [axis for axis in self.axes if _is_group(self.loader, axis.key)]
        brought = [axis for axis in groups if _is_brought(axis.key)]
        return (
            tuple(axis for axis in groups if axis not in brought),
            tuple(brought),
            tuple(axis for axis in self.axes if axis not in groups),
        )

    @cached_property
    def _choices(self) -> tuple[Point, ...]:
        """Every combination of the groups' choices.

        Raises:
            ConfigError: for an axis that applies under none of them.
        """
        found = tuple((*first, *second) for first in product(self._levels[0]) for second in product(self._second(first)))
        applied = {axis.key for choices in found for axis in self._third(choices)}
        applied |= {text.partition("=")[0] for choices in found for text in choices}
        unheld = [text for text in self.where_known if not any(text in self.constants(choices) for choices in found)]
        unheld += [f"{axis.key}={axis.samples()[0]}" for axis in self.axes if axis.key not in applied]
        for text in unheld:
            self._refuse(text, found)
        return found

    def _refuse(self, text: str, found: Sequence[Point]) -> NoReturn:
        """Refuse an override that holds under none of the groups' choices.

        Raises:
            ConfigCompositionException: Hydra's own, under the last choice, since the first is often `none`; it names near keys.
            ConfigError: where Hydra has none.
        """
        refusal: Exception | None = None
        for choices in found:
            try:
                self.loader.load_sweep_config(self.config, [*choices, *self.fixed, text])
            except ConfigCompositionException as error:
                refusal = error
        key, _, value = text.partition("=")
        raise refusal or ConfigError(key, "a key that exists for at least one choice of the sweep", value)

    def _composes(self, overrides: Sequence[str]) -> bool:
        return self._loads([*overrides, *self.fixed])

    def _loads(self, overrides: Sequence[str]) -> bool:
        """Whether all of them name something."""
        try:
            self.loader.load_sweep_config(self.config, list(overrides))
        except ConfigCompositionException:
            return False
        return True

    def ordered(self, overrides: Sequence[str]) -> Point:
        """The overrides in the order of the axes."""
        rank = {axis.key: number for number, axis in enumerate(self.axes)}
        return tuple(sorted(overrides, key=lambda text: rank[text.partition("=")[0]]))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a point."""
        return self.loader.load_sweep_config(self.config, [*overrides, *self.constants(overrides)])

    def _choices_of(self, overrides: Sequence[str]) -> Point:
        """Those of the overrides that choose something for a group."""
        groups = {axis.key for level in self._levels[:2] for axis in level}
        return tuple(text for text in overrides if text.partition("=")[0] in groups)

    def _composed(self, point: Point) -> DictConfig:
        """As `compose`, without Hydra's own part: values are set in what the choices compose to, in a tenth of the time."""
        choices = self._choices_of(point)
        if choices not in self._bases:
            base = self.compose(choices)
            self._folders[choices] = base.hydra.sweep.dir
            self._bases[choices] = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
            OmegaConf.set_struct(self._bases[choices], True)
        composed = copy.deepcopy(self._bases[choices])
        overrides = OverridesParser.create().parse_overrides([text for text in point if text not in choices])
        ConfigLoaderImpl._apply_overrides_to_config(overrides, composed)
        return composed

    @cached_property
    def _bases(self) -> dict[Point, DictConfig]:
        """What these choices of the groups compose to."""
        return {}

    @cached_property
    def _folders(self) -> dict[Point, str]:
        """The sweep's folder under these choices of the groups."""
        return {}

    def constants(self, overrides: Sequence[str]) -> Point:
        """The override texts that a point has in common with all others to which they apply."""
        if not self.where_known:
            return self.fixed
        choices = self._choices_of(overrides)
        if choices not in self._constants:
            holding = [*self.fixed]
            for text in self.where_known:
                if self._loads([*choices, *holding, text]):
                    holding.append(text)
            self._constants[choices] = tuple(holding)
        return self._constants[choices]

    @cached_property
    def _constants(self) -> dict[Point, Point]:
        """What `constants` found for these choices of the groups."""
        return {}

    def check(self) -> Origin:
        """Refuse, before anything runs, what any point's own run would refuse.

        Returns:
            What the points stand on.

        Raises:
            ConfigError: as `build.plan` and `Plan.check`; for a key that exists for no choice of the groups; for a point that
                would be written to another place than the sweep.
            ConfigCompositionException: Hydra's own, for an override that it does not take.
        """
        return Origin.of((plan, plan.check()) for plan in self._plans())

    def _plans(self) -> Iterator[Plan]:
        """The plans of the points that a check has to try.

        Raises:
            ConfigError: as `check`.
        """
        folder = self.config.hydra.sweep.dir  # first, so that a time in it is the same in what is composed
        for point in self._samples():
            composed = self._composed(point)
            own = self._folders[self._choices_of(point)]
            for key, value, shared in (("output", composed.output, self.config.output), ("hydra.sweep.dir", own, folder)):
                if value != shared:
                    raise ConfigError(key, "one value for the whole sweep", str(value))
            yield build.plan(composed)

    def _samples(self) -> Iterator[Point]:
        if self.finite and self.size <= _CHECKED_WHOLE:
            yield from self.points()
            return
        for choices in self._choices:
            axes = self._third(choices)
            first = {axis.key: axis.samples()[0] for axis in axes}
            yield self.ordered((*choices, *(f"{key}={value}" for key, value in first.items())))
            for axis in axes:
                for value in axis.samples()[1:]:
                    yield self.ordered((*choices, *(f"{key}={text}" for key, text in {**first, axis.key: value}.items())))


def _is_group(loader: ConfigLoader, key: str) -> bool:
    return bool(loader.get_group_options(key.partition("@")[0].lstrip("+")))


def _is_brought(key: str) -> bool:
    """Whether a group's key is of one that another choice brings (a teacher's, a schedule's)."""
    return "@" in key or "/" in key


def _always_there(loader: ConfigLoader, key: str) -> bool:
    return _is_group(loader, key) and not _is_brought(key)


def _exists(config: DictConfig, key: str) -> bool:
    """Whether `key` is in the configuration, null values included."""
    *path, name = key.split(".")
    node: Any = config
    try:
        for step in path:
            node = node[step]
        return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118 - `in node` is False for null
    except OmegaConfBaseException:
        return False
