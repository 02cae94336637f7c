"""The shape of the house: no room too large, and no module that hangs on too many others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import CONF

ROOT = CONF.parent
FILES = sorted(path.relative_to(ROOT) for room in ("sweep", "hydra_plugins") for path in (ROOT / room).rglob("*.py"))


def siblings(path: Path) -> set[str]:
    """The modules of a module's own package that it imports, wherever the imports stand."""
    package, found = ".".join(path.parent.parts), set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.removeprefix(f"{package}."))
    return found


def test_the_walk_finds_every_module():
    assert len(FILES) > 100
    assert siblings(Path("sweep/pipeline/executor.py")) >= {"cache", "plan", "runner"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_is_small_and_hangs_on_few(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno + 1 <= 150, node.name
    assert len(siblings(path)) <= 10


def test_a_command_is_its_arguments_and_a_call():
    for path in FILES:
        if path.parent == Path("sweep"):
            assert len((ROOT / path).read_text().splitlines()) <= 80, path
