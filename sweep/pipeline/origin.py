"""What a sweep's trials depend on besides its axes: the data, the user's code, the configuration, the versions.

A sweep records it when it begins. Trials are comparable only if the data, the user's code and the configuration stay the same:
a later start with a change is refused, and a trial that sees a change fails. Another version of this package or of a library is
only reported: it changes results as another machine does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from sweep import __version__
from sweep.core import jsonfiles
from sweep.core.errors import ConfigError
from sweep.core.types import Data
from sweep.data import datasets
from sweep.pipeline import sources
from sweep.pipeline.cache import canonical
from sweep.pipeline.conversion import Converter
from sweep.pipeline.plan import Plan
from sweep.pipeline.protocols import Dataset
from sweep.tflite import benchmark

_SHOWN = 8  # digits of a hash in a message
_NOT_COMPARED = ("threads",)  # how a result is computed, not which


@dataclass(frozen=True)
class Origin:
    """What trials depend on.

    Attributes:
        data: data set to the hash of its content.
        code: module of the user to the hash of its content.
        configuration: dotted key to its values in the points of the sweep, each once.
        versions: of this package and of the installed distributions that it uses.
    """

    data: Mapping[str, str]
    code: Mapping[str, str]
    configuration: Mapping[str, str]
    versions: Mapping[str, str]

    @staticmethod
    def of(points: Iterable[tuple[Plan, Data]]) -> Origin:
        """The origin of plans and their data.

        Args:
            points: in an order that is the same at every start.
        """
        data, code, versions = dict[str, str](), dict[str, str](), dict[str, str]()
        values = dict[str, dict[str, None]]()
        for plan, images in points:
            behind = sources.behind(plan, Converter, benchmark)
            data[_name(plan.dataset)] = images.content_hash
            code |= behind.users
            versions |= behind.distributions
            for key, text in _leaves(plan):
                values.setdefault(key, {})[text] = None
            package = {name: content for name, content in behind.modules.items() if name not in behind.users}
            versions["sweep"] = f"{__version__} ({_digest(package)})"
        return Origin(data, code, {key: ", ".join(texts) for key, texts in values.items()}, versions)

    @staticmethod
    def read(record: object) -> Origin | None:
        """The origin in a record that `as_record` made; None for anything else, such as the record of an older version."""
        if not isinstance(record, dict) or record.keys() != {field.name for field in fields(Origin)}:
            return None
        texts = (text for part in record.values() if isinstance(part, dict) for text in part.values())
        if not all(isinstance(part, dict) for part in record.values()) or not all(isinstance(text, str) for text in texts):
            return None
        return Origin(**record)

    def as_record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def require(self, now: Origin, name: str) -> None:
        """Refuses to continue a sweep whose data, code or configuration have changed.

        Raises:
            ConfigError: naming what changed.
        """
        for what in ("data", "code", "configuration"):
            if changes := _changes(getattr(self, what), getattr(now, what), hashed=what != "configuration"):
                raise ConfigError("sweep.name", f"a new name, or the {what} that this sweep began with", f"{name} ({changes})")

    def require_of_trial(self, trial: Origin) -> None:
        """Refuses a trial whose data or code differ from the sweep's.

        Raises:
            ConfigError: naming what changed.
        """
        for where, what in (("dataset", "data"), ("code", "code")):
            began, now = getattr(self, what), getattr(trial, what)
            common = began.keys() & now.keys()  # of a large space only some points were checked when the sweep began
            if changes := _changes({name: began[name] for name in common}, {name: now[name] for name in common}, hashed=True):
                raise ConfigError(where, f"the {what} that the sweep began with", changes)

    def changed_versions(self, now: Origin) -> str:
        """The versions that differ, in one line; empty where none do."""
        return _changes(self.versions, now.versions, hashed=False)


def of_sweep(folder: Path) -> Origin | None:
    """The origin in the record of a sweep; None where there is none."""
    try:
        return Origin.read(jsonfiles.read(folder / "sweep.json").get("origin"))
    except ConfigError:  # the next start of the sweep refuses a damaged record
        return None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_SHOWN]


def _changes(then: Mapping[str, str], now: Mapping[str, str], *, hashed: bool) -> str:
    """The differences, each with its old and its new value."""

    def shown(values: Mapping[str, str], key: str) -> str:
        text = values.get(key, "absent")
        return text[:_SHOWN] if hashed and key in values else text

    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return "; ".join(f"{key}: {shown(then, key)} then, {shown(now, key)} now" for key in keys)


def _name(dataset: Dataset) -> str:
    """A data set's name and the parameters that determine its images."""
    common = {field.name for field in fields(datasets.Dataset)}
    value: object = dataset  # a user's data set need not be a dataclass
    own = [field.name for field in fields(value) if field.compare and field.name not in common] if is_dataclass(value) else []
    values = {key: getattr(dataset, key) for key in own}
    return " ".join([str(dataset.name), *(f"{key}={text}" for key, text in values.items() if text is not None)])


def _leaves(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yields the dotted key and the text of every value of a plan that its results depend on."""
    for field in fields(plan):
        if field.name not in _NOT_COMPARED:
            yield from _below(field.name, getattr(plan, field.name))


def _below(key: str, value: object) -> Iterator[tuple[str, str]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield f"{key}._target_", f"{type(value).__module__}.{type(value).__qualname__}"
        for field in fields(value):
            yield from _below(f"{key}.{field.name}", getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _below(f"{key}.{name}", item)
    else:
        try:
            yield key, json.dumps(canonical(value))
        except TypeError:  # an object that is no dataclass has no values to compare
            yield key, f"{type(value).__module__}.{type(value).__qualname__}"
