"""The code that computes a result: the modules that define its parts, and their imports, found by reading the sources.

Nothing is executed. The standard library is identified by the version of Python, and an installed distribution by its name and
version. All other modules are identified by the hash of their content: this package, a user's modules, extension modules,
shared libraries that a module names, and editable installations. Imports under TYPE_CHECKING do not count. A module that
imports by names computed at run time counts with its whole package.
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
    """The file of a module changed between the hashing and the import."""


@dataclass(frozen=True)
class Code:
    """The code of a result.

    Attributes:
        modules: name of a module (or path of a shared library) to the sha256 (hex) of its content.
        distributions: name of an installed distribution, or `Python`, to its version.
    """

    modules: Mapping[str, str]
    distributions: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all modules and versions."""
        return hashlib.sha256(json.dumps([self.modules, self.distributions], sort_keys=True).encode()).hexdigest()

    @property
    def users(self) -> dict[str, str]:
        """The user's modules: those outside this package and outside installed distributions."""
        return {name: content for name, content in self.modules.items() if not _is_ours(name)}


@dataclass(frozen=True)
class _Module:
    """A module that is identified by its content.

    Attributes:
        spec: its location.
        content: the sha256 (hex) of its file.
        imports: the names that it imports, some of which may not exist.
        libraries: the shared libraries that it names, path to sha256 (hex).
        loaded: whether it was imported before it was hashed.
    """

    spec: ModuleSpec
    content: str
    imports: frozenset[str]
    libraries: Mapping[str, str]
    loaded: bool


class Reader:
    """Finds the code of results; reads each module once."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}
        self._modules: dict[str, _Module] = {}
        self._codes: dict[frozenset[str], Code] = {}
        self._installed = Installed()

    def behind(self, *parts: object) -> Code:
        """The code of values: objects with the values of their fields, classes, functions, modules.

        Raises:
            ConfigError: for a class without a source file, or a module that cannot be read.
        """
        start = frozenset(_modules_of(parts))
        if start not in self._codes:
            self._codes[start] = self._code(start)
        return self._codes[start]

    def require_unchanged(self) -> None:
        """Detects modules whose file changed between the hashing and the import.

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
        seen, pending = set[str](), list(start)
        while pending:
            name = pending.pop()
            for part in _with_packages(name):
                if (spec := self._spec(part)) is None:
                    break
                if (distribution := None if _is_ours(part) else self._installed.owner(part, spec)) is not None:
                    distributions |= [distribution]
                    break
                if part not in seen and spec.has_location:  # a namespace package has no code
                    module = self._module(part, spec)
                    modules |= {part: module.content, **module.libraries}
                    pending += module.imports
                seen.add(part)
        return Code(modules, distributions)

    def _spec(self, name: str) -> ModuleSpec | None:
        """The location of a module; None for an absent one and for the standard library."""
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
    """The code of values (see `Reader.behind`). Each file is read once in this process.

    Raises:
        ConfigError: as `Reader.behind`.
    """
    return _read.behind(*parts)


def require_unchanged() -> None:
    """Detects code that changed before it was imported (see `Reader.require_unchanged`).

    Raises:
        CodeChanged: as `Reader.require_unchanged`.
    """
    _read.require_unchanged()


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == _OURS


def _with_packages(name: str) -> Iterator[str]:
    """The modules that an import runs: the packages of a module, outermost first, and the module."""
    return itertools.accumulate(name.split("."), lambda package, module: f"{package}.{module}")


def _modules_of(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, (FunctionType, MethodType)):
            yield value.__module__
        elif isinstance(value, partial):
            yield from _modules_of([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            yield from (_defined_in(base) for base in value.__mro__)
        elif isinstance(value, Mapping):
            yield from _modules_of(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _modules_of(value)
        else:
            yield from _modules_of([type(value)])
            if is_dataclass(value):
                yield from _modules_of([getattr(value, field.name) for field in fields(value)])


def _defined_in(kind: type) -> str:
    """The module that defines a class.

    Raises:
        ConfigError: for a class without a source file: from a notebook, a command line or exec.
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
    """Whether a member of a class is a function from its source; dataclasses generate `__init__` and others."""
    return isinstance(member, FunctionType) and not (name.startswith("__") and name.endswith("__"))


def _inside(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    """The location of a module in the folders of its package.

    `PathFinder` needs the package to be imported where that is a namespace package.
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
    """The location of an imported module. A script has only a file."""
    module = sys.modules.get(name)
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if spec is None and file is not None:
        return importlib.util.spec_from_file_location(name, Path(file).absolute())
    return spec


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(name: str, spec: ModuleSpec) -> bytes:
    """The content of a module's file, or of its member in a zip archive.

    Raises:
        ConfigError: for a file that cannot be read.
    """
    origin = str(spec.origin)
    read = getattr(spec.loader, "get_data", SourceFileLoader(name, origin).get_data)
    try:
        content: bytes = read(origin)
    except OSError as error:
        raise ConfigError(name, "a module whose code can be read", f"{type(error).__name__}: {error}") from error
    return content


def _beside(name: str, spec: ModuleSpec) -> Iterator[str]:
    """The modules that a module may import by computed names: those of its package, or of its folder."""
    package = name.rpartition(".")[0] if spec.submodule_search_locations is None else name
    top = package.partition(".")[0]
    depth = name.count(".") + (0 if spec.submodule_search_locations is None else 1)
    folder = Path(str(spec.origin)).parents[max(depth - 1, 0)]
    for path in sorted(folder.rglob("*") if top else folder.glob("*")):
        if path.name.endswith(tuple(all_suffixes())) and path.is_file():
            parts = [*path.relative_to(folder).parts[:-1], path.name.partition(".")[0]]
            yield ".".join(part for part in ([top, *parts] if top else parts) if part != "__init__")


def _libraries(name: str, spec: ModuleSpec, texts: Iterable[str]) -> dict[str, str]:
    """The shared libraries that string constants of a module name, relative to it or by an absolute path."""
    folder = Path(str(spec.origin)).parent
    return {f"{name}: {text}": _hash(path.read_bytes()) for text in texts if (path := folder / text).is_file()}
