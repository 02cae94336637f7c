"""Converts a network to its `.tflite`: conversion, post-training quantisation, minimisation, and the checks of its outputs."""

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


_COMPARED = 32  # images on which the outputs of a minimised file are compared
# The errors of a network that cannot be converted.
_REFUSALS = (
    convert.ExportError,
    calibrate.RangeError,
    fake_quant.WrappingError,
    equivalence.EquivalenceError,
    audit.AuditError,
)


def kernels() -> str:
    """The CPU kernels that TensorFlow uses, `onednn` or `eigen`: their results differ in the last bit."""
    return "onednn" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1" else "eigen"


@dataclass(frozen=True, eq=False)
class Converter:
    """Makes the files of a plan's networks.

    Args:
        store: the stage cache, for float32 files, which several formats start from.
        data: the images for calibration and comparison.
        seed: the seed of everything random.
        threads: the threads of every TensorFlow operation.
    """

    store: Cache
    data: Data
    seed: int
    threads: int

    def file(self, network: Checkpoint, form: Quantisation) -> bytes:
        """The file of a network, compared in LiteRT alone."""
        checkpoints.fresh(self.seed)
        return self._packed(self._converted(network, form, self.data.train)[0], form)

    def artifact(self, network: Checkpoint, form: Quantisation) -> Arrays:
        """The file of a network with its record.

        Returns:
            `tflite`, the file, and `named`, the file before it was minimised, uint8 (bytes,); `float_accuracy`, the validation
            accuracy of the Keras model.
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
        """Tries to convert a network without bit-widths.

        Args:
            network: the network, trained or not.
            form: the format of the file.
            few: the images for calibration.

        Returns:
            The file and the reason why there is none; one of the two is empty.
        """
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
        """The file of a network before it is minimised, and the Keras model that it must agree with."""
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
        """The float32 file of a float network, which every post-training quantisation of it starts from."""

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
        """The minimised file, its outputs compared in the runtimes."""
        images = self.data.validation.images[:_COMPARED]
        return smallest(content, images, allow_sparse=form.sparse, strip=form.strip, runtimes=runtimes)


def require_equivalent(content: bytes, model: Any, storage: Storage, images: Array | None = None) -> None:
    """Refuses a file whose outputs differ from those of its Keras model by more than the format allows.

    Args:
        content: the bytes of the file.
        model: the Keras model, from float32 images to logits.
        storage: the format of the file.
        images: uint8 (n, height, width, channels), of which the first few are compared. These are the calibration images where
            the model, unlike the file, does not clip activations outside the calibrated ranges. None for random images.

    Raises:
        EquivalenceError: with the largest difference.
    """
    if images is None:
        images = equivalence.images(model.input_shape[1:])
    pixels = images[: equivalence.COUNT] / np.float32(255)
    with native.caught():
        logits = litert.Network(content).predict(pixels)
    equivalence.require(equivalence.CONVERSIONS[storage], model(pixels, training=False).numpy(), logits)
