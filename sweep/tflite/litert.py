"""One `.tflite` file, run by LiteRT: pixels in, logits out.

`measure` runs files with it, and every model that `track` hands to MLflow carries a copy of this file as its loader. So it
needs numpy and LiteRT and nothing else of the project. It measures nothing, and what a file holds is the business of `audit`.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt


class Network:
    """One interpreter of one thread (with LiteRT's default XNNPACK delegate).

    Args:
        content: the file's bytes: one image in, one row of logits out.

    Attributes:
        shape: (1, height, width, channels) of the input tensor.
        classes: how many logits an image gets.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run, each from the method that finds out.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = _interpreter(content)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"expected one input and one output, found {len(inputs)} and {len(outputs)}")
        self._input, self._output = inputs[0], outputs[0]
        self.shape = tuple(int(length) for length in self._input["shape"])
        self.classes = int(self._output["shape"][-1])
        self._lock = Lock()  # MLflow's scoring server predicts in several threads, and an interpreter holds one image

    def quantised(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the input tensor takes for pixels: themselves, or on its integer grid, rounded half to even and clipped.

        Args:
            pixels: float32 of any shape, in [0, 1].
        """
        dtype, (scale, zero_point) = np.dtype(self._input["dtype"]), self._input["quantization"]
        if np.issubdtype(dtype, np.floating):
            return pixels.astype(dtype)
        if not scale > 0:
            raise ValueError(f"expected a quantised input tensor, found {dtype} with scale {scale}")
        limits = np.iinfo(dtype)
        grid: npt.NDArray[Any] = np.clip(np.round(pixels / np.float32(scale) + zero_point), limits.min, limits.max)
        return grid.astype(dtype)

    def feed(self, image: npt.NDArray[Any]) -> None:
        """Set the input from (1, height, width, channels) of the input tensor's type."""
        self._interpreter.set_tensor(self._input["index"], image)

    def invoke(self) -> None:
        """Run the network once."""
        self._interpreter.invoke()

    def answer(self) -> npt.NDArray[Any]:
        """The raw output: (1, classes) of the output tensor's type."""
        raw: npt.NDArray[Any] = self._interpreter.get_tensor(self._output["index"])
        return raw

    def predict(self, data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The logits of images, each run by itself, so that they do not depend on what else is in the batch.

        Args:
            data: float32 (n, height, width, channels), pixels divided by 255.

        Returns:
            float32 (n, classes); of an integer file its answer in real numbers.

        Raises:
            ValueError: for pixels outside [0, 1], which the network has never seen, and as the class says.
        """
        if data.size and not (data.min() >= 0 and data.max() <= 1):
            raise ValueError(f"expected pixels in [0, 1]; received {data.min():g} to {data.max():g}")
        logits = np.empty((len(data), self.classes), np.float32)
        with self._lock:
            for row, image in zip(logits, self.quantised(data), strict=True):
                self.feed(image[np.newaxis])
                self.invoke()
                row[:] = self.answer()[0]
        scale, zero_point = self._output["quantization"]
        return logits if np.issubdtype(self._output["dtype"], np.floating) else (logits - zero_point) * np.float32(scale)


def extremes(content: bytes, data: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The smallest and the largest value of each output of a file over all images, each run by itself.

    Args:
        content: the bytes of a file with one input of one image, and any number of float32 outputs.
        data: float32 (n, height, width, channels), at least one.

    Returns:
        Two of float32 (outputs,).

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run on these images.
    """
    interpreter = _interpreter(content)
    taken, at = interpreter.get_input_details()[0]["index"], [one["index"] for one in interpreter.get_output_details()]
    lows, highs = np.full(len(at), np.inf, np.float32), np.full(len(at), -np.inf, np.float32)
    for image in data:
        interpreter.set_tensor(taken, image[np.newaxis])
        interpreter.invoke()
        values = [interpreter.get_tensor(index) for index in at]
        np.minimum(lows, [value.min() for value in values], out=lows)
        np.maximum(highs, [value.max() for value in values], out=highs)
    return lows, highs


def _interpreter(content: bytes) -> Any:
    """Of one thread, ready to run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _load_pyfunc(path: str) -> Network:
    """The name that MLflow looks up in a model's loader: the network of the file that it kept."""
    return Network(Path(path).read_bytes())
