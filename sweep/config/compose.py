"""Hydra's main function with checks: parses the command line, composes the configuration, checks it, and runs the task.

Hydra acts on a configuration as soon as it is composed: it sets up logging, calls callbacks, makes folders. So `guard` checks
every composed configuration, including a trial's, and `places` that of a run or sweep, before Hydra continues.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode, TaskFunction
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sweep.config import guard

if TYPE_CHECKING:
    from sweep.core.errors import ConfigError


# Beside the package in a checkout, inside it in an installed wheel.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (folder / "config.yaml").is_file())
_MAX_BRACKETS = 50  # nested brackets; Hydra's recursive parser makes several calls for each
_MAX_NODES = 100_000  # values of a YAML file after alias expansion
_SETTINGS = "settings"
_SWEEP_NAME = re.compile(r"(sweep\.name=)([A-Za-z0-9_][A-Za-z0-9._-]*)")


def run(task: TaskFunction, words: Sequence[str], *, sweeps: bool) -> None:
    """Runs a command line.

    Args:
        task: the function that runs a composed configuration.
        words: the arguments of the command line.
        sweeps: whether -m is allowed.

    Raises:
        ConfigError: for an invalid command line or configuration.
        Exception: Hydra's own, for a configuration that does not compose, and the task's.
    """
    parser = _Parser(add_help=False, parents=[get_args_parser()])
    options = parser.parse_intermixed_args(list(words))
    if options.experimental_rerun is not None:
        raise _refusal("--experimental-rerun", "no such option: it would unpickle the file", options.experimental_rerun)
    modes = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(modes) > 1 or (options.resolve and not (options.cfg or options.help)):
        raise _refusal(
            "command line", "one of --run, --multirun, --cfg [--resolve], --info and --shell-completion", " ".join(words)
        )
    if options.multirun and not sweeps:
        raise _refusal("command line", "one configuration, without -m", " ".join(words))
    setbase("1.3")
    runs = not (options.help or options.hydra_help or options.cfg or options.info or options.shell_completion)
    hydra = _CheckedHydra("sweep", Loader(_search_path(options)), runs=runs)
    GlobalHydra.instance().initialize(hydra)
    try:
        name = options.config_name or "config"
        if runs:
            _run(hydra, task, name, options, sweeps=sweeps)
        else:
            _show(hydra, name, options, parser)
    finally:
        GlobalHydra.instance().clear()


def _run(hydra: _CheckedHydra, task: TaskFunction, name: str, options: argparse.Namespace, *, sweeps: bool) -> None:
    mode = RunMode.MULTIRUN if options.multirun else _mode(hydra, name, options.overrides)
    if mode is RunMode.MULTIRUN and not sweeps:
        raise _refusal("hydra.mode", "RUN", "MULTIRUN")
    act = hydra.multirun if mode is RunMode.MULTIRUN else hydra.run
    act(config_name=name, task_function=task, overrides=[*options.overrides, f"hydra.mode={mode.name}"])


def _mode(hydra: _CheckedHydra, name: str, overrides: list[str]) -> RunMode:
    """The value of `hydra.mode`; RUN for a configuration that does not compose, which the run then refuses."""
    from sweep.core.errors import ConfigError  # it imports numpy, which `--help` does without

    try:
        composed = hydra.compose_config(name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - for example a sweep without -m: the run reports it
        return RunMode.RUN
    return composed.hydra.mode or RunMode.RUN


def _show(hydra: _CheckedHydra, name: str, options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if options.help:
        hydra.app_help(config_name=name, args_parser=parser, args=options)
    elif options.hydra_help:
        hydra.hydra_help(config_name=name, args_parser=parser, args=options)
    elif options.cfg:
        if options.package not in (None, "_global_"):
            composed = hydra.compose_config(name, options.overrides, RunMode.RUN)
            if OmegaConf.select(composed, options.package) is None:
                raise _refusal("--package", "a key of the configuration", options.package)
        hydra.show_cfg(name, options.overrides, options.cfg, options.package, options.resolve)
    elif options.shell_completion:
        hydra.shell_completion(config_name=name, overrides=options.overrides)
    else:
        hydra.show_info(options.info, config_name=name, overrides=options.overrides)


class _Parser(argparse.ArgumentParser):
    """Hydra's options; an error is raised, not printed with the usage."""

    def error(self, message: str) -> NoReturn:
        raise _refusal("command line", "KEY=VALUE, GROUP=CHOICE, or an option that --hydra-help names", message)


class _CheckedHydra(Hydra):
    """Hydra, whose configurations are checked before it acts on them."""

    def __init__(self, task_name: str, loader: Loader, *, runs: bool) -> None:
        super().__init__(task_name=task_name, config_loader=loader)
        self._runs = runs

    def compose_config(self, *arguments: Any, **keywords: Any) -> DictConfig:
        """Composes as Hydra does, and checks the output folders of a run or sweep."""
        config = super().compose_config(*arguments, **keywords)
        if self._runs:
            from sweep.config import places  # it imports numpy, which `--help` does without

            places.check(config)
        return config


class Loader(ConfigLoaderImpl):
    """Composes configurations as Hydra does, and checks them with `guard`.

    Args:
        search_path: the folders and packages of the YAML files.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.repository = _Repository(search_path)

    def load_configuration(self, config_name: str | None, overrides: list[str], *arguments: Any, **keywords: Any) -> DictConfig:
        """Composes a configuration, with Hydra's arguments.

        Raises:
            ConfigError: for what `guard` refuses, brackets nested too deeply, or a missing folder of `hydra.searchpath`.
            Exception: Hydra's own.
        """
        require_shallow(overrides)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", r"provider=.*\s+is not\s+available", UserWarning)
            try:
                config = super().load_configuration(
                    config_name, [_quoted_name(text) for text in overrides], *arguments, **keywords
                )
            except UserWarning as absent:
                path = re.sub(r"provider=.*?, path=(.*) is not\s+available\.", r"\1", str(absent), flags=re.DOTALL)
                raise _refusal("hydra.searchpath", "folders and packages that exist", path) from None
            except HydraException:
                raise
            except KeyError as absent:  # the only key that Hydra looks up unchecked
                raise _refusal("hydra.job.env_copy", "variables that are set", str(absent)) from None
            except OSError as error:
                raise _refusal("configuration", "names of files that the system takes", str(error)) from error
            except ValueError as error:
                if str(error).startswith("Config group override"):
                    raise
                where, expected = "configuration", "plain values"
                if "No config source registered" in str(error):
                    where, expected = "hydra.searchpath", "file:// and pkg:// alone"
                raise _refusal(where, expected, str(error)) from error
            except RecursionError as error:
                raise _refusal("configuration", "values that are not nested so deeply, or in themselves", str(error)) from None
        guard.check(config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.chdir = False  # relative paths stay relative to the folder of the command
        return config


class _Repository(ConfigRepository):
    """The sources of YAML files; files of a folder are checked before they are parsed."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = [
            _Folder(source.provider, source.path) if source.scheme() == "file" else source for source in self.sources
        ]


class _Folder(FileConfigSource):
    """A folder of YAML files."""

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Lists choices as Hydra does, without `settings`, which a group's choices share and which is no choice."""
        names = super().list(config_path, results_filter)
        return [name for name in names if not (config_path and name == _SETTINGS and results_filter is ObjectType.GROUP)]

    def load_config(self, config_path: str) -> ConfigResult:
        """Loads a file as Hydra does.

        Raises:
            ConfigError: for a file that is no YAML, or that is too large after alias expansion.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            if path.is_file() and (size := _expanded_size(path.read_text(encoding="utf-8"))) > _MAX_NODES:
                raise _refusal(str(path), f"at most {_MAX_NODES:,} values, its aliases written out", f"{size:,}")
            return super().load_config(config_path)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
            raise _refusal(str(path), "a YAML file that can be read", " ".join(str(error).split())) from error


def _expanded_size(text: str) -> int:
    """The number of values of a YAML text after alias expansion; 0 for a text without aliases."""
    if "*" not in text or "&" not in text:
        return 0
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = _MAX_NODES  # for an alias within its own anchor
            pairs = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(size(part) for part in pairs)
        return sizes[id(node)]

    return size(yaml.compose(text, Loader=yaml.SafeLoader))


def require_shallow(overrides: Sequence[str]) -> None:
    """Refuses overrides with brackets nested too deeply for Hydra's recursive parser.

    Raises:
        ConfigError: with the override.
    """
    for text in overrides:
        depth = deepest = 0
        for character in text:
            depth += (character in "[{(") - (character in "]})")
            deepest = max(deepest, depth)
        if deepest > _MAX_BRACKETS:
            raise _refusal("command line", f"brackets at most {_MAX_BRACKETS} deep", text)


def _quoted_name(override: str) -> str:
    """The override; a sweep's name is quoted if Hydra would parse it as a number, a bool or null."""
    if not (plain := _SWEEP_NAME.fullmatch(override)):
        return override
    [parsed] = OverridesParser.create().parse_overrides([override])
    return override if isinstance(parsed.value(), str) else f"{plain[1]}'{plain[2]}'"


def _search_path(options: argparse.Namespace) -> ConfigSearchPath:
    """The search path of the configuration's files, with --config-path and --config-dir."""
    config_path = options.config_path
    if config_path is not None and Path(config_path).suffix in (".yaml", ".yml"):
        raise _refusal("--config-path", "a folder; --config-name names the file", config_path)
    main = (
        str(CONF) if config_path is None else config_path if config_path.startswith("pkg://") else str(_PACKAGE / config_path)
    )
    search_path = create_config_search_path(main)
    if options.config_dir is not None:
        folder = Path(options.config_dir).absolute()
        if not folder.is_dir():
            raise _refusal("--config-dir", "a folder", options.config_dir)
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    return search_path


def _refusal(where: str, expected: str, received: str) -> ConfigError:
    from sweep.core.errors import ConfigError  # it imports numpy, which `--help` does without

    return ConfigError(where, expected, received)
