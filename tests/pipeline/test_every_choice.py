"""Every choice in conf/ to a measured file: networks under each kind of integers, all else once, in one process and one cache.

The folder is walked, so a new choice is in it. One that needs more than that (images of its own, a group that nothing brings)
fails here, and the message says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONF, THREADS, Silent
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image

from sweep.config import build
from sweep.config.invocation import Invocation
from sweep.data.folder import Folder
from sweep.pipeline import trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tensorflow")]

# The images of each data set that reads a file: as small as they may be, and enough for each class to be in each split.
DATASETS = {path.stem: OmegaConf.load(path) for path in (CONF / "dataset").glob("*.yaml")}
SHAPES = {name: getattr(get_class(node._target_), "shape", (12, 10, 3)) for name, node in DATASETS.items() if "path" in node}
FOLDERS = {name for name, node in DATASETS.items() if issubclass(get_class(node._target_), Folder)}
BASE = ("dataset=cifar10", "prune=none", "quant=none", "tracking=none", f"threads={THREADS}")
NO_CHOICES = ("experiment",)  # of the group before the first slash: compositions of the others, with a test of their own
FORMS = ("none", "ptq", "qat")
NETWORKS = {"prune/score": "resnet8"}  # one score is of the batch normalisation after every layer
ALONGSIDE = {"target": ("quant=ptq",)}  # the form that every device runs
# A key that says how long something takes, and the least that it can be.
QUICK = {"epochs": 1, "teacher_epochs": 1, "finetune": 1, "steps": 1, "calibration_samples": 16}

FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
CHOICES = [(str(path.parent), path.stem) for path in FILES if path.parts[0] not in NO_CHOICES and "settings" not in path.parts]
EXPERIMENTS = [str(path.with_suffix("").relative_to("experiment")) for path in FILES if path.parts[0] == "experiment"]
MODELS = [name for group, name in CHOICES if group == "model"]


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the small files are, and every run with the one cache: the same for all workers, which share what they train."""
    folder = (tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent) / "choices"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        for name, shape in SHAPES.items():
            if not (path := folder / f"{name}.npz").exists():
                write_photos(path, shape) if name in FOLDERS else write_images(path, shape)
    return folder


def write_images(path: Path, shape: tuple[int, ...]) -> None:
    draws = np.random.default_rng(0)
    images = {f"x_{part}": draws.integers(0, 256, (count, *shape), np.uint8) for part, count in (("train", 80), ("test", 20))}
    labels = {f"y_{part}": np.arange(count) % 10 for part, count in (("train", 80), ("test", 20))}
    np.savez(path, **images, **labels)


def write_photos(folder: Path, shape: tuple[int, ...]) -> None:
    draws = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2), ("test", 2)):
        for label in range(10):
            (place := folder / part / str(label)).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draws.integers(0, 256, shape, np.uint8)).save(place / f"{number}.png")


def brought(group: str, name: str) -> tuple[str, ...]:
    """The overrides that take a choice: of a nested group also one that brings the group, where the default has it not."""
    override, parent = f"{group}={name}", str(Path(group).parent)
    parents = [] if parent == "." else [(f"{parent}={choice}",) for where, choice in CHOICES if where == parent]
    for before in ((), *parents):
        try:
            compose("config", [*BASE, *before, override])
        except ConfigCompositionException:
            continue
        return (*before, override)
    raise AssertionError(f"conf/{group}/{name}.yaml: no choice of {parent} has the group {group} among its defaults")


def quickened(node: Any) -> None:
    """Cut down in place what takes long."""
    for key in node if isinstance(node, DictConfig) else ():
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if type(node[key]) is int and key in QUICK:
            node[key] = min(node[key], QUICK[key])
        quickened(node[key])


def measured(place: Path, name: str, *overrides: str) -> dict[str, float]:
    """What a run of these overrides comes to, on small images and for one epoch of each training."""
    config = compose("config", [*overrides, f"output={place}", f"sweep.name={name}"], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    quickened(config)
    if "path" in config.dataset:
        chosen = choices["dataset"]
        assert chosen in SHAPES, f"conf/dataset/{chosen}.yaml reads a file: give it one, by its images' shape in SHAPES"
        config.dataset.path = str(place / f"{chosen}.npz")
        config.dataset.validation = 0.25
    config.dataset.limit = None if "path" in config.dataset else 80
    folder = place / "runs" / name
    folder.mkdir(parents=True)
    job = build.job(config, Invocation(folder, choices, tuple(overrides), swept=False))
    build.prepare(job.tracker)
    metrics, _ = trial.execute(job, Silent())
    assert (folder / "model.tflite").stat().st_size == metrics.size_bytes
    assert (folder / "metrics.json").exists()
    assert 0 <= metrics.test_accuracy <= 1
    assert metrics.latency_ms > 0
    return dict(metrics)


def test_the_walk_finds_every_file():
    assert len(FILES) == len(CHOICES) + len(EXPERIMENTS) + sum("settings" in path.parts for path in FILES)
    assert len(MODELS) > 10
    assert len(CHOICES) > 50
    assert EXPERIMENTS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_every_network(place, model, form):
    metrics = measured(place, f"{model}-{form}", *BASE, f"model={model}", f"quant={form}")
    assert metrics["weight_bits"] == (32 if form == "none" else 8)


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, name in CHOICES if group != "model"])
def test_every_other_choice(place, group, name):
    model = NETWORKS.get(group, "lenet5")
    measured(
        place, f"{group.replace('/', '-')}-{name}", *BASE, f"model={model}", *ALONGSIDE.get(group, ()), *brought(group, name)
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment(place, name):
    overrides = [f"+experiment={name}"]
    if "/" in name:  # a case of an experiment that sweeps over the folder
        folder, case = name.split("/")
        swept = next(path for path in (CONF / "experiment").glob("*.yaml") if f"+experiment/{folder}:" in path.read_text())
        overrides = [f"+experiment={swept.stem}", f"+experiment/{folder}={case}"]
    measured(place, f"experiment-{name.replace('/', '-')}", *overrides, "tracking=none", f"threads={THREADS}")
