"""The code behind a result: the modules in which its parts are written and all that these import, found by reading them.

Nothing is executed for that. The standard library counts by Python's version and a module of an installed distribution by that
distribution's name and version; neither is followed. All else counts by its content: this package, a user's modules (an
extension by its bytes, as a shared library that a module names), what was installed from a folder. Imports for a type checker
alone do not count. A module that imports by names made at run time counts with its whole package.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import itertools
import json
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from importlib.machinery import ModuleSpec, SourceFileLoader, all_suffixes
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import TypeGuard

from sweep.core.errors import ConfigError
from sweep.pipeline.imports import Imports
from sweep.pipeline.installed import Installed, is_standard

_OURS = __name__.partition(".")[0]


class CodeChanged(RuntimeError):
    """A module was imported from a file that had changed since it was read."""


@dataclass(frozen=True)
class Code:
    """What a result is computed with.

    Attributes:
        modules: name of a module (or path of a library that one names) to the sha256 (hex) of its content.
        distributions: name of an installed distribution to its version; Python's too.
    """

    modules: Mapping[str, str]
    distributions: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all of it."""
        return hashlib.sha256(json.dumps([self.modules, self.distributions], sort_keys=True).encode()).hexdigest()

    @property
    def users(self) -> dict[str, str]:
        """The modules of neither this package nor an installed distribution."""
        return {name: content for name, content in self.modules.items() if not _is_ours(name)}


@dataclass(frozen=True)
class _Module:
    """A module that counts by its content, when it was read.

    Attributes:
        spec: where it is.
        content: sha256 (hex) of the file.
        imports: names of modules, some of which may not exist.
        libraries: the shared libraries that it names, path to sha256 (hex).
        loaded: whether it had been imported already.
    """

    spec: ModuleSpec
    content: str
    imports: frozenset[str]
    libraries: Mapping[str, str]
    loaded: bool


class Reader:
    """Reads every module once, however often it is behind something."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}
        self._modules: dict[str, _Module] = {}
        self._codes: dict[frozenset[str], Code] = {}
        self._installed = Installed()

    def behind(self, *parts: object) -> Code:
        """The code behind values: objects with the values of their fields, classes, functions, modules.

        Raises:
            ConfigError: for a class that stands in no module's file, or a module that cannot be read.
        """
        start = frozenset(_written_in(parts))
        if start not in self._codes:
            self._codes[start] = self._code(start)
        return self._codes[start]

    def require_unchanged(self) -> None:
        """Notice a module that was imported only after it was read, from a file that had changed meanwhile.

        Raises:
            CodeChanged: naming the modules.
        """
        late = [name for name, module in self._modules.items() if not module.loaded and name in sys.modules]
        changed = [name for name in late if _hash(_content(name, self._modules[name].spec)) != self._modules[name].content]
        if changed:
            raise CodeChanged(f"the code of {', '.join(changed)} changed after the work had begun; start it again")

    def _code(self, start: Iterable[str]) -> Code:
        modules: dict[str, str] = {}
        distributions = {"Python": sysconfig.get_python_version()}
        seen, left = set[str](), list(start)
        while left:
            name = left.pop()
            for part in _with_packages(name):
                if (spec := self._spec(part)) is None:
                    break
                if (distribution := None if _is_ours(part) else self._installed.owner(part, spec)) is not None:
                    distributions |= [distribution]
                    break
                if part not in seen and spec.has_location:  # a namespace is no code
                    module = self._module(part, spec)
                    modules |= {part: module.content, **module.libraries}
                    left += module.imports
                seen.add(part)
        return Code(modules, distributions)

    def _spec(self, name: str) -> ModuleSpec | None:
        """Where a module is; None where there is none of that name, or it is the standard library's."""
        if name not in self._specs:
            spec = _loaded(name) or self._found(name)
            self._specs[name] = None if spec is None or is_standard(spec) else spec
        return self._specs[name]

    def _found(self, name: str) -> ModuleSpec | None:
        package = name.rpartition(".")[0]
        if package:
            parent = self._spec(package)
            return None if parent is None else _inside(name, parent.submodule_search_locations or ())
        try:
            return importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None

    def _module(self, name: str, spec: ModuleSpec) -> _Module:
        if name not in self._modules:
            loaded, content = name in sys.modules, _content(name, spec)
            imports, libraries = frozenset[str](), dict[str, str]()
            if str(spec.origin).endswith(".py"):
                found = Imports.of(content, spec.parent or "")
                imports = found.names | (frozenset(_beside(name, spec)) if found.open else frozenset())
                libraries = _libraries(name, spec, found.texts)
            self._modules[name] = _Module(spec, _hash(content), imports, libraries, loaded)
        return self._modules[name]


_read = Reader()


def behind(*parts: object) -> Code:
    """The code behind values (see `Reader.behind`), every file read once in this process.

    Raises:
        ConfigError: as `Reader.behind`.
    """
    return _read.behind(*parts)


def require_unchanged() -> None:
    """Notice code that changed before it was imported (see `Reader.require_unchanged`).

    Raises:
        CodeChanged: as `Reader.require_unchanged`.
    """
    _read.require_unchanged()


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == _OURS


def _with_packages(name: str) -> Iterator[str]:
    """What importing a module imports: the packages that it is in, outermost first, and the module."""
    return itertools.accumulate(name.split("."), lambda package, module: f"{package}.{module}")


def _written_in(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, (FunctionType, MethodType)):
            yield value.__module__
        elif isinstance(value, partial):
            yield from _written_in([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            yield from (_defined_in(base) for base in value.__mro__)
        elif isinstance(value, Mapping):
            yield from _written_in(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _written_in(value)
        else:
            yield from _written_in([type(value)])
            if is_dataclass(value):
                yield from _written_in([getattr(value, field.name) for field in fields(value)])


def _defined_in(kind: type) -> str:
    """The module whose file a class stands in.

    Raises:
        ConfigError: for one that was made without a file: in a notebook, on the command line, by exec.
    """
    module = sys.modules.get(kind.__module__)
    placed = getattr(module, "__spec__", None) or getattr(module, "__file__", None)
    known = hasattr(module, kind.__qualname__.partition(".")[0]) or module is builtins
    written = [member.__code__.co_filename for name, member in vars(kind).items() if _is_written(name, member)]
    if not placed or not known or any(file.startswith("<") and not file.startswith("<frozen ") for file in written):
        expected = "a class in a module's file, since its code is part of what a result is kept under"
        raise ConfigError("_target_", expected, f"{kind.__module__}.{kind.__qualname__}")
    return kind.__module__


def _is_written(name: str, member: object) -> TypeGuard[FunctionType]:
    """Whether a class's member is a function that somebody wrote; dataclasses make `__init__` and the like themselves."""
    return isinstance(member, FunctionType) and not (name.startswith("__") and name.endswith("__"))


def _inside(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    """Where a module is that lies in one of the folders of its package.

    `PathFinder` would want the package imported where that is a namespace.
    """
    portions: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        found = None if finder is None else finder.find_spec(name)
        if found is not None and found.loader is not None:
            return found
        portions += (found and found.submodule_search_locations) or []
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace if portions else None


def _loaded(name: str) -> ModuleSpec | None:
    """Where an imported module came from; a script that is run has no more than a file."""
    module = sys.modules.get(name)
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if spec is None and file is not None:
        return importlib.util.spec_from_file_location(name, Path(file).absolute())
    return spec


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(name: str, spec: ModuleSpec) -> bytes:
    """A module's file, or its part of a zip archive.

    Raises:
        ConfigError: where it cannot be read.
    """
    origin = str(spec.origin)
    read = getattr(spec.loader, "get_data", SourceFileLoader(name, origin).get_data)
    try:
        content: bytes = read(origin)
    except OSError as error:
        raise ConfigError(name, "a module whose code can be read", f"{type(error).__name__}: {error}") from error
    return content


def _beside(name: str, spec: ModuleSpec) -> Iterator[str]:
    """The modules that a module may import by names made at run time: those of its package, or of its folder."""
    package = name.rpartition(".")[0] if spec.submodule_search_locations is None else name
    top = package.partition(".")[0]
    depth = name.count(".") + (0 if spec.submodule_search_locations is None else 1)
    folder = Path(str(spec.origin)).parents[max(depth - 1, 0)]
    for path in sorted(folder.rglob("*") if top else folder.glob("*")):
        if path.name.endswith(tuple(all_suffixes())) and path.is_file():
            parts = [*path.relative_to(folder).parts[:-1], path.name.partition(".")[0]]
            yield ".".join(part for part in ([top, *parts] if top else parts) if part != "__init__")


def _libraries(name: str, spec: ModuleSpec, texts: Iterable[str]) -> dict[str, str]:
    """The shared libraries that texts in a module name, beside it or by their whole path."""
    folder = Path(str(spec.origin)).parent
    return {f"{name}: {text}": _hash(path.read_bytes()) for text in texts if (path := folder / text).is_file()}
