"""What `sweep.doctor` looks at: the installation, the machine, the data and the tracking store, a finding for each."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from sweep.core import isolated
from sweep.core.errors import ConfigError
from sweep.tflite import external

_MODULE_SECONDS = 120.0
_GIB = 1 << 30
_FREE_GIB = (1.0, 5.0)  # less than the first is bad, less than the second worth a warning
_MEMORY_GIB = (1.0, 3.0)
_EXTRAS = {
    "tflm": "arena_bytes, target=tflm",
    "ethos-u": "target=ethos_u55_128 and its relatives",
    "joblib": "hydra/launcher=joblib",
    "ray": "hydra/launcher=ray",
    "slurm": "hydra/launcher=submitit_slurm",
}
"""Extra to what it is for."""


class Level(Enum):
    """How a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        level: how it is.
        subject: what was looked at.
        text: what was found.
        mend: what to do; empty where there is nothing to do.
    """

    level: Level
    subject: str
    text: str
    mend: str = ""


def findings(output: Path, uri: str) -> Iterator[Finding]:
    """Every finding, in order, each as soon as it is known.

    Args:
        output: the folder of results.
        uri: of the tracking store.
    """
    yield python()
    yield from packages()
    yield from extras()
    yield keras()
    yield bytecode()
    yield processor()
    yield threads()
    yield memory()
    yield gpu()
    yield from disk(output)
    yield from data()
    yield tracking(uri)
    yield browser()


def python() -> Finding:
    """The version of Python."""
    return Finding(Level.GOOD, "python", f"{platform.python_version()}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """The required packages: missing ones, those of another version than the one that is pinned, and the others in one line."""
    wrong = False
    for requirement in _requirements()[""]:
        installed, mend = external.version(requirement.name), f"pip install '{requirement}'"
        if not installed:
            wrong = True
            yield Finding(Level.BAD, requirement.name, "not installed", mend)
        elif not requirement.specifier.contains(installed, prereleases=True):
            wrong = True
            yield Finding(
                Level.BAD, requirement.name, f"{installed}; {requirement.specifier} is what this version is made for", mend
            )
    if not wrong:
        named = ("tensorflow", "tf-keras", "ai-edge-litert", "mlflow", "optuna", "hydra-core")
        text = ", ".join(f"{name} {external.version(name)}" for name in ("sweep", *named))
        yield Finding(Level.GOOD, "packages", text)


def extras() -> Iterator[Finding]:
    """The extras: those that are not installed, with what they are for."""
    requirements = _requirements()
    for extra, purpose in _EXTRAS.items():
        needed = [requirement for requirement in requirements[extra] if requirement.name != "sweep"]
        if not needed:
            yield Finding(Level.GOOD, extra, f"nothing of this extra exists for {sys.platform} on {platform.machine()}")
            continue
        missing = [
            f"{requirement.name} {external.version(requirement.name)}".strip()
            for requirement in needed
            if not external.version(requirement.name)
            or not requirement.specifier.contains(external.version(requirement.name), prereleases=True)
        ]
        if missing:
            text = f"not installed as pinned ({', '.join(missing)}): {purpose}"
            yield Finding(Level.WARNING, extra, text, f"pip install 'sweep[{extra}]', where it is needed")
        else:
            yield Finding(
                Level.GOOD,
                extra,
                ", ".join(f"{requirement.name} {external.version(requirement.name)}" for requirement in needed),
            )


def keras() -> Finding:
    """Which Keras TensorFlow serves."""
    from sweep.train import accelerators

    mend = "pip install tf-keras, and TF_USE_LEGACY_KERAS=1 before TensorFlow is imported"
    try:
        version = isolated.call(accelerators.keras_version, seconds=_MODULE_SECONDS)
    except isolated.FailedError as error:
        return Finding(Level.BAD, "keras", f"TensorFlow cannot be imported: {error}", "make setup, or pip install again")
    if not version.startswith("2."):
        return Finding(Level.BAD, "keras", f"tf.keras is Keras {version}; pruning and QAT need Keras 2", mend)
    return Finding(Level.GOOD, "keras", f"tf.keras is Keras {version}")


def bytecode() -> Finding:
    """Whether the largest package is compiled; without that each process compiles for seconds."""
    spec = importlib.util.find_spec("tensorflow")
    mend = f"{sys.executable} -m compileall -q -j 0 {Path(sys.prefix, 'lib')}"
    if spec is None or spec.origin is None:
        return Finding(Level.BAD, "bytecode", "no package tensorflow", "pip install again")
    sources = sorted(Path(spec.origin).parent.glob("python/framework/*.py"))
    compiled = sum(Path(importlib.util.cache_from_source(str(source))).exists() for source in sources)
    text = f"{compiled} of {len(sources)} modules of tensorflow.python.framework are compiled"
    if compiled < len(sources):
        return Finding(Level.WARNING, "bytecode", f"{text}: every process that imports it takes seconds longer", mend)
    return Finding(Level.GOOD, "bytecode", text)


def processor() -> Finding:
    """The processor and the vector instructions that TensorFlow and XNNPACK use."""
    name, flags = _cpu()
    known = [flag for flag in ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8", "asimd", "sve") if flag in flags]
    text = f"{name}: {' '.join(known) or 'its instructions are not known'}"
    if flags and platform.machine() == "x86_64" and "avx" not in flags:
        return Finding(Level.BAD, "processor", text, "another machine: TensorFlow's wheels need AVX")
    if flags and platform.machine() == "x86_64" and "avx2" not in flags:
        return Finding(Level.WARNING, "processor", f"{text}: without AVX2 training is several times slower")
    return Finding(Level.GOOD, "processor", text)


def threads() -> Finding:
    """The cores that this process may use, and what limits them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    if quota is not None and quota < cores:
        mend = f"threads={max(1, int(quota))}"
        return Finding(Level.WARNING, "threads", f"{cores} cores, of which the container may use {quota:g}", mend)
    if limits := {name: os.environ[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if os.environ.get(name)}:
        text = ", ".join(f"{name}={value}" for name, value in limits.items())
        return Finding(Level.WARNING, "threads", f"{cores} cores, and {text}", "unset it: threads=N is the key")
    return Finding(Level.GOOD, "threads", f"{cores} cores")


def memory() -> Finding:
    """The memory that is free."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return Finding(Level.GOOD, "memory", "not known on this system")
    free = int(found[1]) * 1024 / _GIB
    return _amount(
        "memory", free, f"{free:.1f} GiB available", _MEMORY_GIB, "hydra.sweeper.n_jobs=1: a worker takes about 1 GiB"
    )


def gpu() -> Finding:
    """The GPUs that TensorFlow can use."""
    from sweep.train import accelerators

    try:
        found = isolated.call(accelerators.gpus, seconds=_MODULE_SECONDS)
    except isolated.FailedError as error:
        return Finding(Level.WARNING, "gpu", f"TensorFlow does not say: {error}")
    return Finding(Level.GOOD, "gpu", ", ".join(found) or "none: networks are trained on the processor")


def disk(output: Path) -> Iterator[Finding]:
    """The room for results and for downloads."""
    from sweep.data import download

    for subject, folder, key in (
        ("results", output, "output=FOLDER"),
        ("downloads", download.folder(), "SWEEP_DATA_DIR=FOLDER"),
    ):
        place = folder.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            free = shutil.disk_usage(place).free / _GIB
        except OSError as error:
            yield Finding(Level.BAD, subject, f"{folder}: {error.strerror}", key)
            continue
        if not os.access(place, os.W_OK):
            yield Finding(Level.BAD, subject, f"{place} is not writable", key)
        else:
            yield _amount(subject, free, f"{free:.1f} GiB free for {folder}", _FREE_GIB, f"{key}, or sweep cache gc")


def data() -> Iterator[Finding]:
    """Where the published data sets are, or would go."""
    from sweep.data import datasets, download

    for kind in datasets.PUBLISHED:
        missing = download.missing(kind.name, kind.files)
        place = download.folder() / kind.name
        if missing == len(kind.files):
            text = f"not in {place}: downloaded at the first use, from {kind.base}"
            yield Finding(Level.GOOD, kind.name, text)
        elif missing:
            text = f"{missing} of {len(kind.files)} files of {place} are missing or damaged"
            yield Finding(Level.WARNING, kind.name, text, "nothing: they are downloaded again at the next use")
        else:
            yield Finding(Level.GOOD, kind.name, f"in {place}")


def tracking(uri: str) -> Finding:
    """Whether runs could be logged."""
    from sweep.tracking import health

    try:
        return Finding(Level.GOOD, "tracking", health.state(uri))
    except ConfigError as error:
        return Finding(Level.BAD, "tracking", f"{error.received}", f"{error.expected}, or tracking=none")


def browser() -> Finding:
    """What the tests of MLflow's pages need."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        mend = "apt-get install chromium chromium-driver"
        return Finding(
            Level.WARNING, "chromium", f"no {' and no '.join(missing)}: the tests of MLflow's pages are skipped", mend
        )
    return Finding(Level.GOOD, "chromium", str(shutil.which("chromium")))


def _amount(subject: str, free: float, text: str, bounds: tuple[float, float], mend: str) -> Finding:
    if free < bounds[0]:
        return Finding(Level.BAD, subject, text, mend)
    return Finding(Level.WARNING, subject, text, mend) if free < bounds[1] else Finding(Level.GOOD, subject, text)


def _requirements() -> dict[str, list[Requirement]]:
    """Extra to what it requires on this system; without an extra under an empty name."""
    found: dict[str, list[Requirement]] = defaultdict(list)
    for text in metadata.requires("sweep") or []:
        requirement = Requirement(text)
        for extra in ("", *_EXTRAS):
            marker = requirement.marker
            asked = extra == "" if marker is None or "extra" not in str(marker) else extra != ""
            if asked and (marker is None or marker.evaluate({"extra": extra})):
                requirement.marker = None
                found[extra].append(requirement)
                break
    return found


def _cpu() -> tuple[str, frozenset[str]]:
    """The processor's name and its flags, as Linux has them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.machine(), frozenset(flags[1].split() if flags else ())


def _cpu_quota() -> float | None:
    """How many cores a container may use, by its control group; None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
