"""The networks of a plan with random weights, and their files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.compress.quantize.integer import Integer
from sweep.core.errors import ConfigError
from sweep.core.types import Arrays, Checkpoint, Data, Spec, Split
from sweep.models import random_weights
from sweep.pipeline import sources
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.tflite import audit, convert

_CALIBRATION_IMAGES = 4  # of an untrained network


@dataclass(frozen=True, eq=False)
class Untrained:
    """The student and other networks with random weights.

    Args:
        plan: the plan.
        data: its data.
        converter: makes files.
        memo: the stage cache.
    """

    plan: Plan
    data: Data
    converter: Converter
    memo: Memo

    def facts(self, model: Spec) -> audit.Audit:
        """The audit of the float32 file of a network with random weights.

        Raises:
            ConfigError: without a key, for a network that cannot be converted.
        """
        try:
            return audit.read(self.converter.float_file(self.network(model)))
        except (convert.ExportError, audit.AuditError) as error:
            raise ConfigError("", "a network that becomes a .tflite file", str(error)) from error

    def file(self) -> tuple[bytes, str]:
        """The student's file in the format of the plan, and the reason why there is none; one of the two is empty.

        Quantisations that make the same kind of file share one attempt.
        """
        plan, data = self.plan, self.data
        form, bits = plan.quant.tried() if isinstance(plan.quant, Integer) else plan.quant, None
        if isinstance(form, Integer):
            bits = [form.bits, form.per_layer_bits, form.first_last_bits]

        def attempt() -> Arrays:
            few = Split(data.train.images[:_CALIBRATION_IMAGES], data.train.labels[:_CALIBRATION_IMAGES])
            content, refusal = self.converter.tried(self.network(), form, few)
            return {"tflite": np.frombuffer(content, np.uint8), "refusal": np.array(refusal)}

        key = {
            "untrained file of": plan.model,
            "form": type(form).__qualname__,
            "activations": form.activations,
            "bits": bits,
            "packed": [form.sparse, form.strip],
            "input_shape": data.input_shape,
            "classes": data.classes,
            "kernels": kernels(),
            "code": sources.behind(plan.model, form, Converter, random_weights).digest,
        }
        arrays = self.memo.arrays(key, attempt)
        return arrays["tflite"].tobytes(), str(arrays["refusal"])

    def network(self, spec: Spec | None = None) -> Checkpoint:
        """A network with random weights; the student by default."""
        return random_weights.network(spec or self.plan.model, self.data.input_shape, self.data.classes, self.plan.seed)
