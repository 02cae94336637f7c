"""The imports of a module, from its source text, whether or not they are executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_IMPORTERS = ("import_module", "__import__")
# The file name of a shared library at the end of a string.
_LIBRARY = re.compile(rb"\.(so|dylib|dll)(?=['\"])")
# The fields of statements that hold statements.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass(frozen=True)
class Imports:
    """The imports of a module.

    Attributes:
        names: absolute dotted names; for a `from` import the module, and the module with each imported name, which may be a
            submodule.
        texts: the string constants that end like the file name of a shared library.
        open: whether it imports by a name computed at run time.
    """

    names: frozenset[str]
    texts: frozenset[str]
    open: bool

    @staticmethod
    def of(source: bytes, package: str) -> Imports:
        """Finds the imports of a module; none for text that is not Python.

        Args:
            source: the content of the module's file.
            package: the package of the module, or the module itself where it is a package, for relative imports.
        """
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Imports(frozenset(), frozenset(), open=False)
        names = {name for statement in _statements(tree) for name in _imported(statement, package)}
        called = set[str | None]()
        if any(importer.encode() in source for importer in _IMPORTERS):
            called = {_called(node, package) for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_import(node)}
        texts = frozenset[str]()
        if _LIBRARY.search(source):
            constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            texts = frozenset(
                text for text in constants if isinstance(text, str) and _LIBRARY.search(text.encode(errors="replace") + b"'")
            )
        return Imports(frozenset({*names, *filter(None, called)}), texts, open=None in called)


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yields every statement below a node, except those under TYPE_CHECKING."""
    for block in _BLOCKS:
        if block == "body" and isinstance(node, ast.If) and _is_type_checking(node.test):
            continue
        for child in getattr(node, block, ()):
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _imported(statement: ast.stmt, package: str) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        module = _absolute(statement.module or "", statement.level, package)
        yield module
        yield from (f"{module}.{alias.name}" for alias in statement.names)


def _absolute(module: str, level: int, package: str) -> str:
    """The absolute name of a module that is imported with `level` leading dots."""
    if level == 0:
        return module
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{module}" if module else base


def _is_import(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in _IMPORTERS


def _called(call: ast.Call, package: str) -> str | None:
    """The name that a call of an import function imports; None for a computed name."""
    name = call.args[0] if call.args else next((word.value for word in call.keywords if word.arg == "name"), None)
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    module = name.value.lstrip(".")
    return _absolute(module, len(name.value) - len(module), package)
