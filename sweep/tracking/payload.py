"""Conversion of a record to MLflow's terms: tags, parameters, metrics, data sets and links."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from sweep.core.types import TrialRecord

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient


PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
_PARAM_LIMIT, TAG_LIMIT, _KEY_LIMIT = 6000, 8000, 250
_DIGEST = 12  # characters of the content hash in the UI's data set column; the tag has all of it
_COMPARABLE = 100  # runs in a link; the description with the link is a tag of limited length


def comparison_link(run_ids: Sequence[str], experiment_id: str) -> str:
    """The path, within MLflow's UI, of the page that compares runs.

    Args:
        run_ids: the ids of the runs, in the order of the columns.
        experiment_id: the id of their experiment.

    Returns:
        A path that begins with `/#/compare-runs`, escaped so that it can stand in Markdown.
    """
    runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (list(run_ids), [experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}"


def comparison(run_ids: Sequence[str], what: str, experiment_id: str) -> str:
    """A paragraph that links to the comparison of these runs; empty with fewer than two of them."""
    if len(run_ids) < 2:
        return ""
    shown, total = run_ids[:_COMPARABLE], len(run_ids)
    which = f"the {total} {what}" if total == len(shown) else f"the first {len(shown)} of {total} {what}"
    return f"\n\n[Compare {which}]({comparison_link(shown, experiment_id)})"


def metric_key(name: str) -> str:
    """The nearest name that MLflow accepts: `model@distill.teacher` becomes `model_distill.teacher`."""
    plain = re.sub(r"[^/\w.\- ]", "_", name.lstrip("+~"))
    return posixpath.normpath(plain).lstrip("./")[:_KEY_LIMIT] or "_"


def run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with names and values cut to MLflow's limits."""
    source = {"mlflow.source.name": "sweep", "mlflow.source.type": "LOCAL"}
    return {name[:_KEY_LIMIT]: value[:TAG_LIMIT] for name, value in {**source, **tags}.items()}


def run_params(params: Mapping[str, str]) -> list[Param]:
    """The parameters with names that MLflow accepts, and values cut to its limit."""
    from mlflow.entities import Param

    named = {metric_key(name): value[:_PARAM_LIMIT] for name, value in params.items()}
    return [Param(name, value) for name, value in named.items()]


def run_metrics(record: TrialRecord, timestamp: int) -> list[Metric]:
    """The trial's metrics, and its learning curves with one step an epoch."""
    from mlflow.entities import Metric

    metrics = [Metric(metric_key(name), float(value), timestamp, 0) for name, value in record.metrics.items()]
    for stage, curves in record.curves.items():
        for name, values in curves.items():
            metrics += [
                Metric(metric_key(f"{stage}/{name}"), float(value), timestamp, epoch) for epoch, value in enumerate(values)
            ]
    return metrics


def log_dataset(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Logs the data set as the run's input, if the tags name it."""
    if "dataset" not in tags or "data_hash" not in tags:
        return
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    name, content = tags["dataset"], tags["data_hash"]
    dataset = Dataset(name, content[:_DIGEST], "code", json.dumps({"tags": {"data_hash": content}}))
    inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:  # a race: another process logged this data set between MLflow's lookup and its insert
        client.log_inputs(run_id, inputs)
