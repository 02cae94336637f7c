"""From a network to its `.tflite`: converted or quantised after training, packed, and what it must answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.compress.quantize import fake_quant, ptq, qat
from sweep.core import native
from sweep.core.types import Array, Arrays, Checkpoint, Data, Split, Storage
from sweep.models import checkpoints, equivalence, layer_names
from sweep.pipeline import sources
from sweep.pipeline.cache import Cache
from sweep.tflite import audit, calibrate, convert, expectations, litert
from sweep.tflite.minimize.smallest import Runtime, smallest, with_litert, with_tflm
from sweep.train import loop

if TYPE_CHECKING:
    from sweep.pipeline.protocols import Quantisation


_COMPARED = 32  # images on which a packed file must answer as before
# Why a network cannot become a file.
_REFUSALS = (
    convert.ExportError,
    calibrate.RangeError,
    fake_quant.WrappingError,
    equivalence.EquivalenceError,
    audit.AuditError,
)


def kernels() -> str:
    """Which of TensorFlow's kernels compute on a processor: they differ in the last bit."""
    return "onednn" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1" else "eigen"


@dataclass(frozen=True, eq=False)
class Converter:
    """Makes the files of a plan's networks.

    Args:
        store: where float32 files are, and go: several forms start from one.
        data: calibrates, and says what a file must answer.
        seed: of everything random.
        threads: of every TensorFlow operation.
    """

    store: Cache
    data: Data
    seed: int
    threads: int

    def file(self, network: Checkpoint, form: Quantisation) -> bytes:
        """What the network's file would be."""
        checkpoints.fresh(self.seed)
        return self._packed(self._converted(network, form, self.data.train)[0], form)

    def artifact(self, network: Checkpoint, form: Quantisation) -> Arrays:
        """The network's file.

        Returns:
            `tflite` and, before it was packed, `named`, uint8 (bytes,); its Keras validation accuracy (`float_accuracy`).
        """
        loop.start(self.threads)
        checkpoints.fresh(self.seed)
        named, model = self._converted(network, form, self.data.train)
        return {
            "tflite": np.frombuffer(self._packed(named, form, runtimes=(with_litert, with_tflm)), np.uint8),
            "named": np.frombuffer(named, np.uint8),
            "float_accuracy": np.array(loop.Predictor(model).accuracy(self.data.validation)),
        }

    def tried(self, network: Checkpoint, form: Quantisation, few: Split) -> tuple[bytes, str]:
        """The file of a network without bits, calibrated on `few`, and why it cannot become one: one of the two is empty."""
        layers = checkpoints.kernel_names(network)
        bits = form.layer_bits(layers) if isinstance(form, (ptq.PTQ, qat.QAT)) else dict.fromkeys(layers, 8)
        integers = form.storage is Storage.INTEGER
        network = replace(network, bits=bits) if integers else network
        try:
            content, _ = self._converted(form.ready(network, few), form, few)
            if integers:
                asked = layer_names.in_a_file(network).bits
                expectations.expect(audit.read(content), storage=form.storage, bits=asked, activations=form.activations)
        except _REFUSALS as error:
            return b"", layer_names.with_user_names(str(error), network)
        return self._packed(content, form), ""

    def _converted(self, network: Checkpoint, form: Quantisation, train: Split) -> tuple[bytes, Any]:
        """The network's file before it is packed, and the Keras model that answers as it should."""
        if form.storage is Storage.INTEGER:
            network = layer_names.in_a_file(network)
        model, calibration = form.restore(network, train)
        if form.storage is Storage.FLOAT32:
            return self.float_file(network), model
        if calibration is not None:
            content, images = convert.quantise(self.float_file(network), calibration), calibration.images
        else:
            content, images = convert.convert(model, form.storage, network.bits), None
        require_equivalent(content, model, form.storage, images)
        return content, model

    def float_file(self, network: Checkpoint) -> bytes:
        """The float32 file of a float network: the same for each way to quantise it after training."""

        def make() -> Arrays:
            model = checkpoints.restore(network)
            content = convert.convert(model, Storage.FLOAT32)
            require_equivalent(content, model, Storage.FLOAT32)
            return {"tflite": np.frombuffer(content, np.uint8)}

        key = {
            "float file of": network.fingerprint,
            "threads": self.threads,
            "kernels": kernels(),
            "code": sources.behind(checkpoints, convert, equivalence).digest,
        }
        return self.store.fetch(key, make).arrays["tflite"].tobytes()

    def _packed(self, content: bytes, form: Quantisation, *, runtimes: Sequence[Runtime] = (with_litert,)) -> bytes:
        """The file as small as the form asks for, its outputs compared in these runtimes."""
        images = self.data.validation.images[:_COMPARED]
        return smallest(content, images, sparsely=form.sparse, strip=form.strip, runtimes=runtimes)


def require_equivalent(content: bytes, model: Any, storage: Storage, images: Array | None = None) -> None:
    """Refuse a file that answers otherwise than the Keras model that it was made of.

    Args:
        content: the file.
        model: from float32 images to logits.
        storage: the kind of file.
        images: uint8 (n, height, width, channels), the first few of which are answered: those that set the activations' ranges
            where the model does not cut off what is outside, as the file does. None for random ones.

    Raises:
        EquivalenceError: saying by how much.
    """
    if images is None:
        images = equivalence.images(model.input_shape[1:])
    pixels = images[: equivalence.COUNT] / np.float32(255)
    with native.caught():
        found = litert.Network(content).predict(pixels)
    equivalence.require(equivalence.CONVERSIONS[storage], model(pixels, training=False).numpy(), found)
