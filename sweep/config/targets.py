"""Checks of each `_target_` before it is called.

A configuration may come from an untrusted source, and `_target_` names a class that is called with the other keys. So the class
must satisfy the protocol of its group, or the annotation of the constructor parameter that it is for. A parameter that is a
text or a number accepts no object. Resolving a class imports its module, which is not checked.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import InitVar, dataclass, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any

from sweep.core import native, protocols
from sweep.core.errors import ConfigError
from sweep.pipeline.plan import Plan
from sweep.tracking.tracker import Tracker

Annotations = tuple[Any, ...]
"""The annotations that a value may satisfy: the members of a union."""
# The modules of plain values and containers, which no `_target_` builds.
_PLAIN = ("builtins", "collections", "collections.abc", "numbers", "types", "typing")


@cache
def of_group(group: str) -> Annotations:
    """The annotations of a group; empty for an unknown group."""
    return _alternatives(typing.get_type_hints(Plan).get(group, Tracker if group == "tracking" else None))


def resolve(name: Any, accepted: Annotations, path: str) -> type:
    """Imports the class that a `_target_` names and checks it against the annotations.

    Args:
        name: the value of `_target_`.
        accepted: the annotations of the place.
        path: the dotted key of the node.

    Raises:
        ConfigError: for a name that cannot be imported, is no class, or satisfies no annotation.
    """
    where, kinds = f"{path}._target_", _kinds(accepted)
    if not kinds:
        raise ConfigError(where, f"no object at {path}, which takes {_spelled(accepted)}", name)
    if not isinstance(name, str):
        raise ConfigError(where, "the dotted name of a class", repr(name))
    kind = _imported(name, where)
    if not any(_fits(kind, candidate) for candidate in kinds):
        wanted = " or ".join(dict.fromkeys(_described(candidate) for candidate in kinds))
        lacking = [protocols.missing(kind, candidate) for candidate in kinds if protocols.is_protocol(candidate)]
        without = f" (without {', '.join(lacking[0])})" if lacking else ""
        raise ConfigError(where, wanted, f"{name}{without}")
    return kind


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor: its annotations, and whether it has no default."""

    accepted: Annotations
    required: bool


def parameters(kind: type, path: str) -> dict[str, Parameter]:
    """The parameters of a class's constructor, by name.

    Raises:
        ConfigError: for a class without a signature.
    """
    try:
        signature = inspect.signature(kind).parameters
    except (ValueError, TypeError):  # a builtin, or an invalid signature
        raise ConfigError(f"{path}._target_", "a class whose constructor names its parameters", kind.__qualname__) from None
    hints = _hints(kind)
    return {
        name: Parameter(_alternatives(hints.get(name)), parameter.default is inspect.Parameter.empty)
        for name, parameter in signature.items()
    }


def of_item(accepted: Annotations, position: int) -> Annotations:
    """The annotations of an item of a list."""
    items: list[Any] = []
    for annotation in accepted:
        origin, arguments = _origin(annotation), typing.get_args(annotation)
        if not arguments or not isinstance(origin, type) or issubclass(origin, Mapping):
            continue
        if origin is tuple and arguments[-1] is not Ellipsis:
            items += _alternatives(arguments[position]) if position < len(arguments) else ()
        else:
            items += _alternatives(arguments[0])
    return tuple(items)


def of_value(accepted: Annotations) -> Annotations:
    """The annotations of a value of a mapping."""
    items: list[Any] = []
    for annotation in accepted:
        origin, arguments = _origin(annotation), typing.get_args(annotation)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            items += _alternatives(arguments[1])
    return tuple(items)


def _imported(name: str, where: str) -> type:
    """Imports a class by its dotted name.

    Raises:
        ConfigError: with the reason of the failure.
    """
    # A user's module may import TensorFlow, whose native code writes to the terminal.
    quiet = nullcontext() if name.rpartition(".")[0] in sys.modules else native.caught()
    try:
        with quiet:
            resolved = _resolved(name.split("."))
    except (Exception, SystemExit) as error:
        raise ConfigError(where, "the dotted name of a class that can be imported", f"{name} ({_reason(error)})") from error
    if not isinstance(resolved, type):
        raise ConfigError(where, "the dotted name of a class", f"{name} (a {type(resolved).__name__})")
    return resolved


def _resolved(names: Sequence[str]) -> Any:
    """The object of a dotted name: modules, then attributes of the last module."""
    resolved: Any = import_module(names[0])
    for position, name in enumerate(names[1:], start=1):
        if not hasattr(resolved, name) and hasattr(resolved, "__path__"):
            import_module(".".join(names[: position + 1]))
        resolved = getattr(resolved, name)
    return resolved


def _reason(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return (
        message
        if isinstance(error, (ImportError, AttributeError)) and message
        else f"{type(error).__name__}: {message}".rstrip(": ")
    )


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Constructor parameter to annotation, without those of a class whose annotations cannot be evaluated."""
    fields: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        fields |= _annotations(base)
    constructor = _annotations(getattr(kind, "__init__"))  # noqa: B009 - mypy knows no constructor of an unknown class
    # A dataclass's constructor is generated; the names in a field's annotation are those of the module that declares it.
    return constructor | fields if is_dataclass(kind) else fields | constructor


def _annotations(owner: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner, eval_str=True)
    except Exception:  # noqa: BLE001 - evaluating an annotation may raise anything, as for a name under TYPE_CHECKING
        return {}


def _alternatives(annotation: Any) -> Annotations:
    """The members of an annotation's union, without Annotated and Final."""
    if annotation is None:
        return ()
    if isinstance(annotation, InitVar):
        return _alternatives(annotation.type)
    origin = _origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(alternative for member in typing.get_args(annotation) for alternative in _alternatives(member))
    if origin in (typing.Annotated, typing.Final):
        return _alternatives(typing.get_args(annotation)[0])
    return (annotation,)


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation)


def _kinds(accepted: Annotations) -> tuple[type, ...]:
    """The classes and protocols that a `_target_` may build: no plain values, no containers."""
    origins = [_origin(annotation) or annotation for annotation in accepted]
    return tuple(kind for kind in origins if isinstance(kind, type) and kind.__module__ not in _PLAIN)


def _fits(kind: type, wanted: type) -> bool:
    return not protocols.missing(kind, wanted) if protocols.is_protocol(wanted) else issubclass(kind, wanted)


def _described(kind: type) -> str:
    """The requirement on a class, for the error."""
    if protocols.is_protocol(kind):
        return f"a class with {', '.join(protocols.members(kind))} (see {_named(kind)})"
    return f"{_named(kind)} or a subclass of it"


def _spelled(accepted: Annotations) -> str:
    spelled = (_named(kind) if isinstance(kind, type) and not typing.get_args(kind) else str(kind) for kind in accepted)
    return " or ".join(spelled) or "a plain value"


def _named(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
