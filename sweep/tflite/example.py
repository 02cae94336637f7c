"""A correctly classified image with the input and output tensors of a file, to check a board against."""

from __future__ import annotations

import numpy as np

from sweep.core.types import Arrays, Split
from sweep.tflite import litert

_CANDIDATES = 32


def widest(content: bytes, split: Split) -> Arrays:
    """Finds the correctly classified image with the widest margin among a split's first 32, as LiteRT runs the file.

    The margin is the output of the true class minus the largest other output. A wide margin keeps the class the same in an
    interpreter whose kernels round differently.

    Args:
        content: the bytes of the file.
        split: uint8 images of the size of the input tensor, and their labels.

    Returns:
        `index_and_label`, int64 (2,): the index of the image in the split, and its label; `input` and `output`: the flattened
        tensors, in their own types. Empty arrays where no image is classified correctly.

    Raises:
        RuntimeError, ValueError: for a file that LiteRT cannot run.
    """
    network = litert.Network(content)
    table = network.quantised(np.arange(256, dtype=np.float32) / np.float32(255))
    widest_margin, example = -1.0, {name: np.empty(0, np.int64) for name in ("index_and_label", "input", "output")}
    for index, (image, label) in enumerate(zip(split.images[:_CANDIDATES], split.labels, strict=False)):
        pixels = table.take(image[np.newaxis])
        network.feed(pixels)
        network.invoke()
        output = network.output().ravel()
        others = np.delete(output, label).astype(np.float64)
        margin = float(output[label] - others.max()) if len(others) else 0.0
        if output.argmax() == label and margin > widest_margin:
            widest_margin = margin
            example = {"index_and_label": np.array([index, label]), "input": pixels.ravel(), "output": output}
    return example
