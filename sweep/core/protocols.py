"""What a part of a configuration must have to be one: the members of its protocol, read from the protocol itself.

Nothing here knows a protocol, or makes a part.
"""

from __future__ import annotations

import inspect
from typing import Any

from sweep.core.errors import ConfigError


def members(protocol: type) -> dict[str, bool]:
    """The members of a protocol and of those it extends: name to whether it is a method, in the order of the source."""
    found: dict[str, bool] = {}
    for base in reversed(protocol.__mro__):
        if is_protocol(base):
            found |= {name: False for name in inspect.get_annotations(base) if not name.startswith("_")}
            found |= {name: inspect.isfunction(value) for name, value in vars(base).items() if not name.startswith("_")}
    return found


def is_protocol(kind: type) -> bool:
    """Whether a class is a protocol, as against one that has all the members of a protocol."""
    return bool(vars(kind).get("_is_protocol", False))


def missing(kind: type, protocol: type) -> tuple[str, ...]:
    """The members of the protocol that objects of a class do not have, as far as the class tells.

    A method must be callable on the class; of the others a property, a class attribute, a slot or a declared field will do.
    """
    declared = {name for base in kind.__mro__ for name in inspect.get_annotations(base)}
    lacking = []
    for name, method in members(protocol).items():
        there = callable(getattr(kind, name, None)) if method else hasattr(kind, name) or name in declared
        if not there:
            lacking.append(name)
    return tuple(lacking)


def require_part(where: str, value: Any, protocol: type) -> None:
    """Refuse what is not a part of the protocol's kind.

    Raises:
        ConfigError: for anything without the protocol's members: null, a text, another group's choice.
    """
    if not all(hasattr(value, name) for name in members(protocol)):
        expected = f"a choice of its group or a _target_ with {' and '.join(members(protocol))}"
        raise ConfigError(where, expected, repr(value))
