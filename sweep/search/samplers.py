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
"""Name to the sampler of a seed."""


def sampler(name: str, seed: int, number: int, attempt: int) -> Any:
    """The sampler that proposes a trial: its draws follow from the seed and the number, not from what was drawn before.

    So a sweep that was killed goes on as if it had not been.

    Args:
        name: a key of `SAMPLERS`.
        seed: of the sweep.
        number: of the trial.
        attempt: how often the trial's point was drawn already.
    """
    import optuna

    drawn = np.random.SeedSequence([seed, number, attempt]).generate_state(1)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The points of a quasi-random sequence belong together; the study counts how far it is.
        return SAMPLERS[name](seed if name == "qmc" else int(drawn))
