"""Turns an error into an exit code and one line for the user."""

from __future__ import annotations

import difflib
import re
from errno import EROFS

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweep.core.errors import ConfigError, shortened

# The first word of a Hydra launcher's name to the extra that installs it.
_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}
# Mappings to which a user adds keys.
_OPEN = ("hydra.sweeper.objectives.", "hydra.sweeper.constraints.", "hydra.sweeper.params.")
# OmegaConf's type names in plain words.
_KINDS = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line for an error: 2 for invalid input, 1 for a failed run."""
    refusal = _refusal(error)
    if refusal is not None:
        return 2, str(refusal)
    return 1, f"{type(error).__name__}: {shortened(str(error))}"


def _refusal(error: BaseException) -> ConfigError | None:
    """The error as a ConfigError, if it is about the user's input; else None."""
    if isinstance(error, ConfigError):
        return error
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MissingConfigException):
        missing = (error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        options = sorted(error.options or ())
        expected = f"one of {', '.join(options)}" if options else "a known choice"
        if group == "hydra/launcher" and (extra := _EXTRAS.get(choice.partition("_")[0])):
            expected += f", or first pip install -e '.[{extra}]'"
        return ConfigError(group or "config", expected, choice or first)
    if isinstance(error, OverrideParseException):
        return ConfigError("command line", "KEY=VALUE in Hydra's grammar", f"{error.override} ({first})")
    if isinstance(error, ConfigCompositionException):
        return _composition_refusal(error, first)
    if isinstance(error, ValueError) and first.startswith("Config group override must be"):
        return ConfigError("command line", "GROUP=CHOICE, with the name of a choice", first.rpartition("Got ")[2])
    if isinstance(error, InstantiationException):
        return _instantiation_refusal(error, first)
    if isinstance(error, OmegaConfBaseException):
        return ConfigError(str(error.full_key or "config"), "a value that can be resolved", first)
    if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)) or getattr(error, "errno", None) == EROFS:
        return ConfigError(
            "output",
            "a folder that can be written to",
            f"{getattr(error, 'filename', None)} ({getattr(error, 'strerror', error)})",
        )
    if isinstance(error, HydraException):
        return ConfigError("configuration", "what Hydra can compose", first)
    return None


def _instantiation_refusal(error: InstantiationException, first: str) -> ConfigError:
    """The ConfigError of a Hydra plugin that could not be instantiated: its own, if it raised one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    return cause or ConfigError("hydra", "keys of Hydra, its sweeper and its launcher", first)


def _composition_refusal(error: ConfigCompositionException, first: str) -> ConfigError:
    """The ConfigError of a failed composition, from its cause and the first line of Hydra's message."""
    cause = error.__cause__
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        full, parent = str(cause.full_key), cause.parent_node
        if full.startswith(_OPEN):
            return ConfigError(full, f"a + before a key that is new there (+{full}=VALUE)", full)
        known = [str(name) for name in parent if name not in ("_target_", "hydra")] if isinstance(parent, DictConfig) else []
        near = difflib.get_close_matches(str(cause.key), known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        expected = f"one of the keys {', '.join(known)}{hint}" if known else "no keys (this choice has none)"
        return ConfigError(_parent(cause.full_key) or "config", expected, str(cause.key))
    if refused := re.match(r"Error merging override (\S+?)=(.*)", first):
        kind = re.search(r"could not be converted to (\w+)", str(cause))
        return ConfigError(refused[1], _KINDS.get(kind[1] if kind else "", "a value of its kind"), refused[2])
    if there := re.match(r"Could not append to config\. An item is already at '(.+?)'", first):
        return ConfigError("command line", f"{there[1]} without a +, since there is one", f"+{there[1]}")
    if first.startswith("Could not delete from config."):
        return ConfigError("command line", "after ~ a key that there is, with no value or its own", first)
    if unfit := re.match(r"In '(.+?)': \w+ raised while composing config:", first):
        return ConfigError(f"{unfit[1]}.yaml", "keys and values that fit the configuration", _second_line(error))
    absent = re.match(r"Could not override '(.+?)'", first)
    expected = "a key or group of the configuration (a teacher's group is there with distill=kd)"
    return ConfigError("command line", expected, absent[1] if absent else first.rstrip("."))


def _second_line(error: Exception) -> str:
    return (*str(error).splitlines(), "")[1]


def _parent(key: str | None) -> str:
    return (key or "").rpartition(".")[0]
