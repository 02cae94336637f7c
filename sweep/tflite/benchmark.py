"""Measures the predictions and the latency of a `.tflite` file under LiteRT with its XNNPACK delegate. `audit` counts weights.

Images run one at a time, as on the device. This is also fast: on a ResNet-8 batches of 25 to 500 gained nothing, and halved the
speed of a dynamic-range file. `invoke` releases the GIL, so parallel interpreters use all cores: two interpreters on two free
cores halve the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter_ns

import numpy as np

from sweep.core import native
from sweep.core.measurement import Latency
from sweep.core.types import Array
from sweep.tflite import litert
from sweep.tflite.interface import OWN, Interface

_WARM_UP_NS = 20_000_000
_TOTAL_NS = 500_000_000


class MeasureError(RuntimeError):
    """The interpreter cannot run the file on these images, or an output is NaN."""


def predict(content: bytes, images: Array, threads: int = 1, interface: Interface = OWN) -> Array:
    """Predicts the class of each image: the index of the largest raw output, the first one on a tie.

    Args:
        content: the file's bytes.
        images: uint8 (n, height, width, channels). A float input gets the real values that `interface` assigns to pixels, in
            float32; an integer input gets them quantised: divided by its scale, plus its zero point, rounded half to even and
            clipped.
        threads: the number of interpreters, of one thread each, that share the images; the result does not depend on it.
        interface: the scaling of the input and the meaning of the output.

    Returns:
        int64 (n,).

    Raises:
        MeasureError: for a file that does not run on such images, with the interpreter's reason; for NaN among the outputs.
    """
    shares = [share for share in np.array_split(images, max(1, threads)) if len(share)]
    runners = [_Runner(content, interface) for _ in shares]
    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        classes = pool.map(_Runner.predict, runners, shares)
        return np.concatenate([np.empty(0, np.int64), *classes])


def outputs(content: bytes) -> int:
    """The number of outputs for an image when the file is run; the shapes in the file may differ.

    Raises:
        MeasureError: as `predict`.
    """
    return _Runner(content).outputs


def latency(content: bytes, repeats: int = 200) -> Latency:
    """Times single images on one thread after 20 ms of warm-up, without copying the input and the output.

    Args:
        content: the file's bytes.
        repeats: the number of timed runs, at least 1. After half a second the loop ends earlier, but not before one run: a
            network that takes less than 20 ms gets at least 20 runs.

    Returns:
        The median and the 10th and 90th percentile, in milliseconds.

    Raises:
        MeasureError: for a file that does not run.
    """
    runner = _Runner(content)
    runner.feed(np.random.default_rng(0).integers(0, 256, runner.shape, np.uint8))
    start = perf_counter_ns()
    runner.invoke()
    while perf_counter_ns() - start < _WARM_UP_NS:
        runner.invoke()
    times: list[int] = []
    while not times or (len(times) < repeats and perf_counter_ns() - start < _TOTAL_NS):
        before = perf_counter_ns()
        runner.invoke()
        times.append(perf_counter_ns() - before)
    p10, median, p90 = np.percentile(times, (10, 50, 90)) / 1e6
    return Latency(float(median), float(p10), float(p90))


class _Runner:
    """An interpreter, with a lookup table of the 256 quantised pixel values."""

    def __init__(self, content: bytes, interface: Interface = OWN) -> None:
        self._interface = interface
        with _measure_errors(), native.caught():
            self._network = litert.Network(content)
            self._table = self._network.quantised(interface.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, height, width, channels) of the input tensor."""
        return self._network.shape

    @property
    def outputs(self) -> int:
        """The number of outputs for an image."""
        return self._network.classes

    def feed(self, image: Array) -> None:
        """Sets the input to uint8 (1, height, width, channels)."""
        with _measure_errors():
            self._network.feed(self._table.take(image))

    def invoke(self) -> None:
        """Runs the network once."""
        with _measure_errors():
            self._network.invoke()

    def predict(self, images: Array) -> Array:
        """The class of each image."""
        classes = np.empty(len(images), np.int64)
        for number in range(len(images)):
            self.feed(images[number : number + 1])
            self.invoke()
            output = self._network.output()
            if np.isnan(output).any():
                raise MeasureError("an output of the file is NaN")
            classes[number] = self._interface.classes(output, self._network.dequantised).item()
        return classes


@contextmanager
def _measure_errors() -> Iterator[None]:
    """Turns the exceptions of the interpreter into a MeasureError with a message of one line."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise MeasureError(f"LiteRT cannot run the file: {' '.join(str(error).split())}") from error
