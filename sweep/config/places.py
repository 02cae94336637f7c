"""Checks of the output folders of a run or a sweep: all lie below `output`, where the other commands find them by name.

The check precedes Hydra's creation of the folders.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sweep.config import build
from sweep.core.errors import ConfigError

_SUBDIR = "trial-${hydra.job.num}"
# The folders of Hydra's submitit and joblib launchers.
_LAUNCHER_FOLDERS = ("submitit_folder", "temp_folder")


def check(config: DictConfig) -> None:
    """Refuses folders that are not writable or not below `output`.

    Args:
        config: the composed configuration, with its `hydra` node.

    Raises:
        ConfigError: for an invalid `output` or `sweep.name`; for a folder or file of Hydra's outside the output folder.
    """
    output, name, own = _absolute(build.output(config)), build.sweep_name(config), config.hydra
    run = _absolute(_text("hydra.run.dir", own.run.dir))
    if not run.is_relative_to(output) or run == output:
        raise ConfigError("hydra.run.dir", f"a folder below output={output}", str(own.run.dir))
    if _absolute(_text("hydra.sweep.dir", own.sweep.dir)) != output / "sweeps" / name:
        expected = f"{output / 'sweeps' / name}, which output and sweep.name choose"
        raise ConfigError("hydra.sweep.dir", expected, str(own.sweep.dir))
    if (subdir := OmegaConf.to_container(own.sweep)["subdir"]) != _SUBDIR:  # type: ignore[call-overload, index]
        raise ConfigError("hydra.sweep.subdir", _SUBDIR, str(subdir))
    for key in _LAUNCHER_FOLDERS if own.mode is RunMode.MULTIRUN else ():
        folder = OmegaConf.select(own, f"launcher.{key}")
        if folder is not None and not _absolute(_text(f"hydra.launcher.{key}", folder)).is_relative_to(output):
            raise ConfigError(f"hydra.launcher.{key}", f"a folder below output={output}", folder)
    for key, value in (("hydra.output_subdir", own.output_subdir), ("hydra.job.name", own.job.name)):
        if value is not None and not re.fullmatch(r"(?!\.\.?$)[\w.\-]{1,100}", str(value)):
            raise ConfigError(key, "letters, digits, dots, dashes and underscores", str(value))


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(where, "a folder", repr(value))
    return value


def _absolute(path: str | Path) -> Path:
    """The absolute path with `..` resolved and links not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps `..`
