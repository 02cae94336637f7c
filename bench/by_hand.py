"""The twelve-point sweep as a user would write it with TensorFlow and its model-optimisation toolkit, without this project.

    python bench/by_hand.py DATA.npz RESULTS.json           each point from scratch
    python bench/by_hand.py DATA.npz RESULTS.json --share   a dictionary keeps what points share

A teacher is trained, a student distilled from it inside a custom `train_step` (as in Keras's example of distillation),
pruned with `prune_low_magnitude`, quantised by the converter or with `quantize_annotate_model`, converted from the Keras model,
and measured with the interpreter, image by image. DATA.npz holds the images and labels of the three splits; only the networks'
layers come from the project, so that both sides train the same ones. `speed.py` runs this and says what it is compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
    default_n_bit_quantize_scheme,
)

from sweep.models import families

SPARSITIES = (0.5, 0.7, 0.9)
FORMS = ("none", "ptq", "qat", "qat4")
EPOCHS, PRUNING_EPOCHS, QAT_EPOCHS = 20, 4, 3
BATCH, TEMPERATURE, ALPHA, CALIBRATION = 64, 4.0, 0.1, 128
RATE, QAT_RATE = 0.001, 0.0005


class Distiller(keras.Model):  # type: ignore[misc]
    """The student, with the teacher asked at every step."""

    def __init__(self, student: Any, teacher: Any) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def call(self, images: Any, training: bool = False) -> Any:
        return self.student(images, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        images, labels = data
        soft = tf.nn.softmax(self.teacher(images, training=False) / TEMPERATURE)
        with tf.GradientTape() as tape:
            logits = self.student(images, training=True)
            hard = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            divergence = keras.losses.KLDivergence()(soft, tf.nn.softmax(logits / TEMPERATURE))
            loss = ALPHA * hard + (1 - ALPHA) * TEMPERATURE**2 * divergence
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.accuracy.update_state(labels, logits)
        return {"loss": loss, "accuracy": self.accuracy.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        images, labels = data
        self.accuracy.update_state(labels, self.student(images, training=False))
        return {"accuracy": self.accuracy.result()}


class Script:
    """The stages of one point, and the data."""

    def __init__(self, path: Path, share: bool) -> None:
        with np.load(path) as arrays:
            self.data = {name: arrays[name] for name in arrays.files}
        for split in ("train", "validation", "test"):
            self.data[f"{split}_images"] = self.data[f"{split}_images"] / np.float32(255)
        self.shared: dict[Any, Any] | None = {} if share else None

    def once(self, key: Any, make: Any) -> Any:
        """The result of `make`, kept under `key` where stages are shared."""
        if self.shared is None:
            return make()
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def fit(self, model: Any, epochs: int, rate: float, callbacks: list[Any] | None = None) -> Any:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), None if isinstance(model, Distiller) else loss, metrics=["accuracy"])
        model.fit(
            self.data["train_images"],
            self.data["train_labels"],
            batch_size=BATCH,
            epochs=epochs,
            validation_data=(self.data["validation_images"], self.data["validation_labels"]),
            callbacks=callbacks,
            verbose=0,
        )
        return model

    def fresh(self, spec: Any) -> Any:
        return spec.build(self.data["train_images"].shape[1:], 10)

    def teacher(self) -> Any:
        return self.fit(self.fresh(families.ResNet(blocks=3)), EPOCHS, RATE)

    def student(self) -> Any:
        teacher = self.once("teacher", self.teacher)
        return self.fit(Distiller(self.fresh(families.LeNet5()), teacher), EPOCHS, RATE).student

    def pruned(self, sparsity: float) -> Any:
        student = keras.models.clone_model(source := self.once("student", self.student))
        student.set_weights(source.get_weights())
        steps = -(-len(self.data["train_images"]) // BATCH) * PRUNING_EPOCHS
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, 0, steps, frequency=1)
        model = tfmot.sparsity.keras.prune_low_magnitude(student, pruning_schedule=schedule)
        self.fit(model, PRUNING_EPOCHS, RATE, [tfmot.sparsity.keras.UpdatePruningStep()])
        return tfmot.sparsity.keras.strip_pruning(model)

    def quantised(self, model: Any, form: str) -> Any:
        quantization = tfmot.quantization.keras
        with quantization.quantize_scope():
            annotated = quantization.quantize_annotate_model(keras.models.clone_model(model))
            annotated.set_weights(model.get_weights())
            scheme = (
                default_n_bit_quantize_scheme.DefaultNBitQuantizeScheme(num_bits_weight=4, num_bits_activation=8)
                if form == "qat4"
                else tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
            )
            return self.fit(quantization.quantize_apply(annotated, scheme), QAT_EPOCHS, QAT_RATE)

    def point(self, sparsity: float, form: str) -> dict[str, Any]:
        """One trial: its file's size and accuracies."""
        model = self.once(sparsity, lambda: self.pruned(sparsity))
        if form.startswith("qat"):
            model = self.quantised(model, form)
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if form != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        if form == "ptq":
            images = self.data["train_images"][:CALIBRATION]
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        content = converter.convert()
        accuracies = {f"{split}_accuracy": self.accuracy(content, split) for split in ("validation", "test")}
        return {"sparsity": sparsity, "form": form, "size_bytes": len(content), **accuracies}

    def accuracy(self, content: bytes, split: str) -> float:
        interpreter = Interpreter(model_content=content, num_threads=2)
        interpreter.allocate_tensors()
        taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        images, labels = self.data[f"{split}_images"], self.data[f"{split}_labels"]
        if taken["dtype"] == np.int8:
            scale, zero = taken["quantization"]
            images = np.clip(np.round(images / scale) + zero, -128, 127).astype(np.int8)
        right = 0
        for image, label in zip(images, labels, strict=True):
            interpreter.set_tensor(taken["index"], image[None])
            interpreter.invoke()
            right += int(np.argmax(interpreter.get_tensor(given["index"])[0]) == label)
        return right / len(labels)


def main() -> None:
    """Run the twelve points and write what came out, and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--share", action="store_true", help="keep the teacher, the student and the pruned ones in a dictionary"
    )
    options = parser.parse_args()
    began = time.perf_counter()
    script = Script(options.data, options.share)
    points = []
    for sparsity in SPARSITIES:
        for form in FORMS:
            if not options.share:
                keras.backend.clear_session()
            points.append(script.point(sparsity, form))
            print(f"{time.perf_counter() - began:7.1f} s  {points[-1]}", flush=True)
    options.results.write_text(json.dumps({"seconds": time.perf_counter() - began, "points": points}, indent=1))


if __name__ == "__main__":
    main()
