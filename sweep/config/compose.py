"""From a command's words to what runs under the composed configuration: Hydra's own main, with checks in between.

Hydra acts on a configuration as soon as it is composed: it sets up logging, calls callbacks, makes folders. So every composed
configuration, a trial's too, passes `guard`, and that of a run or sweep `places`, before Hydra goes on with it.
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


# Beside the package in a checkout, inside it where a wheel was installed.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (folder / "config.yaml").is_file())
_DEEPEST = 50  # brackets in brackets: Hydra's parser takes several calls for each
_MOST_NODES = 100_000  # of a YAML file, its aliases written out
_SETTINGS = "settings"
_SHOWN_NAME = re.compile(r"(sweep\.name=)([A-Za-z0-9_][A-Za-z0-9._-]*)")


def run(task: TaskFunction, words: Sequence[str], *, sweeps: bool) -> None:
    """Do what a command line asks for.

    Args:
        task: what runs under a composed configuration.
        words: the command line's.
        sweeps: whether it may run several times, with -m.

    Raises:
        ConfigError: for words or a configuration that cannot be used.
        Exception: Hydra's own, for what cannot be composed, and what the task raises.
    """
    parser = _Parser(add_help=False, parents=[get_args_parser()])
    options = parser.parse_intermixed_args(list(words))
    if options.experimental_rerun is not None:
        raise _refusal("--experimental-rerun", "no such option: it would unpickle the file", options.experimental_rerun)
    asked = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(asked) > 1 or (options.resolve and not (options.cfg or options.help)):
        raise _refusal(
            "command line", "one of --run, --multirun, --cfg [--resolve], --info and --shell-completion", " ".join(words)
        )
    if options.multirun and not sweeps:
        raise _refusal("command line", "one configuration, without -m", " ".join(words))
    setbase("1.3")
    runs = not (options.help or options.hydra_help or options.cfg or options.info or options.shell_completion)
    hydra = _Checked("sweep", Loader(_search_path(options)), runs=runs)
    GlobalHydra.instance().initialize(hydra)
    try:
        name = options.config_name or "config"
        if runs:
            _run(hydra, task, name, options, sweeps=sweeps)
        else:
            _show(hydra, name, options, parser)
    finally:
        GlobalHydra.instance().clear()


def _run(hydra: _Checked, task: TaskFunction, name: str, options: argparse.Namespace, *, sweeps: bool) -> None:
    mode = RunMode.MULTIRUN if options.multirun else _mode(hydra, name, options.overrides)
    if mode is RunMode.MULTIRUN and not sweeps:
        raise _refusal("hydra.mode", "RUN", "MULTIRUN")
    act = hydra.multirun if mode is RunMode.MULTIRUN else hydra.run
    act(config_name=name, task_function=task, overrides=[*options.overrides, f"hydra.mode={mode.name}"])


def _mode(hydra: _Checked, name: str, overrides: list[str]) -> RunMode:
    """What `hydra.mode` says; a configuration that cannot be composed is refused by the run."""
    from sweep.core.errors import ConfigError  # it imports numpy, which `--help` does without

    try:
        composed = hydra.compose_config(name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - a sweep without -m, say: the run reports it
        return RunMode.RUN
    return composed.hydra.mode or RunMode.RUN


def _show(hydra: _Checked, name: str, options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
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
    """Hydra's options; an error is raised instead of printed over three lines."""

    def error(self, message: str) -> NoReturn:
        raise _refusal("command line", "KEY=VALUE, GROUP=CHOICE, or an option that --hydra-help names", message)


class _Checked(Hydra):
    """Hydra, whose configurations are checked before it acts on them."""

    def __init__(self, task_name: str, loader: Loader, *, runs: bool) -> None:
        super().__init__(task_name=task_name, config_loader=loader)
        self._runs = runs

    def compose_config(self, *arguments: Any, **keywords: Any) -> DictConfig:
        """As Hydra's; of a run or sweep the places are checked too."""
        config = super().compose_config(*arguments, **keywords)
        if self._runs:
            from sweep.config import places  # it imports numpy, which `--help` does without

            places.check(config)
        return config


class Loader(ConfigLoaderImpl):
    """Composes configurations as Hydra does, and refuses what `guard` does.

    Args:
        search_path: where the YAML files are.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.repository = _Repository(search_path)

    def load_configuration(self, config_name: str | None, overrides: list[str], *arguments: Any, **keywords: Any) -> DictConfig:
        """The configuration; see Hydra's.

        Raises:
            ConfigError: for what `guard` refuses, brackets too deep, a folder of `hydra.searchpath` that is none.
            Exception: Hydra's own.
        """
        require_shallow(overrides)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", r"provider=.*\s+is not\s+available", UserWarning)
            try:
                config = super().load_configuration(config_name, [_named(text) for text in overrides], *arguments, **keywords)
            except UserWarning as absent:
                path = re.sub(r"provider=.*?, path=(.*) is not\s+available\.", r"\1", str(absent), flags=re.DOTALL)
                raise _refusal("hydra.searchpath", "folders and packages that exist", path) from None
            except HydraException:
                raise
            except KeyError as absent:  # the only key that Hydra looks up and does not check
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
            config.hydra.job.chdir = False  # a relative path means the same to everybody
        return config


class _Repository(ConfigRepository):
    """Where YAML files are read from: those of a folder are looked at before they are taken apart."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = [
            _Folder(source.provider, source.path) if source.scheme() == "file" else source for source in self.sources
        ]


class _Folder(FileConfigSource):
    """A folder of YAML files."""

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """As Hydra's, without a group's `settings`: what its choices share, and no choice itself."""
        listed = super().list(config_path, results_filter)
        return [name for name in listed if not (config_path and name == _SETTINGS and results_filter is ObjectType.GROUP)]

    def load_config(self, config_path: str) -> ConfigResult:
        """As Hydra's.

        Raises:
            ConfigError: for a file that is no YAML, or that a few aliases make larger than any configuration.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            if path.is_file() and (size := _written_out(path.read_text(encoding="utf-8"))) > _MOST_NODES:
                raise _refusal(str(path), f"at most {_MOST_NODES:,} values, its aliases written out", f"{size:,}")
            return super().load_config(config_path)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
            raise _refusal(str(path), "a YAML file that can be read", " ".join(str(error).split())) from error


def _written_out(text: str) -> int:
    """How many values a YAML text has once its aliases are written out; 0 where it has none."""
    if "*" not in text or "&" not in text:
        return 0
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_NODES  # of an alias within what it names
            pairs = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(size(part) for part in pairs)
        return sizes[id(node)]

    return size(yaml.compose(text, Loader=yaml.SafeLoader))


def require_shallow(overrides: Sequence[str]) -> None:
    """Refuse overrides with more brackets in brackets than Hydra's parser can take.

    Raises:
        ConfigError: with the override.
    """
    for text in overrides:
        depth = deepest = 0
        for character in text:
            depth += (character in "[{(") - (character in "]})")
            deepest = max(deepest, depth)
        if deepest > _DEEPEST:
            raise _refusal("command line", f"brackets at most {_DEEPEST} deep", text)


def _named(override: str) -> str:
    """The override; the name of a sweep in quotes where Hydra would take it for a number, a truth value or null."""
    if not (plain := _SHOWN_NAME.fullmatch(override)):
        return override
    [parsed] = OverridesParser.create().parse_overrides([override])
    return override if isinstance(parsed.value(), str) else f"{plain[1]}'{plain[2]}'"


def _search_path(options: argparse.Namespace) -> ConfigSearchPath:
    """Where the configuration's files are, as --config-path and --config-dir have it."""
    given = options.config_path
    if given is not None and Path(given).suffix in (".yaml", ".yml"):
        raise _refusal("--config-path", "a folder; --config-name names the file", given)
    main = str(CONF) if given is None else given if given.startswith("pkg://") else str(_PACKAGE / given)
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
