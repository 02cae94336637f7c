"""From the command line to the composed configuration: what is refused before Hydra acts on it, and that nothing is left."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweep.config import build, compose, explain

MADE = "made-by-the-configuration"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of one's own, two folders deep, so that what is written outside of it is seen."""
    folder = tmp_path / "outer" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., Path]:
    """A folder of one's own YAML files."""

    def write(text: str, name: str = "model/mine") -> Path:
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / "conf"

    return write


def run(*words: str, sweeps: bool = True) -> tuple[DictConfig, DictConfig]:
    """The configuration that a task would get, and Hydra's own part."""
    found: list[Any] = []
    compose.run(lambda config: found.append((config, HydraConfig.get())), words, sweeps=sweeps)
    return found[0]


def refused(*words: str, sweeps: bool = True) -> str:
    """The line of a refusal, which leaves nothing behind."""
    before = sorted(Path("../..").rglob("*"))
    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever is explained as input
        run(*words, sweeps=sweeps)
    code, line = explain.explain(error.value)
    assert code == 2, line
    assert line.isprintable()
    assert len(line) < 2000
    assert sorted(Path("../..").rglob("*")) == before
    return line


def test_a_run_is_composed_once_checked_and_given_its_folder(place):
    config, own = run("seed=3", "sweep.name=a")
    assert (config.seed, own.mode.name, own.runtime.output_dir) == (3, "RUN", str(place / "mlruns" / "runs" / "a"))
    assert (place / "mlruns" / "runs" / "a").is_dir()


TOUCH = f"{{_target_:subprocess.Popen,args:[touch,{MADE}]}}"
FILE = f"{{class:logging.FileHandler,filename:{MADE}}}"
FILE_YAML = f"{{class: logging.FileHandler, filename: {MADE}}}"
ACTS = [
    f"+hydra.callbacks.x={TOUCH}",
    f"++hydra.callbacks={{x:{TOUCH}}}",
    f"+hydra.job_logging.handlers.x={FILE}",
    f"+hydra.hydra_logging.handlers={{x:{FILE}}}",
    "+hydra.job_logging.filters.x={'()':subprocess.Popen,args:[touch,x]}",
    "+hydra.job_logging.handlers.x={class:logging.StreamHandler,stream:'ext://subprocess.Popen'}",
    "hydra/hydra_logging=hydra_debug",
    "+hydra.job.env_set.LD_PRELOAD=/x.so",
    "hydra.job.env_copy=[PATH]",
    "hydra.job.env_copy=[NOT_SET_ANYWHERE]",
    "hydra.verbose=5",
]
SWEEPS = [
    "hydra.sweeper._target_=subprocess.Popen",
    "hydra.launcher._target_=subprocess.Popen",
    "hydra.launcher._target_=hydra_plugins.nothing.There",
    f"+hydra.sweeper.params.x={TOUCH}",
    f"+hydra.sweeper.params.x=[{TOUCH}]",
    f"+hydra.launcher.x={TOUCH}",
    "+hydra.launcher._args_=[1]",
    "hydra/sweeper=basic",
]


@pytest.mark.parametrize("word", ACTS)
def test_what_hydra_would_act_on_is_refused_before_it_does(word):
    assert "hydra" in refused(word)


@pytest.mark.parametrize("mode", ["-m", "--help", "--hydra-help", "--cfg=job", "--info=config"])
@pytest.mark.parametrize("word", [ACTS[0], ACTS[2], ACTS[3]])
def test_it_is_refused_whatever_the_command_line_asks_for(word, mode):
    assert "hydra" in refused(mode, word)


@pytest.mark.parametrize("word", SWEEPS)
def test_what_a_sweep_would_be_made_of_is_refused_before_it_is(word):
    assert refused("-m", word, "seed=1").startswith("hydra")
    assert refused("hydra.mode=MULTIRUN", word, "seed=1").startswith("hydra")
    run(word, "sweep.name=a")  # which makes none of it


@pytest.mark.parametrize(
    "text",
    [
        f"hydra: {{callbacks: {{x: {{_target_: subprocess.Popen, args: [touch, {MADE}]}}}}}}",
        f"evil: {{x: {{_target_: subprocess.Popen, args: [touch, {MADE}]}}}}\nhydra: {{callbacks: '${{evil}}'}}",
        "hydra: {job: {env_set: {PYTHONPATH: /x}}}",
        "evil: {PYTHONPATH: /x}\nhydra: {job: {env_set: '${evil}'}}",
        f"hydra: {{job_logging: {{handlers: {{x: {FILE_YAML}}}, root: {{handlers: [x]}}}}}}",
        f"evil: {{version: 1, root: {{handlers: [x]}}, handlers: {{x: {FILE_YAML}}}}}\nhydra: {{job_logging: '${{evil}}'}}",
        f"hydra: {{sweeper: {{params: {{x: {{_target_: io.FileIO, file: {MADE}, mode: w}}}}}}}}",
        f"evil: {{_target_: io.FileIO, file: {MADE}, mode: w}}\nhydra: {{sweeper: {{params: {{x: '${{evil}}'}}}}}}",
        f"evil: {{_target_: io.FileIO, file: {MADE}, mode: w}}\nhydra: {{launcher: '${{evil}}'}}",
        f"hydra: {{launcher: {{setup_commands: ['touch {MADE}']}}}}",
        'hydra: {launcher: {comment: "x\\ntouch y"}}',
    ],
)
def test_a_file_cannot_make_hydra_act(conf, text):
    folder = conf(f"# @package _global_\n{text}", "experiment/mine")
    assert refused("-m", "--config-dir", str(folder), "+experiment=mine", "seed=1").startswith(
        ("hydra", "experiment/mine.yaml")
    )
    folder = conf(f"defaults:\n  - config\n  - _self_\n{text}", "whole")
    assert refused("-m", "--config-dir", str(folder), "--config-name=whole", "seed=1").startswith(("hydra", "whole.yaml"))


@pytest.mark.parametrize("choice", ["default", "none", "disabled", "stdout"])
def test_hydras_own_ways_of_logging_are_left(choice):
    run(f"hydra/job_logging={choice}", "sweep.name=a")


def test_commands_of_a_launcher_may_be_typed():
    line = refused("-m", "+hydra.launcher.setup_commands=[touch]", "seed=1")
    assert line.startswith("hydra: ")  # by the launcher itself, which has no such key


def test_no_file_is_unpickled(tmp_path):
    (tmp_path / "config.pickle").write_bytes(b"cos\nsystem\n(S'touch made'\ntR.")
    assert refused("--experimental-rerun", str(tmp_path / "config.pickle")).startswith("--experimental-rerun: ")
    assert refused(f"--experimental={tmp_path / 'config.pickle'}").startswith("--experimental-rerun: ")


def explained(*words: str) -> tuple[int, str]:
    """What the command would end with."""
    try:
        run(*words)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is explained
        return explain.explain(error)
    return 0, ""


ELSEWHERE = {
    "++sweep.name=../../../x": "sweep.name", "sweep.name=..": "sweep.name", "sweep.name='${seed}/..'": "sweep.name",
    "sweep.name=${oc.decode:'5.0'}": "sweep.name", "sweep.name=[a]": "sweep.name", "sweep.name=''": "sweep.name",
    f"sweep.name={'a' * 300}": "sweep.name", "sweep.name='é'": "sweep.name", "sweep.name=${nothing}": "sweep.name",
    "output=5": "output", "output=": "output", "output=null": "output", "output=[a]": "output", "output=true": "output",
    "output=${seed}": "output", "output=/proc/nothing": "output", "output=/dev/null": "output", "output=/dev/null/x": "output",
    "output='a\nb'": "output", "output='a\x00b'": "output", "output='a\udc80b'": "output", f"output={'a' * 5000}": "output",
    f"output=/{'a/' * 3000}": "output", "output=loop/x": "output", "output=${output}": "output", "~output": "output",
    "hydra.run.dir=/tmp/elsewhere": "hydra.run.dir", "hydra.run.dir=x": "hydra.run.dir", "hydra.run.dir=.": "hydra.run.dir",
    "hydra.run.dir=mlruns": "hydra.run.dir", "hydra.run.dir=mlruns/../x": "hydra.run.dir",
    "hydra.run.dir=null": "hydra.run.dir",
    "hydra.sweep.dir=x": "hydra.sweep.dir", "hydra.sweep.dir=mlruns/sweeps": "hydra.sweep.dir",
    "hydra.sweep.subdir=x": "hydra.sweep.subdir", "hydra.sweep.subdir=../x": "hydra.sweep.subdir",
    "hydra.output_subdir=../x": "hydra.output_subdir", "hydra.output_subdir=/x": "hydra.output_subdir",
    "hydra.output_subdir=..": "hydra.output_subdir", "hydra.job.name=../x": "hydra.job.name",
}  # fmt: skip


@pytest.mark.parametrize("word", ELSEWHERE)
def test_a_place_elsewhere_is_refused_before_it_is_made(place, word):
    (place / "loop").symlink_to("loop")
    assert refused(word, "seed=1").startswith(f"{ELSEWHERE[word]}: expected ")


@pytest.mark.parametrize(
    "word", ["sweep.axes=0", "sweep.rivals=x", "+sweep.axes=1", "++sweep.rivals=x", "tracking.parent_run_id=x"]
)
def test_what_a_sweep_tells_its_trials_is_no_key(word):
    group, _, key = word.lstrip("+").partition("=")[0].partition(".")
    line = refused(word)
    assert line.startswith(f"{group}: expected one of the keys ")
    assert line.endswith(f"; received {key}")


@pytest.mark.parametrize("word", [word for word in ELSEWHERE if word.startswith(("++sweep", "output=5", "hydra."))])
def test_a_place_elsewhere_is_refused_of_a_sweep_too(word):
    assert refused("-m", word, "seed=1").startswith(f"{ELSEWHERE[word]}: expected ")


@pytest.mark.parametrize(
    ("launcher", "key"),
    [("joblib", "temp_folder"), ("submitit_local", "submitit_folder"), ("submitit_slurm", "submitit_folder")],
)
def test_the_folder_of_a_launcher_lies_below_the_output(launcher, key):
    given = f"hydra.launcher.{key}"
    for folder in ("/tmp/elsewhere", "mlruns/../x", "x"):
        assert refused("-m", f"hydra/launcher={launcher}", f"{given}={folder}", "seed=1").startswith(
            f"{given}: expected a folder"
        )


def test_a_place_elsewhere_in_a_file_is_refused(conf):
    for text in ("sweep: {name: ../../x}", "output: 5", "output: ''", "hydra: {run: {dir: /tmp/x}}", "sweep: {name: 1e5}"):
        folder = conf(f"# @package _global_\n{text}", "experiment/mine")
        refused("--config-dir", str(folder), "+experiment=mine")


@pytest.mark.parametrize("name", ["2024", "1e5", "inf", "nan", "true", "null", "1_000", "0x10", "-1e5"[1:], "a.b-c_d"])
def test_the_name_of_a_sweep_is_text_whatever_it_looks_like(place, name):
    for written in (name, f"'{name}'"):
        config, own = run(f"sweep.name={written}")
        assert build.sweep_name(config) == name
        assert own.runtime.output_dir == str(place / "mlruns" / "runs" / name)


def test_the_name_of_a_sweep_in_a_file_may_be_a_year(conf):
    config, own = run(
        "--config-dir", str(conf("# @package _global_\nsweep: {name: 2024}", "experiment/mine")), "+experiment=mine"
    )
    assert (build.sweep_name(config), Path(own.runtime.output_dir).name) == ("2024", "2024")


def test_the_working_folder_stays_where_it_is(place):
    where = []
    compose.run(lambda _: where.append(Path.cwd()), ["hydra.job.chdir=true", "sweep.name=a"], sweeps=True)
    assert where == [place]


@pytest.mark.parametrize(
    "words",
    [
        ("seed=1", "--config-dir", "{}", "model=mine"),
        ("seed=1", "model=mine", "-cd", "{}"),
        ("seed=1", "model=mine", "--config-dir={}", "-cn", "config"),
        ("model=mine", "--config-dir={}", "seed=1", "-cp", "../conf"),
    ],
)
def test_options_may_come_anywhere(conf, words):
    folder = str(conf("_target_: sweep.models.families.LeNet5\nwidth: 0.5"))
    config, _ = run(*(word.format(folder) for word in words), "sweep.name=a")
    assert (config.seed, config.model.width) == (1, 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["seed=1", "--cfg", "nonsense"], "argument --cfg/-c: invalid choice: 'nonsense'"),
        (["--config-dir"], "argument --config-dir/-cd: expected one argument"),
        (["-i", "nonsense"], "argument --info/-i: invalid choice"),
        (["--config-dir", "nowhere"], "--config-dir: expected a folder; received nowhere"),
        (["-cp", "nowhere"], "config: "),
        (["-cp", "x.yaml"], "--config-path: expected a folder"),
        (["-cn", "nowhere"], "config: expected a known choice; received nowhere"),
        (["hydra.searchpath=[/nowhere]"], "hydra.searchpath: expected folders and packages that exist; received /nowhere"),
        (["hydra.searchpath=[pkg://nothing.there]"], "hydra.searchpath: "),
        (["hydra.searchpath=5"], "hydra.searchpath"),
        (["hydra.searchpath=['x://y']"], "hydra.searchpath"),
        (["--cfg", "job", "--info"], "command line: expected one of --run"),
        (["--resolve"], "command line: expected one of --run"),
        (["--cfg", "job", "-p", "nothing"], "--package: expected a key of the configuration; received nothing"),
        (["-m", "--run"], "command line: expected one of --run"),
        (["+seed=3"], "command line: expected seed without a +, since there is one; received +seed"),
        ([f"model.width={'[' * 500}{']' * 500}"], "command line: expected brackets at most 50 deep; received model.width=[[["),
        (["model.width=" + "(" * 500], "command line: expected brackets at most 50 deep; received model.width=((("),
        (["model.width=" + "\x1b[31m\n"], "command line: "),
        (["se\x00ed=1"], ""),
        (["seed=\udc80"], ""),
        (["model=" + "x" * 5000], "configuration: expected names of files"),
        (["x" * 20000 + "=1"], "configuration: expected names of files"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_told_in_one_line(words, said):
    assert refused(*words).startswith(said) or said in refused(*words)


def test_a_command_that_runs_once_takes_no_sweep():
    for words in (["-m"], ["seed=1", "--multirun"], ["--multi"], ["hydra.mode=MULTIRUN"]):
        assert "expected" in refused(*words, sweeps=False)


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 10)}]\n" for last, this in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a [*a]", "a: &a {b: *a}", "[" * 3000, "a: [", "a: b: c", "a: \x00", "a: 1\na: 2", "- a\n- b", "5",
     "a: !!python/name:os.system x",
     "a: ${", "a: &a 1\nb: *c", "_target_: ${_target_}"],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_told_in_one_line_and_at_once(conf, text):
    began = time.monotonic()
    folder = conf(text)
    code, line = explained("--config-dir", str(folder), "model=mine", "sweep.name=a")
    assert code in (0, 2), line
    assert line.isprintable()
    assert time.monotonic() - began < 30  # a bomb would take minutes, and all memory


def test_aliases_of_a_sensible_size_are_fine(conf):
    config, _ = run(
        "--config-dir",
        str(conf("_target_: sweep.models.families.CNN\nfilters: &f [8, 8]\nunits: *f")),
        "model=mine",
        "sweep.name=a",
    )
    assert config.model.units == [8, 8]


def test_help_needs_no_place(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    compose.run(lambda _: None, ["--help", "output=5"], sweeps=True)
    assert not os.listdir()  # noqa: PTH208
