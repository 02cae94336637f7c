"""Runs a `.tflite` file with LiteRT, from pixels to logits.

A copy of this file is the loader of each model that is logged to MLflow. Therefore it imports numpy and LiteRT, and nothing of
the project.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt


class Network:
    """A LiteRT interpreter with one thread and the default XNNPACK delegate.

    Args:
        content: the bytes of a file from images to a row of logits each. A larger batch size is changed to 1.

    Attributes:
        shape: (1, height, width, channels) of the input tensor.
        classes: the number of logits.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run, here or in a later method.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = _interpreter(content)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"expected one input and one output, found {len(inputs)} and {len(outputs)}")
        batch_size, *shape = (int(length) for length in inputs[0]["shape"])
        if batch_size != 1:
            self._interpreter.resize_tensor_input(inputs[0]["index"], [1, *shape])
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input, self._output = inputs[0], outputs[0]
        self.shape = (1, *shape)
        self.classes = int(np.prod(self._output["shape"]))
        self._lock = Lock()  # MLflow's scoring server predicts in several threads, and an interpreter has one input buffer

    def quantised(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pixels in the type of the input tensor: unchanged, or quantised with its scale and zero point.

        Args:
            pixels: float32 of any shape, real values: in [0, 1] for files of this project.

        Returns:
            The same shape, of the input tensor's type. Integers are rounded half to even and clipped. A uint8 input without a
            scale has a scale of 1.

        Raises:
            ValueError: for a signed integer input tensor without a scale.
        """
        dtype, (scale, zero_point) = np.dtype(self._input["dtype"]), self._input["quantization"]
        if np.issubdtype(dtype, np.floating):
            return pixels.astype(dtype)
        if dtype == np.uint8 and scale == 0:
            scale = 1.0
        if not scale > 0:
            raise ValueError(f"expected a quantised input tensor, found {dtype} with scale {scale}")
        limits = np.iinfo(dtype)
        grid: npt.NDArray[Any] = np.clip(np.round(pixels / np.float32(scale) + zero_point), limits.min, limits.max)
        return grid.astype(dtype)

    def feed(self, image: npt.NDArray[Any]) -> None:
        """Sets the input to an image (1, height, width, channels) of the input tensor's type."""
        self._interpreter.set_tensor(self._input["index"], image)

    def invoke(self) -> None:
        """Runs the network once."""
        self._interpreter.invoke()

    def output(self) -> npt.NDArray[Any]:
        """The raw output: (1, classes) of the output tensor's type."""
        raw: npt.NDArray[Any] = self._interpreter.get_tensor(self._output["index"])
        return raw.reshape(1, -1)

    def dequantised(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Dequantises raw outputs with the output tensor's scale and zero point, to float32; a float output stays as it is."""
        values, (scale, zero_point) = raw.astype(np.float32), self._output["quantization"]
        integers = np.issubdtype(self._output["dtype"], np.integer)
        return (values - zero_point) * np.float32(scale) if integers and scale > 0 else values

    def predict(self, data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The logits of images, which run one at a time.

        Args:
            data: float32 (n, height, width, channels), pixels divided by 255.

        Returns:
            float32 (n, classes), dequantised where the file's output is an integer.

        Raises:
            ValueError: for pixels outside [0, 1].
            RuntimeError: for a file that LiteRT cannot run.
        """
        if data.size and not (data.min() >= 0 and data.max() <= 1):
            raise ValueError(f"expected pixels in [0, 1]; received {data.min():g} to {data.max():g}")
        logits = np.empty((len(data), self.classes), np.float32)
        with self._lock:
            for row, image in zip(logits, self.quantised(data), strict=True):
                self.feed(image[np.newaxis])
                self.invoke()
                row[:] = self.output()[0]
        return self.dequantised(logits)


def output_ranges(content: bytes, data: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The minimum and the maximum of each output of a file over all images.

    Args:
        content: the bytes of a file with one input, of batch size 1, and any number of float32 outputs.
        data: float32 (n, height, width, channels), n >= 1.

    Returns:
        The minima and the maxima, float32 (outputs,) each.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run on these images.
    """
    interpreter = _interpreter(content)
    input_index = interpreter.get_input_details()[0]["index"]
    outputs = [output["index"] for output in interpreter.get_output_details()]
    lows, highs = np.full(len(outputs), np.inf, np.float32), np.full(len(outputs), -np.inf, np.float32)
    for image in data:
        interpreter.set_tensor(input_index, image[np.newaxis])
        interpreter.invoke()
        values = [interpreter.get_tensor(index) for index in outputs]
        np.minimum(lows, [value.min() for value in values], out=lows)
        np.maximum(highs, [value.max() for value in values], out=highs)
    return lows, highs


def random_outputs(content: bytes, count: int, seed: int = 0) -> list[bytes]:
    """The hashes of a file's outputs for random inputs of its own types and shapes. A dynamic dimension has the length 1.

    Args:
        content: the bytes of a file with any inputs and outputs, and any number of signatures.
        count: the number of runs of the main graph, and of each of several signatures.
        seed: the seed of the inputs.

    Returns:
        The SHA-256 of each output, in order.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run, or with inputs or outputs that are not numeric.
    """
    interpreter, generator = _interpreter(content), np.random.default_rng(seed)
    hashes = []
    for _ in range(count):
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], random_input(generator, details))
        interpreter.invoke()
        hashes += [_digest(interpreter.get_tensor(details["index"])) for details in interpreter.get_output_details()]
    signatures = interpreter.get_signature_list()
    for key in sorted(signatures) if len(signatures) > 1 else ():
        runner = interpreter.get_signature_runner(key)
        for _ in range(count):
            inputs = {name: random_input(generator, details) for name, details in sorted(runner.get_input_details().items())}
            hashes += [_digest(output) for _, output in sorted(runner(**inputs).items())]
    return hashes


def random_input(generator: np.random.Generator, details: dict[str, Any]) -> npt.NDArray[Any]:
    """Draws a random input: normal floats, uniform integers of 8 or 16 bits, 0 or 1 for wider ones, which may be indices.

    Args:
        generator: the random number generator.
        details: the `shape` and the `dtype` of the input, as in the details of an interpreter.

    Raises:
        ValueError: for a type that is not numeric.
    """
    shape, dtype = details["shape"], np.dtype(details["dtype"])
    values: npt.NDArray[Any]
    if dtype.kind == "f":
        values = generator.standard_normal(shape)
    elif dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize > 2):
        values = generator.integers(0, 2, shape)
    elif dtype.kind in "iu":
        values = generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True)
    else:
        raise ValueError(f"expected inputs that are numbers, found {details['dtype']}")
    return values.astype(dtype)


def _digest(output: npt.NDArray[Any]) -> bytes:
    if output.dtype.kind not in "fbiuc":
        raise ValueError(f"expected outputs that are numbers, found {output.dtype}")
    return hashlib.sha256(output.tobytes()).digest()


def _interpreter(content: bytes) -> Any:
    """An interpreter with one thread and allocated tensors."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _load_pyfunc(path: str) -> Network:
    """Loads the logged file. MLflow calls this function by its name."""
    return Network(Path(path).read_bytes())
