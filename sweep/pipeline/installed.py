"""Finds the installed distribution that a module's file belongs to, from the metadata that installers write."""

from __future__ import annotations

import os
import re
import sysconfig
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from pathlib import Path


class Installed:
    """Looks up distributions, and reads each record at most once."""

    def __init__(self) -> None:
        self._owners: dict[tuple[Path, str], tuple[str, str] | None] = {}
        self._records: dict[Path, tuple[Path, ...]] = {}
        self._listings: dict[Path, bytes] = {}

    def owner(self, name: str, spec: ModuleSpec) -> tuple[str, str] | None:
        """The name and version of the distribution that installed a module.

        Returns:
            None without one, and for an installation from a folder, whose version does not determine its content.
        """
        if not spec.has_location or spec.origin is None:
            return None
        depth = name.count(".") + (1 if spec.submodule_search_locations is None else 2)
        parts = Path(spec.origin).parts
        folder, file = Path(*parts[:-depth]), "/".join(parts[-depth:])
        if (folder, file) not in self._owners:
            self._owners[folder, file] = self._owner(folder, file)
        return self._owners[folder, file]

    def _owner(self, folder: Path, file: str) -> tuple[str, str] | None:
        top = re.split(r"[/.]", file)[0].lower()
        # Most distributions have the name of their module.
        for record in sorted(self._records_in(folder), key=lambda path: not path.name.lower().startswith(top)):
            if self._lists(record, file, top):
                found = Distribution.at(record)
                origin = found.read_text("direct_url.json") or ""
                return None if "dir_info" in origin else _named(found, origin)
        return None

    def _records_in(self, folder: Path) -> tuple[Path, ...]:
        """The metadata folders in a folder of installed packages."""
        if folder not in self._records:
            endings = ["*.dist-info"]
            if folder.name in ("site-packages", "dist-packages"):  # elsewhere an egg-info is a build product beside sources
                endings.append("*.egg-info")
            self._records[folder] = tuple(sorted(path for ending in endings for path in folder.glob(ending)))
        return self._records[folder]

    def _lists(self, record: Path, file: str, top: str) -> bool:
        """Whether a distribution has a file: by its list of files, its list of modules, or else its name."""
        if record not in self._listings:
            self._listings[record] = b"\n" + _read(record / "RECORD")
        if self._listings[record] != b"\n":
            return f"\n{file},".encode() in self._listings[record]
        modules = _read(record / "top_level.txt").decode(errors="replace").lower().split() or [
            re.split(r"[-.]", record.name.lower())[0]
        ]
        return top in modules


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _named(found: Distribution, origin: str) -> tuple[str, str]:
    """The name and the version, with the source for an installation that is not from an index."""
    facts = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    name, version = (re.search(rf"^{field}:\s*(\S+)", facts, re.MULTILINE) for field in ("Name", "Version"))
    return name[1] if name else "?", " ".join([version[1] if version else "?", *origin.split()])


@cache
def _standard_folders() -> tuple[str, ...]:
    """Where the standard library is: without links, with a slash at the end."""
    return tuple({f"{os.path.realpath(sysconfig.get_path(name))}/" for name in ("stdlib", "platstdlib")})


def is_standard(spec: ModuleSpec) -> bool:
    """Whether a module comes with Python."""
    if spec.origin is None or spec.origin in ("built-in", "frozen"):
        return spec.origin is not None
    place = os.path.realpath(spec.origin)
    below = [place.removeprefix(folder) for folder in _standard_folders() if place.startswith(folder)]
    return any(not path.startswith(("site-packages/", "dist-packages/")) for path in below)
