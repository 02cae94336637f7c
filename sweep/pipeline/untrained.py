"""The networks of a plan with random weights, and the files that they become."""

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
from sweep.pipeline.protocols import Quantisation
from sweep.tflite import audit, convert

_CALIBRATION_IMAGES = 4  # of an untrained network


@dataclass(frozen=True, eq=False)
class Untrained:
    """The student and other networks with random weights.

    Args:
        plan: what to do.
        data: its data.
        converter: makes files.
        memo: keeps what was found.
    """

    plan: Plan
    data: Data
    converter: Converter
    memo: Memo

    def facts(self, model: Spec) -> audit.Audit:
        """What the float32 file of the network with random weights holds.

        Raises:
            ConfigError: without a key, for a network that does not become one.
        """
        try:
            return audit.read(self.converter.float_file(self.network(model)))
        except (convert.ExportError, audit.AuditError) as error:
            raise ConfigError("", "a network that becomes a .tflite file", str(error)) from error

    def refusal(self) -> str:
        """Why the student cannot become a file of the form asked for, found with random weights; empty where it can."""
        plan, data = self.plan, self.data
        form, bits = stand_in(plan.quant), None
        if isinstance(form, Integer):
            bits = [form.bits, form.per_layer_bits, form.first_last_bits]

        def attempt() -> Arrays:
            return {"refusal": np.array(self.converter.refusal(self.network(), form, few(data)))}

        key = {
            "refusal of": plan.model,
            "by": type(form).__qualname__,
            "activations": form.activations,
            "bits": bits,
            "input_shape": data.input_shape,
            "classes": data.classes,
            "kernels": kernels(),
            "code": sources.behind(plan.model, form, Converter, random_weights).digest,
        }
        return str(self.memo.arrays(key, attempt)["refusal"])

    def network(self, spec: Spec | None = None) -> Checkpoint:
        """A network, the student where none is given, with random weights."""
        return random_weights.network(spec or self.plan.model, self.data.input_shape, self.data.classes, self.plan.seed)


def few(data: Data) -> Split:
    """The images that an untrained network is calibrated on."""
    return Split(data.train.images[:_CALIBRATION_IMAGES], data.train.labels[:_CALIBRATION_IMAGES])


def stand_in(form: Quantisation) -> Quantisation:
    """A form whose files are of the same kind, for as many forms as there may be."""
    return form.tried() if isinstance(form, Integer) else form
