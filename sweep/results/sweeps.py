"""A sweep and its trials, as recorded."""

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
_MAX_DEPTH = 100  # levels of nesting in a composed configuration
_IDLE_CLASSES = {"distill": "NoDistillation", "prune": "NoPruning", "cluster": "NoClustering", "quant": "Float32"}
"""Group to the class that does nothing, for records without the techniques of a trial."""
Limits = Mapping[str, tuple[float, float]]
"""Metric to its (lowest, highest) allowed value."""


@dataclass(frozen=True)
class Baseline:
    """The float32 file of a network that was not compressed.

    Attributes:
        role: `start`, the teacher (without one, the uncompressed student), or `student`, the student before compression.
        name: the stage whose result the network is.
        size_bytes: the size of the file in bytes.
        val_accuracy: the validation accuracy of the file, in [0, 1].
        test_accuracy: the test accuracy of the file, in [0, 1].
        compression: the size of the `start` file over that of this one.
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
        """Name to value of the metrics that a baseline has in common with trials."""
        return {name: getattr(self, name) for name in METRICS if hasattr(self, name)}


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial as recorded.

    Attributes:
        number: the number in the sweep, from 0.
        state: Optuna's state: COMPLETE, FAIL, PRUNED, RUNNING or WAITING.
        overrides: override key to text, for the axes of the sweep.
        fixed: override key to text, for the overrides that all trials share.
        metrics: metric to value, NaN where unknown; empty unless COMPLETE.
        known: metric to the value of its file that was known before training, for a refused trial; else empty.
        baselines: the uncompressed networks; empty unless COMPLETE.
        seconds: the wall time; None if unknown.
        error: why it is not COMPLETE, in one line.
        run_id: the id of its run in MLflow; None without one.
        facts: the data set and hashes of `data.json` (`dataset`, `data_hash`, `split_hash`), as text.
        folder: the folder of its files.
        recorded_techniques: the techniques in `data.json`, of `TECHNIQUES`; None for a record without them.
        class_names: the names of the classes in the order of the scores; empty where they have none but their numbers.
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
    class_names: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the trial has a measured file."""
        return self.state == "COMPLETE"

    @property
    def finished(self) -> bool:
        """Whether the trial has ended, in any state."""
        return self.state in ("COMPLETE", "FAIL", "PRUNED")

    @property
    def outcome(self) -> str:
        """The state; REFUSED for a trial that was pruned before training, since its file would violate a constraint."""
        return "REFUSED" if self.state == "PRUNED" and self.known else self.state

    @property
    def point(self) -> tuple[str, ...]:
        """The overrides as `key=value` texts."""
        return tuple(f"{key}={text}" for key, text in self.overrides.items())

    @property
    def without_seed(self) -> tuple[tuple[str, str], ...]:
        """The overrides but the seed, equal for repeats of a candidate."""
        return tuple(sorted((key, text) for key, text in self.overrides.items() if key != SEED))

    def config(self) -> dict[str, Any]:
        """Reads the composed configuration.

        Raises:
            ConfigError: for a file that is missing or no YAML mapping.
        """
        import yaml

        path, loader = self.folder / TrialFile.CONFIG, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            if not path.is_file():
                received = "no regular file" if os.path.lexists(path) else "nothing"
                raise ConfigError(str(path), "the composed configuration in YAML", received)
            content = path.read_bytes()
            if _nests_deeper(yaml.parse(content, Loader=loader), _MAX_DEPTH):
                raise ConfigError(str(path), "the composed configuration in YAML", "values nested too deeply")
            config = yaml.load(content, Loader=loader)  # noqa: S506 - a safe loader
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(path), "the composed configuration in YAML", f"{type(error).__name__}: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(str(path), "the composed configuration in YAML", type(config).__name__)
        return config

    def techniques(self) -> frozenset[str]:
        """The techniques of the trial: those of its record, or without them those of the classes in its configuration.

        Raises:
            ConfigError: for a missing or damaged configuration, if the record has no techniques.
        """
        return _configured_techniques(self.config()) if self.recorded_techniques is None else self.recorded_techniques


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep as recorded, finished or not.

    Attributes:
        folder: the folder of the sweep.
        name: the name.
        command: the command line that resumes or repeats it.
        axes: override key to the domain of the axis, as text.
        objectives: one to four metrics, each with "maximize" or "minimize".
        constraints: metric to bound, as the user wrote it (`<=50000`).
        limits: metric to (lowest, highest) allowed value.
        sampler: the name of the sampler; None for a grid.
        n_trials: the planned number of trials of a search; None for a grid.
        seed: the seed of the sampler.
        started: the time of the first start, in seconds since the epoch.
        ended: the time of the end, in seconds since the epoch; None for a sweep that has not ended.
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
        """The trials that were stopped early, since a finished one was ahead."""
        return tuple(trial for trial in self.trials if trial.outcome == "PRUNED")

    @property
    def refused(self) -> tuple[Trial, ...]:
        """The trials that were refused before training, since their files would violate the constraints."""
        return tuple(trial for trial in self.trials if trial.outcome == "REFUSED")

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept override keys: the axes in their order, then further keys of trials."""
        return tuple(dict.fromkeys([*self.axes, *(key for trial in self.trials for key in trial.overrides)]))

    def values(self, key: str) -> tuple[str, ...]:
        """The distinct texts of a key among the complete trials, numbers ascending; "" where the key does not apply."""
        texts = dict.fromkeys(trial.overrides.get(key, "") for trial in self.complete)
        numbers = {text: number(text) if text else -math.inf for text in texts}
        return tuple(texts) if any(map(math.isnan, numbers.values())) else tuple(sorted(texts, key=numbers.__getitem__))


def number(text: str) -> float:
    """Parses a finite number; NaN for any other text."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def override_line(overrides: Mapping[str, str]) -> str:
    """Overrides as on the command line, separated by spaces."""
    return " ".join(f"{key}={text}" for key, text in overrides.items())


def _configured_techniques(config: Mapping[str, Any]) -> frozenset[str]:
    """The techniques of a composed configuration, from the names of its classes."""
    used = set()
    for group, nothing in _IDLE_CLASSES.items():
        node = config.get(group)
        node = node if isinstance(node, dict) else {}
        kind = str(node.get("_target_", nothing)).rpartition(".")[2]
        if kind != nothing and not (group == "prune" and node.get("sparsity") == 0):
            used.add(group)
    return frozenset(used)


def _nests_deeper(events: Iterable[Any], levels: int) -> bool:
    """Whether a YAML document nests deeper than `levels`. It stops there, since parsing is quadratic in the depth.

    The loader in C recurses, and crashes at some tens of thousands of levels.
    """
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith(("SequenceStartEvent", "MappingStartEvent"))
        depth -= kind.endswith(("SequenceEndEvent", "MappingEndEvent"))
        if depth > levels:
            return True
    return False
