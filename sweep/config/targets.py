"""What a `_target_` of a configuration may name, checked before it is called.

A configuration may come from anybody, and `_target_` names a class that is called with the other keys. So a class must be what
its place takes: the protocol of its group, or the annotated type of the constructor's parameter that it is for. A place that
takes a text or a number takes no object at all. Naming a class imports its module; that alone is left to trust.
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
"""What a place takes: the members of its annotation's union."""
# The modules of the classes that are values, or that hold them.
_PLAIN = ("builtins", "collections", "collections.abc", "numbers", "types", "typing")


@cache
def of_group(group: str) -> Annotations:
    """What a choice of a group must be; nothing where there is no such group."""
    return _alternatives(typing.get_type_hints(Plan).get(group, Tracker if group == "tracking" else None))


def located(named: Any, place: Annotations, path: str) -> type:
    """The class that a `_target_` names, once it is known to be what its place takes.

    Args:
        named: the value of `_target_`.
        place: what the place takes.
        path: the dotted key of the node.

    Raises:
        ConfigError: for what cannot be imported, is no class, or is not what the place takes.
    """
    where, kinds = f"{path}._target_", _kinds(place)
    if not kinds:
        raise ConfigError(where, f"no object at {path}, which takes {_spelled(place)}", named)
    if not isinstance(named, str):
        raise ConfigError(where, "the dotted name of a class", repr(named))
    kind = _imported(named, where)
    if not any(_fits(kind, accepted) for accepted in kinds):
        wanted = " or ".join(dict.fromkeys(_described(accepted) for accepted in kinds))
        lacking = [protocols.missing(kind, accepted) for accepted in kinds if protocols.is_protocol(accepted)]
        without = f" (without {', '.join(lacking[0])})" if lacking else ""
        raise ConfigError(where, wanted, f"{named}{without}")
    return kind


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor: what it takes, and whether it must be given."""

    place: Annotations
    required: bool


def parameters(kind: type, path: str) -> dict[str, Parameter]:
    """The parameters of a class's constructor, by name.

    Raises:
        ConfigError: for a class that does not tell.
    """
    try:
        signature = inspect.signature(kind).parameters
    except (ValueError, TypeError):  # a builtin, or a signature that is none
        raise ConfigError(f"{path}._target_", "a class whose constructor names its parameters", kind.__qualname__) from None
    hints = _hints(kind)
    return {
        name: Parameter(_alternatives(hints.get(name)), parameter.default is inspect.Parameter.empty)
        for name, parameter in signature.items()
    }


def of_item(place: Annotations, position: int) -> Annotations:
    """What an item of a list takes at a place."""
    items: list[Any] = []
    for annotation in place:
        origin, arguments = _origin(annotation), typing.get_args(annotation)
        if not arguments or not isinstance(origin, type) or issubclass(origin, Mapping):
            continue
        if origin is tuple and arguments[-1] is not Ellipsis:
            items += _alternatives(arguments[position]) if position < len(arguments) else ()
        else:
            items += _alternatives(arguments[0])
    return tuple(items)


def of_value(place: Annotations) -> Annotations:
    """What a value of a mapping takes at a place."""
    items: list[Any] = []
    for annotation in place:
        origin, arguments = _origin(annotation), typing.get_args(annotation)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            items += _alternatives(arguments[1])
    return tuple(items)


def _imported(named: str, where: str) -> type:
    """The class of that name.

    Raises:
        ConfigError: with the reason why there is none.
    """
    # A user's module may import TensorFlow, which greets the terminal past Python.
    quiet = nullcontext() if named.rpartition(".")[0] in sys.modules else native.caught()
    try:
        with quiet:
            found = _walked(named.split("."))
    except (Exception, SystemExit) as error:
        raise ConfigError(where, "the dotted name of a class that can be imported", f"{named} ({_reason(error)})") from error
    if not isinstance(found, type):
        raise ConfigError(where, "the dotted name of a class", f"{named} (a {type(found).__name__})")
    return found


def _walked(names: Sequence[str]) -> Any:
    """The object at the end of a dotted name: modules, then what is in the last of them."""
    found: Any = import_module(names[0])
    for position, name in enumerate(names[1:], start=1):
        if not hasattr(found, name) and hasattr(found, "__path__"):
            import_module(".".join(names[: position + 1]))
        found = getattr(found, name)
    return found


def _reason(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, (ImportError, AttributeError)) and said else f"{type(error).__name__}: {said}".rstrip(": ")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Parameter of the constructor to its annotation; without those of an owner whose annotations cannot be evaluated."""
    fields: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        fields |= _annotations(base)
    constructor = _annotations(getattr(kind, "__init__"))  # noqa: B009 - mypy knows no constructor of a class that it does not know
    # A dataclass writes its constructor itself; where a field is declared is where its annotation has its names from.
    return constructor | fields if is_dataclass(kind) else fields | constructor


def _annotations(owner: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner, eval_str=True)
    except Exception:  # noqa: BLE001 - a name that only a type checker imports, a wrapper: whatever evaluating it raises
        return {}


def _alternatives(annotation: Any) -> Annotations:
    """The members of an annotation's union, without what is only said about them."""
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


def _kinds(place: Annotations) -> tuple[type, ...]:
    """The classes and protocols at a place that a `_target_` makes: no numbers, no texts, nothing that holds them."""
    origins = [_origin(annotation) or annotation for annotation in place]
    return tuple(kind for kind in origins if isinstance(kind, type) and kind.__module__ not in _PLAIN)


def _fits(kind: type, wanted: type) -> bool:
    return not protocols.missing(kind, wanted) if protocols.is_protocol(wanted) else issubclass(kind, wanted)


def _described(kind: type) -> str:
    """What a class must be, for people."""
    if protocols.is_protocol(kind):
        return f"a class with {', '.join(protocols.members(kind))} (see {_named(kind)})"
    return f"{_named(kind)} or a subclass of it"


def _spelled(place: Annotations) -> str:
    spelled = (_named(one) if isinstance(one, type) and not typing.get_args(one) else str(one) for one in place)
    return " or ".join(spelled) or "a plain value"


def _named(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
