"""Shared by the targets: the error of a file that does not run there, budgets, and the tensor arena."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from sweep.core.errors import ConfigError, require_number
from sweep.core.types import Storage
from sweep.tflite import external, tflm

_log = logging.getLogger(__name__)


class Unfit(RuntimeError):
    """The file does not run on its target. The message has the reason and the remedy, in one line."""


class Form(Protocol):
    """The properties of a quantisation that a target checks before there is a file."""

    @property
    def storage(self) -> Storage:
        """The format of the file."""

    @property
    def sparse(self) -> bool:
        """Whether kernels may be stored as sparse tensors."""


def require_kib(**budgets: float | None) -> None:
    """Checks that budgets are null or a positive number of KiB.

    Args:
        budgets: key to budget.

    Raises:
        ConfigError: naming the key.
    """
    for key, kib in budgets.items():
        if kib is not None:
            require_number(key, kib, 0, 1e9, open_low=True)


def budgets_set(**budgets: tuple[str, float | None]) -> dict[str, tuple[str, float]]:
    """Drops the budgets that are null.

    Args:
        budgets: metric to the key of its budget and the budget in KiB.
    """
    return {metric: (key, kib) for metric, (key, kib) in budgets.items() if kib is not None}


def require_installed(module: str, extra: str) -> None:
    """Refuses a target whose package is not installed.

    Args:
        module: the module of the package.
        extra: the extra that installs the package.

    Raises:
        ConfigError: with the command that installs the extra.
    """
    if not external.installed(module):
        raise ConfigError("", f"the extra {extra}, which brings it: pip install -e '.[{extra}]'", f"no package {module}")


def require_no_sparse(form: Form, reason: str) -> None:
    """Refuses sparse storage.

    Args:
        form: the quantisation.
        reason: why the target does not run sparse kernels.

    Raises:
        ConfigError: with the reason.
    """
    if form.sparse:
        raise ConfigError("quant.sparse", f"false for this target: {reason}", "true")


def versions(*distributions: str) -> Mapping[str, str]:
    """Distribution to version, empty where it is not installed."""
    return {name: external.version(name) for name in distributions}


def arena_metrics(form: Form) -> frozenset[str]:
    """The names of the metrics that `arena` returns for files of a form: `arena_bytes`, or none without TFLM or its support."""
    loads = form.storage in (Storage.FLOAT32, Storage.INTEGER) and not form.sparse
    return frozenset({"arena_bytes"} if loads and external.installed(tflm.MODULE) else ())


def arena(content: bytes) -> dict[str, int]:
    """The metric `arena_bytes` of a file; nothing where TFLM is not installed or does not load the file."""
    if not external.installed(tflm.MODULE):
        return {}
    try:
        return {"arena_bytes": tflm.arena(content).total}
    except tflm.TflmError as error:
        _log.info("no arena_bytes: %s", error)
        return {}
