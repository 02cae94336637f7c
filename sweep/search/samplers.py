"""Optuna's samplers, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _tpe(seed: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def _nsga2(seed: int) -> Any:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


def _nsga3(seed: int) -> Any:
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=seed)


def _qmc(seed: int) -> Any:
    from optuna.samplers import QMCSampler

    return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


def _random(seed: int) -> Any:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int], Any]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "qmc": _qmc,
    "random": _random,
}
"""Name to the sampler of a seed."""
