"""Runs one trial, writes its files to its folder, and logs it, whether it succeeds or fails."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

from sweep.core import files, trial_files
from sweep.core.metrics import Metrics
from sweep.core.trial_files import TrialFile
from sweep.core.types import Curves, Data, Progress, TrialRecord
from sweep.pipeline import origin
from sweep.pipeline.cache import Cache
from sweep.pipeline.conversion import kernels
from sweep.pipeline.executor import run
from sweep.pipeline.plan import Job, Plan
from sweep.pipeline.pruned import TrialPruned
from sweep.tracking import tracker

_log = logging.getLogger(__name__)

_LIBRARIES = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")


def execute(job: Job, progress: Progress) -> tuple[Metrics, str | None]:
    """Runs a job, writes its files and logs it, whether it succeeds or fails.

    Returns:
        The metrics, as in `metrics.json`, and the id of the tracker's run; None without one.

    Raises:
        TrialPruned: from `run`, after `pruned.txt` was written and the trial was logged.
        Exception: from `run`, after `error.txt` was written and the failure was logged.
    """
    with recorded(job) as recording:
        if (began := origin.of_sweep(job.folder.parent)) is not None:
            began.require_of_trial(origin.Origin.of([(job.plan, job.plan.check())]))
        result = run(job.plan, Cache(job.store), progress, job.front, job.limits)
        files.write(job.folder / TrialFile.MODEL, result.content)
        write_data(job, result.data)
        files.write_json(job.folder / TrialFile.BASELINES, result.baselines)
        if result.bits:
            files.write_json(job.folder / TrialFile.BITS, result.bits)
        if result.example is not None:
            files.write_json(job.folder / TrialFile.EXAMPLE, result.example.record(result.content))
        files.write_json(job.folder / TrialFile.METRICS, dict(result.metrics))
        recording.findings = Findings(result.metrics, result.curves, result.data)
    return result.metrics, recording.run_id


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of a successful run that are logged besides its files.

    Attributes:
        metrics: metric name to value.
        curves: stage name to its learning curves, one value a step.
        data: the data set.
    """

    metrics: Mapping[str, float | int]
    curves: Mapping[str, Curves]
    data: Data


@dataclass(eq=False)
class Recording:
    """The record of a job.

    Attributes:
        findings: set when the job has succeeded.
        run_id: the id of the tracker's run, set when the job was logged; None without one.
    """

    findings: Findings | None = None
    run_id: str | None = None


@contextmanager
def recorded(job: Job, source: str = "sweep") -> Iterator[Recording]:
    """A context that writes the folder and the log of a job, and logs the job, whether it succeeds or fails.

    Args:
        job: the job. The files of an earlier run in its folder are removed.
        source: the source of the run in the tracker.

    Raises:
        Exception: from the body, after `error.txt` (`pruned.txt` for `TrialPruned`) was written and the run was logged.
    """
    recording, began, tags = Recording(), time.time(), _tags(job.plan) | {"mlflow.source.name": source}
    trial_files.remove(job.folder)
    files.write(job.folder / TrialFile.CONFIG, job.config)
    files.write(job.folder / TrialFile.OVERRIDES, "".join(f"{line}\n" for line in job.overrides))
    record = TrialRecord(job.name, job.folder, job.swept, job.params, {}, {}, tags, None, began, began)
    try:
        with _logged(job.folder / TrialFile.LOG):
            yield recording
    except Exception as error:
        pruned = isinstance(error, TrialPruned)
        reason = str(error) if pruned else f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, TrialPruned) and error.known:
            files.write_json(job.folder / TrialFile.KNOWN, error.known)
        files.write(job.folder / (TrialFile.PRUNED if pruned else TrialFile.ERROR), reason + "\n")
        _track(job, replace(record, error=reason, end=time.time(), pruned=pruned))
        raise
    if (findings := recording.findings) is None:
        raise RuntimeError("the work on a job ended without findings")
    tags = tags | _hashes(findings.data)
    record = replace(record, metrics=findings.metrics, curves=findings.curves, tags=tags, end=time.time())
    recording.run_id = _track(job, record)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """A context that writes the log of this package to a file, with the traceback of a failure."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("sweep")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    except TrialPruned as stop:
        _log.info("%s", stop)
        raise
    except Exception:
        _log.exception("the trial failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def _track(job: Job, record: TrialRecord) -> str | None:
    """Logs a record. A failure of the tracker is a warning, since the files are already written."""
    try:
        return job.tracker.log_trial(replace(record, parent_run_id=job.parent_run_id))
    except tracker.TrackingError as error:
        _log.warning("could not log to MLflow (%s); the results are in %s", " ".join(str(error).split()), job.folder)
        return None


def write_data(job: Job, images: Data) -> None:
    """Writes `data.json`: the data set, its hashes, the techniques and the names of the classes."""
    record = {
        "dataset": job.plan.dataset.name,
        **_hashes(images),
        "techniques": job.plan.techniques,
        "class_names": images.class_names,
    }
    files.write_json(job.folder / TrialFile.DATA, record)


def _hashes(images: Data) -> dict[str, str]:
    return {"data_hash": images.content_hash, "split_hash": images.split_hash}


def _tags(plan: Plan) -> dict[str, str]:
    tags = {
        "dataset": plan.dataset.name,
        "seed": str(plan.seed),
        **{f"version.{name}": text for name, text in _versions().items()},
    }
    if commit := _git("rev-parse", "HEAD"):
        tags |= {"mlflow.source.git.commit": commit, "git.dirty": str(bool(_git("status", "--porcelain", "-uno"))).lower()}
    return tags


@cache
def _versions() -> dict[str, str]:
    """Library to version, and `kernels`: what a result depends on besides the code."""
    return {name: metadata.version(name) for name in _LIBRARIES} | {"kernels": kernels()}


@cache
def _git(*words: str) -> str:
    """What git says of the code that runs; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
