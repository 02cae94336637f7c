"""The command line that resumes a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from sweep.config.compose import CONF


def resuming_command(config: DictConfig, name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of the command line that resumes a sweep, or repeats it if its folder is gone.

    Args:
        config: the configuration of the sweep itself.
        name: the name of the sweep, added where the command line has none.
        arguments: the command line's overrides, without those of Hydra's own keys.
    """
    words = ["python", "-m", "sweep.main", "-m"]
    sources = {source.provider: source.path for source in config.hydra.runtime.config_sources if source.schema == "file"}
    if (main := sources.get("main")) and Path(main).resolve() != CONF.resolve():
        words += ["--config-path", str(Path(main).absolute())]
    if directory := sources.get("command-line"):
        words += ["--config-dir", str(Path(directory).absolute())]
    if config.hydra.job.config_name not in (None, "config"):
        words += ["--config-name", config.hydra.job.config_name]
    named = any(text.startswith("sweep.name=") for text in arguments)
    words += arguments if named else [*arguments, f"sweep.name={name}"]
    return [*words, *(text for text in config.hydra.overrides.hydra if not text.startswith("hydra.mode="))]
