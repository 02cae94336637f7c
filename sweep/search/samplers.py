"""Optuna's samplers, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


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
"""Sampler name to a function from a seed to the sampler."""


def sampler(name: str, seed: int, number: int, attempt: int) -> Any:
    """The sampler that proposes a trial. Its draws depend on the seed and the number alone, not on earlier draws.

    So a resumed sweep proposes the same points as an uninterrupted one.

    Args:
        name: a key of `SAMPLERS`.
        seed: the seed of the sweep, in [0, 2^31).
        number: the number of the trial.
        attempt: the number of earlier draws for this trial.
    """
    import optuna

    drawn = np.random.SeedSequence([seed, number, attempt]).generate_state(1)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # A quasi-random sequence needs one seed throughout; the study stores the position in it.
        return SAMPLERS[name](seed if name == "qmc" else int(drawn))
