"""What CONTRIBUTING.md shows works from a package outside of this repository, and does what it says to the file."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweep.config import build
from sweep.core import metrics
from sweep.core.types import Array

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
# Path to text, of each block that begins with the path as a comment.
FILES: dict[str, str] = dict(re.findall(r"```(?:python|yaml)\n# (mine/\S+)\n(.*?)```", PAGE, re.DOTALL))
CHOICES = {path: text for path, text in FILES.items() if path.endswith(".yaml")}
IN_SMALL = ["train.epochs=1", "tracking=none", "dataset.limit=200"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `mine`."""
    place: Path = tmp_path_factory.mktemp("outside")
    for path, text in FILES.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    for package in ("mine", "mine/conf"):
        (place / package / "__init__.py").touch()
    return place


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(folder))
    _forget()
    yield
    _forget()


def _forget() -> None:
    """Other tests have a module of the same name, and another table of metrics."""
    for name in metrics.own():
        del metrics._table[name]
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def command(path: str) -> list[str]:
    """The words of the command in a YAML's first line, after `python -m sweep.main`."""
    (line,) = re.findall(r"^# python -m sweep.main (.+)\n", CHOICES[path])
    return line.split()


def succeed(words: list[str], folder: Path) -> None:
    """Run `sweep.main` in the folder of the package, in small."""
    small = IN_SMALL if "prune=none" in words else [*IN_SMALL, "prune.finetune=1"]
    done = subprocess.run(
        [sys.executable, "-m", "sweep.main", *words, *small],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def kernels(file: Path) -> list[Array]:
    """The stored kernels of a file, each (channels, weights of a channel)."""
    content = file.read_bytes()
    weights = runpy.run_path(str(ROOT / "tests" / "independent.py"))["weights"](content)
    wanted = {(kernel["name"], *kernel["shape"]) for kernel in weights}
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    details = [detail for detail in interpreter.get_tensor_details() if (detail["name"], *detail["shape"]) in wanted]
    stored = [interpreter.get_tensor(detail["index"]) for detail in details]
    return [kernel.reshape(len(kernel), -1) for kernel in stored]


def each_unit_has_as_many_zeros(file: Path) -> None:
    found = kernels(file)
    assert len(found) == 5
    for kernel in found:
        zeros = (kernel == 0).sum(axis=1)
        assert (zeros == round(0.8 * kernel.shape[1])).all()


def what_lies_far_out_is_clipped(file: Path) -> None:
    found = kernels(file)
    assert len(found) == 5
    for kernel in found:
        assert kernel.dtype == np.int8
        assert 0.2 < (np.abs(kernel) == 127).mean() < 0.5  # beyond one standard deviation: 0.32 of normal, 0.42 of uniform ones


def its_parameters_are_those_of_two_branches(file: Path) -> None:
    measured = json.loads((file.parent / "metrics.json").read_text())
    assert measured["parameters"] == (9 + 1) * 8 + (25 + 1) * 8 + (16 + 1) * 10


def it_is_measured(file: Path) -> None:
    measured = json.loads((file.parent / "metrics.json").read_text())
    assert list(measured)[-1] == "worst_recall"
    assert 0 <= measured["worst_recall"] < measured["macro_accuracy"]


def its_answers_are_two(file: Path) -> None:
    (answer,) = Interpreter(model_path=str(file)).get_output_details()
    assert answer["shape"].tolist() == [1, 2]


ACTED: dict[str, Callable[[Path], None]] = {
    "mine/conf/prune/per_unit.yaml": each_unit_has_as_many_zeros,
    "mine/conf/quant/weight_range/deviations.yaml": what_lies_far_out_is_clipped,
    "mine/conf/model/two_branches.yaml": its_parameters_are_those_of_two_branches,
    "mine/conf/metrics/worst_recall.yaml": it_is_measured,
    "mine/conf/dataset/parity.yaml": its_answers_are_two,
}


def test_every_example_is_tried_and_short():
    assert set(CHOICES) == set(ACTED)
    assert len(FILES) == PAGE.count("```python\n") + PAGE.count("```yaml\n") == 2 * len(ACTED)
    assert max(len(text.splitlines()) for text in FILES.values()) < 30
    assert len(PAGE.splitlines()) <= 180


@pytest.mark.parametrize("path", ACTED)
def test_an_example_is_built_from_its_yaml(folder, importable, path):
    (target,) = re.findall(r"^ *_target_: (\S+)", CHOICES[path], re.MULTILINE)
    group, *within = Path(path).parent.parts[2:]
    overrides = [word for word in command(path) if "=" in word]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"hydra.searchpath=[file://{folder}/mine/conf]", "sweep.name=x", *overrides])
    part = getattr(build.plan(config), group)
    for name in within:
        part = getattr(part, name)
    part = part[Path(path).stem] if isinstance(part, Mapping) else part
    assert f"{type(part).__module__}.{type(part).__qualname__}" == target


@pytest.mark.slow
@pytest.mark.parametrize("path", ACTED)
def test_an_example_acts_on_the_file(folder, path, tmp_path):
    succeed([*command(path), f"output={tmp_path}"], folder)
    (file,) = tmp_path.glob("runs/*/model.tflite")
    ACTED[path](file)


@pytest.mark.slow
def test_a_sweep_finds_them_in_a_package(folder, tmp_path):
    choices = [f"{Path(path).parent.relative_to('mine/conf')}={Path(path).stem}" for path in ACTED]
    choices = [f"+{choice}" if choice.startswith("metrics=") else choice for choice in choices]
    wanted = ["+hydra.sweeper.objectives.worst_recall=maximize", "+hydra.sweeper.constraints.worst_recall='>=0'"]
    words = ["hydra.searchpath=[pkg://mine.conf]", *choices, *wanted, "prune.sparsity=0.5,0.8"]
    succeed(["-m", *words, "sweep.name=theirs", f"output={tmp_path}"], folder)
    (sweep,) = tmp_path.glob("sweeps/theirs")
    assert len(list(sweep.glob("trial-*/model.tflite"))) == 2
    pages = [path.read_text() for path in (sweep / "trials.csv", sweep / "report.md", sweep / "pareto.html")]
    # Its records tell another process of the metric, which imports nothing of theirs.
    report = [sys.executable, "-m", "sweep.report", "theirs", "--output", str(tmp_path)]
    done = subprocess.run(report, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in (sweep / "trials.csv", sweep / "report.md", sweep / "pareto.html")] == pages
    assert "worst_recall" in pages[0].splitlines()[0].split(",")
    assert "Worst recall" in pages[2]


ODD = """from dataclasses import dataclass
from sweep.core.metric import Metric


@dataclass(frozen=True)
class Odd:
    entry = Metric("Odd", "nothing", direction=None)

    def measure(self, content, predictions):
        return "many"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("size_bytes", "error: metrics: expected a name that no other metric has; received size_bytes\n"),
        ("mine", "error: metrics.mine: expected a finite number; received 'many'\n"),
    ],
)
def test_a_metric_that_is_none_is_refused(tmp_path, name, expected):
    (tmp_path / "odd.py").write_text(ODD)
    words = [f"+metrics.{name}._target_=odd.Odd", *IN_SMALL, "prune=none", f"output={tmp_path}"]
    command = [sys.executable, "-m", "sweep.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.endswith(expected), done.stderr
