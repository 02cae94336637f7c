"""The main functions of worker processes: many trials in sequence, or a single one."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from sweep.core import process_status


class RemoteError(RuntimeError):
    """Stands for an exception of a trial that cannot be pickled."""


def failed(error: Exception) -> JobReturn:
    """The JobReturn of a trial that raised an error."""
    returned = JobReturn(status=JobStatus.FAILED)
    returned.return_value = error
    return returned


def run_trials(connection: Connection, payload: bytes, temporary: Path) -> None:
    """Sets Hydra up, then runs jobs until the parent closes the pipe or dies.

    Args:
        connection: receives a job's number and overrides, and sends its JobReturn with the resident memory in bytes.
        payload: Hydra's context, the task, the configuration of the sweep and Hydra's singletons, pickled by the parent.
        temporary: the process's temporary folder.
    """
    _depend_on_parent(temporary)
    context, task, config, state = cloudpickle.loads(payload)
    Singleton.set_state(state)
    setup_globals()
    while True:
        try:
            number, overrides = connection.recv()
        except (EOFError, OSError):
            return
        process_status.begin(None)
        connection.send((_run(context, task, config, number, overrides), _resident_bytes()))


def run_trial(connection: Connection, payload: bytes, temporary: Path) -> None:
    """Runs one job and sends its result or exception.

    Args:
        connection: sends the result.
        payload: the task, its working directory, its configuration and Hydra's singletons, pickled by the parent.
        temporary: the process's temporary folder.
    """
    _depend_on_parent(temporary)
    try:
        task, folder, config, state = cloudpickle.loads(payload)
        Singleton.set_state(state)
        setup_globals()
        os.chdir(folder)
        value = task(config)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        value = error
    connection.send(_sendable(value))


def _depend_on_parent(temporary: Path) -> None:
    process_status.use_folder(temporary)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    threading.Thread(target=_die_with_parent, args=(temporary,), daemon=True).start()


def _die_with_parent(temporary: Path) -> None:
    """Endpoints this process when its parent has died, since nobody would receive its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        process_status.remove_folder(temporary)
        os._exit(1)


def _run(context: HydraContext, task: TaskFunction, config: DictConfig, number: int, overrides: list[str]) -> JobReturn:
    try:
        composed = context.config_loader.load_sweep_config(config, overrides)
        with open_dict(composed):
            composed.hydra.job.id = f"job_{number}"
            composed.hydra.job.num = number
        ended = run_job(
            hydra_context=context,
            task_function=task,
            config=composed,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except Exception as error:  # noqa: BLE001 - a trial that cannot even begin is a failed trial, not a dead worker
        return failed(_sendable(error))
    returned = JobReturn(overrides=overrides, status=ended.status)
    returned.return_value = _sendable(ended._return_value)
    return returned


def _sendable(value: Any) -> Any:
    """The value; for an exception that cannot be pickled, a RemoteError."""
    if isinstance(value, Mapping) or value is None:
        return value
    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever an exception's own pickling does
        return RemoteError(f"{type(value).__name__}: {value}")
    return value


def _resident_bytes() -> int:
    """The resident memory of this process in bytes; 0 where /proc is missing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
