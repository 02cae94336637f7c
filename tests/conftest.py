"""What the tests share: the real data, and a cheap but real context to apply a stage in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.core.types import Arrays, Checkpoint, Data, Spec, Split
from sweep.data import augment, datasets
from sweep.models import families
from sweep.train import goals, loop, recipes
from sweep.train.context import Context

# As `track` sets it, for the tests that read MLflow's store themselves and may import it first.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

CONF = Path(__file__).resolve().parents[1] / "conf"
# Of TensorFlow: pytest-xdist runs a process on every core, and networks as small as these gain nothing by a second thread.
THREADS = 1


class Silent:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[tuple[str, bool]] = []
        self.advanced: list[float] = []

    def stage(self, name: str, unit: str = "epoch") -> None:
        self.begun.append(name)

    def advance(self, done: float, total: float, note: str) -> None:
        self.advanced.append(done / total)

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        self.finished.append((name, reused))


def real_file(name: str) -> Path:
    """One of the real data sets, or a skip where it is not at hand."""
    folder = os.environ.get("SWEEP_TEST_DATA")
    path = Path(folder or "") / name
    if not folder or not path.exists():
        pytest.skip(f"SWEEP_TEST_DATA names no folder with {name}")
    return path


def public_model(name: str) -> Path:
    """One of the public `.tflite` files, from the folder of the real data or `../shared/models`, or a skip."""
    folders = [os.environ.get("SWEEP_TEST_DATA"), CONF.parents[1] / "shared" / "models"]
    found = [path for folder in folders if folder and (path := Path(folder) / name).exists()]
    if not found:
        pytest.skip(f"neither SWEEP_TEST_DATA nor ../shared/models has {name}")
    return found[0]


@pytest.fixture(scope="session")
def digits() -> Data:
    """The real digits."""
    still = augment.Augment(shift=0, flip=False)
    return datasets.Digits(validation=0.2, limit=None, augment=still).load()


@pytest.fixture(scope="session")
def few_digits(digits: Data) -> Data:
    """The first 256 training digits, for tests in which accuracy does not matter."""
    return replace(digits, train=Split(digits.train.images[:256], digits.train.labels[:256]))


RECIPE = recipes.Recipe(epochs=2, batch_size=64, learning_rate=0.003, optimizer=recipes.Adam(), schedule=recipes.Constant())


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """TensorFlow, set up before anything else can set it up otherwise."""
    loop.start(THREADS)


@pytest.fixture(scope="session")
def context(few_digits: Data, tensorflow: None) -> Callable[..., Context]:
    """Make a context on few digits; keywords replace its fields."""

    def make(model: Spec | None = None, **fields: Any) -> Context:
        made = Context(
            data=few_digits,
            recipe=RECIPE,
            augment=augment.Augment(shift=1, flip=False),
            view=None,
            seed=3,
            model=model or families.CNN(filters=(8, 16), units=(12,)),
            teacher=None,
            goal=goals.Labels(),
            remember=_remember_nothing,
            weigh=_weigh_nothing,
            progress=Silent(),
        )
        return replace(made, **fields)

    return make


def _remember_nothing(key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    return compute()


def _weigh_nothing(network: Checkpoint) -> int:
    raise AssertionError("nobody asked for a budget")
