"""Every number of the configuration has bounds within which arithmetic stays finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from sweep.config import build
from sweep.core.errors import ConfigError, require_integer, require_number

GROUPS = ("cluster", "dataset", "distill", "model", "prune", "quant", "train")
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.rglob("*.yaml") if path.parent.name in GROUPS)
EXTREMES = (1e300, -1e300, 10**31, -(10**31), 10**400, math.inf, -math.inf, math.nan)
TINY = 1e-320


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def numbers(node: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number below a node, and its key."""
    if isinstance(node, (DictConfig, ListConfig)):
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            yield from numbers(node[key], f"{path}.{key}" if isinstance(node, DictConfig) else f"{path}[{key}]")
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield path, node


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_no_number_may_be_of_any_size(group, choice):
    """`build.plan` with each number of a choice in turn replaced by one that no arithmetic survives."""
    config = compose("config", [f"{group}={choice}", "sweep.name=t"])
    for key, value in numbers(config[group], group):
        for extreme in EXTREMES:
            OmegaConf.update(config, key, extreme)
            with pytest.raises(ConfigError) as refused:
                build.plan(config)
            assert str(refused.value).isprintable()
            assert len(str(refused.value)) < 1000
        OmegaConf.update(config, key, value)
    build.plan(config)


@pytest.mark.parametrize(
    "key", ["train.learning_rate", "prune.learning_rate", "distill.temperature", "prune.schedule.end", "quant.learning_rate"]
)
def test_what_is_divided_by_or_trained_with_is_not_vanishingly_small(key):
    config = compose("config", ["distill=kd", "quant=qat", "sweep.name=t"])
    OmegaConf.update(config, key, TINY)
    with pytest.raises(ConfigError, match=key):
        build.plan(config)


def test_a_number_beyond_floats_is_refused_by_any_bound():
    for huge in (10**400, -(10**400)):
        with pytest.raises(ConfigError):
            require_number("key", huge, 0, 1)
        with pytest.raises(ConfigError):
            require_integer("key", huge, 0, 1)
