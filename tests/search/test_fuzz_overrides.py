"""The grammar of overrides, from the words of a command line to the plan of a sweep's points, under damaged command lines."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import fuzzing
import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.types import RunMode

from sweep.config import build, compose, explain, places
from sweep.search.settings import Settings
from sweep.search.space import Space

_SECONDS = 120  # a hang, not a speed: a machine may be busy
_POINTS = 3
_SETTINGS = {
    "objectives": {"val_accuracy": "maximize"}, "constraints": {}, "sampler": "tpe", "seed": 0, "timeout": None, "n_jobs": 1,
    "max_failure_rate": 0.5, "early_stop": None, "patience": None, "params": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loader() -> compose.Loader:
    Plugins.instance()
    return compose.Loader(create_config_search_path(str(compose.CONF)))


def read(content: bytes) -> None:
    """All that a sweep of these words does before it begins: a refusal is one line with exit code 2, and soon."""
    words = content.decode(errors="surrogateescape").strip("\n").split(" ")
    began = time.monotonic()
    for search in (False, True):
        try:
            _begin(words, search=search)
        except Exception as error:
            code, line = explain.explain(error)
            if code != 2:
                raise
            _require_line(line)
    assert time.monotonic() - began < _SECONDS


def _begin(words: list[str], *, search: bool) -> None:
    given, own = ["tracking=none", "hydra.mode=MULTIRUN", *words], loader()
    config = own.load_configuration("config", given, RunMode.MULTIRUN)
    places.check(config)
    settings = Settings(**_SETTINGS, n_trials=5 if search else None)
    space = Space.parse(own, config, settings.params, list(config.hydra.overrides.task))
    space.require_at_most(settings.max_points, search=search or not space.finite)
    assert space.size > 0
    some = itertools.islice(space.points() if space.finite and not search else _walked(space), _POINTS)
    for point in some:
        build.plan(space.compose(point))
        build.plan(space.composer.compose_quickly(point))


def _walked(space: Space) -> Any:
    yield space.walk(lambda axis: axis.samples()[0])
    yield space.walk(lambda axis: axis.samples()[-1])


def _require_line(line: str) -> None:
    assert line.isprintable()
    assert len(line) < 2000


@pytest.mark.parametrize("path", fuzzing.corpus("overrides"), ids=lambda path: path.name)
def test_a_kept_command_line_is_planned_or_refused_in_one_line(path):
    read(path.read_bytes())


@pytest.mark.slow
def test_a_damaged_command_line_is_planned_or_refused_in_one_line():
    originals = [path.read_bytes() for path in fuzzing.corpus("overrides")]
    fuzzing.fuzz(fuzzing.damaged(originals), read)
