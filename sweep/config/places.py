"""Where a run or a sweep writes: below `output`, in folders that the commands of a sweep find by its name.

The places are checked as composed, before Hydra makes any of them.
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
# Where Hydra's launchers for submitit and joblib write.
_LAUNCHER_FOLDERS = ("submitit_folder", "temp_folder")


def check(config: DictConfig) -> None:
    """Refuse places that cannot be written to, or that lie elsewhere.

    Args:
        config: as composed, with Hydra's own part.

    Raises:
        ConfigError: as `build.output` and `build.sweep_name`; for a folder or file of Hydra's outside of the output.
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
    """The path as `open` would take it, links not followed, `..` taken out."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps `..`
