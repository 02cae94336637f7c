"""A sweep's trials as its records tell them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS
from sweep.core.trial_files import TrialFile

if TYPE_CHECKING:
    from sweep.results.references import Reference

SEED = "seed"
TECHNIQUES = ("distill", "prune", "cluster", "quant")
BASELINES = ("start", "student")
_DEEPEST = 100  # levels of a composed configuration
_DOING_NOTHING = {"distill": "NoDistillation", "prune": "NoPruning", "cluster": "NoClustering", "quant": "Float32"}
"""The class of each group that does nothing, for records that do not say which techniques a trial used."""
Limits = Mapping[str, tuple[float, float]]
"""Metric to its (lowest, highest) allowed value."""


@dataclass(frozen=True)
class Baseline:
    """The float32 file of a network that was not compressed.

    Attributes:
        role: `start`, what the trial started from (its teacher where it has one), or `student`, the student before compression.
        name: the stage that made it.
        size_bytes: bytes of the file.
        val_accuracy: of the file, in [0, 1].
        test_accuracy: of the file, in [0, 1].
        compression: bytes of the start's file over its own.
    """

    role: str
    name: str
    size_bytes: int
    val_accuracy: float
    test_accuracy: float
    compression: float

    @property
    def efficiency(self) -> float:
        """Test accuracy in per cent per KiB."""
        return 100 * self.test_accuracy / (self.size_bytes / 1024)

    @property
    def metrics(self) -> dict[str, float]:
        """Those metrics of a trial that it has too, by name."""
        return {name: getattr(self, name) for name in METRICS if hasattr(self, name)}


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial.

    Attributes:
        number: its number in the sweep.
        state: Optuna's word: COMPLETE, FAIL, PRUNED, RUNNING or WAITING.
        overrides: override key to text, for what the sweep varies.
        fixed: the same for what it holds constant.
        metrics: every metric by name, NaN where it is not known; empty unless COMPLETE.
        known: what is known of the file that it would have, by metric, where it was refused for that before training.
        baselines: none, unless COMPLETE.
        seconds: wall time; None while it is not known.
        error: why it is not COMPLETE, in one line.
        run_id: of its run in MLflow; None where it has none.
        facts: what `data.json`, where there is one, says of its data (`dataset`, `data_hash`, `split_hash`), as text.
        folder: where its files are.
        recorded_techniques: those of `TECHNIQUES` that `data.json` says it used; None where that says nothing.
    """

    number: int
    state: str
    overrides: Mapping[str, str]
    fixed: Mapping[str, str]
    metrics: Mapping[str, float]
    known: Mapping[str, float]
    baselines: tuple[Baseline, ...]
    seconds: float | None
    error: str | None
    run_id: str | None
    facts: Mapping[str, str]
    folder: Path
    recorded_techniques: frozenset[str] | None = None

    @property
    def complete(self) -> bool:
        """Whether it has a measured file."""
        return self.state == "COMPLETE"

    @property
    def finished(self) -> bool:
        """Whether it has ended, with whatever result."""
        return self.state in ("COMPLETE", "FAIL", "PRUNED")

    @property
    def outcome(self) -> str:
        """Its state, or REFUSED for one that was pruned before it trained, since its file could not have kept a constraint."""
        return "REFUSED" if self.state == "PRUNED" and self.known else self.state

    @property
    def point(self) -> tuple[str, ...]:
        """Its overrides as on the command line."""
        return tuple(f"{key}={text}" for key, text in self.overrides.items())

    @property
    def without_seed(self) -> tuple[tuple[str, str], ...]:
        """What it has in common with its repeats under other seeds."""
        return tuple(sorted((key, text) for key, text in self.overrides.items() if key != SEED))

    def config(self) -> dict[str, Any]:
        """The composed configuration.

        Raises:
            ConfigError: when it is missing or no YAML mapping.
        """
        import yaml

        path, loader = self.folder / TrialFile.CONFIG, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            if not path.is_file():
                received = "no regular file" if os.path.lexists(path) else "nothing"
                raise ConfigError(str(path), "the composed configuration in YAML", received)
            content = path.read_bytes()
            if _nests_deeper(yaml.parse(content, Loader=loader), _DEEPEST):
                raise ConfigError(str(path), "the composed configuration in YAML", "values nested too deeply")
            config = yaml.load(content, Loader=loader)  # noqa: S506 - a safe one
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(path), "the composed configuration in YAML", f"{type(error).__name__}: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(str(path), "the composed configuration in YAML", type(config).__name__)
        return config

    def techniques(self) -> frozenset[str]:
        """Which of `TECHNIQUES` it uses: as its record says, or else as the classes in its configuration tell.

        Raises:
            ConfigError: as `config`, where the record does not say.
        """
        return _configured_techniques(self.config()) if self.recorded_techniques is None else self.recorded_techniques


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep, as far as it has come.

    Attributes:
        folder: where it is.
        name: its name.
        command: the command line that makes it again.
        axes: override key to the text of its axis.
        objectives: one to four metrics, each with "maximize" or "minimize".
        constraints: metric to text, as given (`<=50000`).
        limits: the same as numbers.
        sampler: who chose the points; None for an exact grid.
        n_trials: how many a search was to have; None for a grid.
        seed: the sampler's.
        started: seconds since the epoch.
        ended: the same; None for a sweep that has not ended.
        importances: objective to axis to importance in [0, 1]; may be empty.
        status: how it ended, or that it runs.
        trials: by number.
        references: what its front is shown beside.
    """

    folder: Path
    name: str
    command: str
    axes: Mapping[str, str]
    objectives: Mapping[str, str]
    constraints: Mapping[str, str]
    limits: Limits
    sampler: str | None
    n_trials: int | None
    seed: int | None
    started: float | None
    ended: float | None
    importances: Mapping[str, Mapping[str, float]]
    status: str
    trials: tuple[Trial, ...]
    references: tuple[Reference, ...] = ()

    @property
    def complete(self) -> tuple[Trial, ...]:
        """The trials that have a measured file."""
        return tuple(trial for trial in self.trials if trial.complete)

    @property
    def pruned(self) -> tuple[Trial, ...]:
        """The trials that were stopped before their last stages, since a finished one was ahead."""
        return tuple(trial for trial in self.trials if trial.outcome == "PRUNED")

    @property
    def refused(self) -> tuple[Trial, ...]:
        """The trials whose file could not have kept the constraints, refused before they trained."""
        return tuple(trial for trial in self.trials if trial.outcome == "REFUSED")

    @property
    def keys(self) -> tuple[str, ...]:
        """Every swept override key: the axes in their order, then what else a trial was given."""
        return tuple(dict.fromkeys([*self.axes, *(key for trial in self.trials for key in trial.overrides)]))

    def values(self, key: str) -> tuple[str, ...]:
        """The different texts that the complete trials have for a key, numbers in their order; "" where it does not apply."""
        texts = dict.fromkeys(trial.overrides.get(key, "") for trial in self.complete)
        numbers = {text: number(text) if text else -math.inf for text in texts}
        return tuple(texts) if any(map(math.isnan, numbers.values())) else tuple(sorted(texts, key=numbers.__getitem__))


def number(text: str) -> float:
    """The finite number that a text says; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def override_line(overrides: Mapping[str, str]) -> str:
    """Overrides as on the command line, one space between them."""
    return " ".join(f"{key}={text}" for key, text in overrides.items())


def _configured_techniques(config: Mapping[str, Any]) -> frozenset[str]:
    """The techniques of a composed configuration, by the names of its classes."""
    used = set()
    for group, nothing in _DOING_NOTHING.items():
        node = config.get(group)
        node = node if isinstance(node, dict) else {}
        kind = str(node.get("_target_", nothing)).rpartition(".")[2]
        if kind != nothing and not (group == "prune" and node.get("sparsity") == 0):
            used.add(group)
    return frozenset(used)


def _nests_deeper(events: Iterable[Any], levels: int) -> bool:
    """Whether a YAML document nests deeper. What follows is not read: the time for it grows with the square of the depth.

    The loader in C recurses, and takes the process down past some tens of thousands.
    """
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith(("SequenceStartEvent", "MappingStartEvent"))
        depth -= kind.endswith(("SequenceEndEvent", "MappingEndEvent"))
        if depth > levels:
            return True
    return False
