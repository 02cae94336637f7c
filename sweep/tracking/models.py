"""A trial's `.tflite` as an MLflow model, which loads, registers and serves without this project."""

from __future__ import annotations

import math
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweep.core import native
from sweep.tflite import litert, schema

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

_NAME = "model"
"""The model's name within its run: runs:/ID/model."""
_REQUIREMENTS = ("ai-edge-litert", "numpy")
"""The packages that the loader, `sweep.tflite.litert`, imports."""


def log(client: MlflowClient, run_id: str, file: Path) -> str:
    """Logs a file as the MLflow model of an ended run, unless the run has one already.

    The model predicts as `sweep.tflite.litert.Network` does, whose module is part of it. It has the parameters and the finite
    metrics of its run, without the learning curves.

    Returns:
        The model's id.

    Raises:
        ValueError: for a file that is damaged. MLflow's, LiteRT's and the file system's errors pass through.
    """
    run = client.get_run(run_id)
    experiment_id = run.info.experiment_id
    for logged in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{_NAME}'"):
        if logged.status == "READY":
            return str(logged.model_id)
        client.delete_logged_model(logged.model_id)  # left incomplete by an earlier start

    from mlflow.entities import LoggedModelOutput, Metric

    signature = _signature(file)
    model = client.create_logged_model(experiment_id, _NAME, run_id, params=run.data.params)
    with tempfile.TemporaryDirectory() as folder:
        _save(model, file, signature, folder)
        client.log_model_artifacts(model.model_id, folder)
    # With the timestamp of the run's metrics they add no points to the run's curves.
    values = {name: value for name, value in run.data.metrics.items() if "/" not in name and math.isfinite(value)}
    end, model_id = run.info.end_time, str(model.model_id)
    client.log_batch(run_id, [Metric(name, value, end, 0, model_id) for name, value in values.items()])
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    client.finalize_logged_model(model_id, "READY")
    return model_id


def _signature(file: Path) -> ModelSignature:
    """The signature of a `.tflite` for batches of any size, from the tensors of the file.

    Returns:
        float32 (-1, height, width, channels) to float32 (-1, classes).
    """
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    content = file.read_bytes()
    if damage := schema.damage(content):  # LiteRT may crash on a damaged file
        raise ValueError(damage)
    with native.caught():
        network = litert.Network(content)
    shapes = (-1, *network.shape[1:]), (-1, network.classes)
    inputs, outputs = (Schema([TensorSpec(np.dtype(np.float32), shape)]) for shape in shapes)
    return ModelSignature(inputs, outputs)


def _save(model: LoggedModel, file: Path, signature: ModelSignature, folder: str) -> None:
    """Writes the files of an MLflow model: the `.tflite`, its loader, and explicit requirements, so that MLflow infers none."""
    from mlflow.models import Model

    with warnings.catch_warnings():  # MLflow's, about its own type hints
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        from mlflow.pyfunc import save_model

    meta = Model(
        artifact_path=model.artifact_location, run_id=model.source_run_id, model_uuid=model.model_id, model_id=model.model_id
    )
    save_model(
        folder,
        loader_module=litert.__name__.rpartition(".")[2],
        data_path=str(file),
        code_paths=[litert.__file__],
        mlflow_model=meta,
        signature=signature,
        input_example=np.zeros((1, *signature.inputs.inputs[0].shape[1:]), np.float32),
        pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
    )
