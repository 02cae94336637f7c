"""Composition of the configurations of a sweep's points."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.core.errors import ConfigError
from sweep.search.axes import Point


@dataclass(frozen=True, eq=False)
class Composer:
    """Composes the configurations of points, with a cache for each combination of group choices, since composing is slow.

    Args:
        loader: Hydra's config loader.
        config: the configuration of the sweep itself.
        groups: the keys of the axes over config groups.
        fixed: the override texts that apply to every point.
        where_known: the override texts that apply where their key exists.
    """

    loader: ConfigLoader
    config: DictConfig
    groups: frozenset[str]
    fixed: Point
    where_known: Point
    _bases: dict[Point, DictConfig] = field(init=False, default_factory=dict)
    _folders: dict[Point, str] = field(init=False, default_factory=dict)
    _constants: dict[Point, Point] = field(init=False, default_factory=dict)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a point, as Hydra composes it for its trial."""
        return self.loader.load_sweep_config(self.config, [*overrides, *self.constants(overrides)])

    def compose_quickly(self, point: Point) -> DictConfig:
        """The configuration of a point without the `hydra` node, in a tenth of the time: a cached base with its values set."""
        choices = self._choices(point)
        composed = copy.deepcopy(self._base(choices))
        overrides = OverridesParser.create().parse_overrides([text for text in point if text not in choices])
        ConfigLoaderImpl._apply_overrides_to_config(overrides, composed)
        return composed

    def sweep_folder(self, point: Point) -> str:
        """The value of `hydra.sweep.dir` at a point."""
        choices = self._choices(point)
        self._base(choices)
        return self._folders[choices]

    def constants(self, overrides: Sequence[str]) -> Point:
        """The override texts besides the axes' that apply to a point."""
        if not self.where_known:
            return self.fixed
        choices = self._choices(overrides)
        if choices not in self._constants:
            applying = [*self.fixed]
            for text in self.where_known:
                if self._composes([*choices, *applying, text]):
                    applying.append(text)
            self._constants[choices] = tuple(applying)
        return self._constants[choices]

    def accepts(self, overrides: Sequence[str]) -> bool:
        """Whether Hydra composes the overrides together with the fixed ones."""
        return self._composes([*overrides, *self.fixed])

    def refuse(self, text: str, combinations: Sequence[Point]) -> NoReturn:
        """Refuses an override that applies under none of the combinations of group choices.

        Raises:
            ConfigCompositionException: Hydra's own, for the last combination, since the first is often `none`; it lists similar
                keys.
            ConfigError: when Hydra raises none.
        """
        refusal: Exception | None = None
        for choices in combinations:
            try:
                self.loader.load_sweep_config(self.config, [*choices, *self.fixed, text])
            except ConfigCompositionException as error:
                refusal = error
        key, _, value = text.partition("=")
        raise refusal or ConfigError(key, "a key that exists for at least one choice of the sweep", value)

    def _choices(self, overrides: Sequence[str]) -> Point:
        """The overrides of config groups among `overrides`."""
        return tuple(text for text in overrides if text.partition("=")[0] in self.groups)

    def _base(self, choices: Point) -> DictConfig:
        """The composition of these group choices, without the `hydra` node."""
        if choices not in self._bases:
            base = self.compose(choices)
            self._folders[choices] = base.hydra.sweep.dir
            self._bases[choices] = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
            OmegaConf.set_struct(self._bases[choices], True)
        return self._bases[choices]

    def _composes(self, overrides: Sequence[str]) -> bool:
        try:
            self.loader.load_sweep_config(self.config, list(overrides))
        except ConfigCompositionException:
            return False
        return True


def has_key(config: DictConfig, key: str) -> bool:
    """Whether a dotted key is in the configuration, null values included."""
    *path, name = key.split(".")
    node: Any = config
    try:
        for step in path:
            node = node[step]
        return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118 - `in node` is False for null
    except OmegaConfBaseException:
        return False
