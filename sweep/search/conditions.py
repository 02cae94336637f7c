"""Conditional axes: the choices of the axes over groups decide which of the other axes exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from hydra.core.config_loader import ConfigLoader

from sweep.search.axes import Axis, Point, product
from sweep.search.composer import Composer, has_key


@dataclass(frozen=True, eq=False)
class Conditions:
    """The axes in three levels; the choices of a level decide which axes of the next exist.

    Args:
        axes: all axes in the order of the sweep.
        composer: composes configurations.
        always: the axes over groups of the primary defaults list, which every configuration has.
        nested: the axes over nested groups, which another choice adds: a teacher's (distill=kd), a schedule's (prune=global).
        values: the axes over values.
    """

    axes: tuple[Axis, ...]
    composer: Composer
    always: tuple[Axis, ...]
    nested: tuple[Axis, ...]
    values: tuple[Axis, ...]
    _applying: dict[Point, tuple[Axis, ...]] = field(init=False, default_factory=dict)

    @property
    def group_axes(self) -> tuple[Axis, ...]:
        """The axes over groups."""
        return (*self.always, *self.nested)

    def walk(self, choose: Callable[[Axis], str]) -> Point:
        """Chooses a point axis by axis.

        Args:
            choose: returns a value of the axis as text.
        """
        chosen = [f"{axis.key}={choose(axis)}" for axis in self.always]
        chosen += [f"{axis.key}={choose(axis)}" for axis in self._nested_under(tuple(chosen))]
        chosen += [f"{axis.key}={choose(axis)}" for axis in self.values_under(tuple(chosen))]
        return self.ordered(chosen)

    def points(self) -> Iterator[Point]:
        """The distinct points of a finite space."""
        seen = set()
        for choices in self.choices:
            for combination in product(self.values_under(choices)):
                point = self.ordered((*choices, *combination))
                if point not in seen:
                    seen.add(point)
                    yield point

    @cached_property
    def choices(self) -> tuple[Point, ...]:
        """Every combination of group choices.

        Raises:
            ConfigError: for an axis or a single value of the sweeper's `params` that applies under none of them.
        """
        combinations = tuple(
            (*first, *second) for first in product(self.always) for second in product(self._nested_under(first))
        )
        applied = {axis.key for choices in combinations for axis in self.values_under(choices)}
        applied |= {text.partition("=")[0] for choices in combinations for text in choices}
        unused = [
            text
            for text in self.composer.where_known
            if not any(text in self.composer.constants(choices) for choices in combinations)
        ]
        unused += [f"{axis.key}={axis.samples()[0]}" for axis in self.axes if axis.key not in applied]
        for text in unused:
            self.composer.refuse(text, combinations)
        return combinations

    def values_under(self, choices: Point) -> tuple[Axis, ...]:
        """The axes over values that exist under these group choices."""
        if choices not in self._applying:
            composed = self.composer.compose(choices)
            self._applying[choices] = tuple(
                axis for axis in self.values if axis.key.startswith("+") or has_key(composed, axis.key)
            )
        return self._applying[choices]

    def ordered(self, overrides: Iterable[str]) -> Point:
        """The overrides in the order of the axes."""
        rank = {axis.key: number for number, axis in enumerate(self.axes)}
        return tuple(sorted(overrides, key=lambda text: rank[text.partition("=")[0]]))

    def _nested_under(self, chosen: Point) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.nested if self.composer.accepts((*chosen, f"{axis.key}={axis.values[0]}")))


def is_group(loader: ConfigLoader, key: str) -> bool:
    """Whether an override key names a config group."""
    return bool(loader.get_group_options(key.partition("@")[0].lstrip("+")))


def is_nested(key: str) -> bool:
    """Whether a group key names a nested group, which another choice adds (a teacher's, a schedule's)."""
    return "@" in key or "/" in key
