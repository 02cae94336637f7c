"""One image that a file classifies right, with the file's own input and output: what a board can be checked against."""

from __future__ import annotations

import numpy as np

from sweep.core.types import Arrays, Split
from sweep.tflite import litert

_CANDIDATES = 32


def widest(content: bytes, split: Split) -> Arrays:
    """Of a split's first 32 images the one whose label the file gives by the widest margin, as LiteRT runs it.

    The margin keeps the class when another interpreter's kernels round differently.

    Args:
        content: the file's bytes.
        split: uint8 images, one of the input tensor's size each, and their labels.

    Returns:
        `place`, int64 (2,): the image's number in the split, and its label; `input` and `output`: the tensors as they are, in
        their own types, flat. Empty arrays where no image is classified right.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run.
    """
    network = litert.Network(content)
    table = network.quantised(np.arange(256, dtype=np.float32) / np.float32(255))
    best, found = -1.0, {name: np.empty(0, np.int64) for name in ("place", "input", "output")}
    for number, (image, label) in enumerate(zip(split.images[:_CANDIDATES], split.labels, strict=False)):
        pixels = table.take(image[np.newaxis])
        network.feed(pixels)
        network.invoke()
        output = network.output().ravel()
        others = np.delete(output, label).astype(np.float64)
        margin = float(output[label] - others.max()) if len(others) else 0.0
        if output.argmax() == label and margin > best:
            best, found = margin, {"place": np.array([number, label]), "input": pixels.ravel(), "output": output}
    return found
