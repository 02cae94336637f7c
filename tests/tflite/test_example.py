"""The image that a board is checked with."""

from __future__ import annotations

import numpy as np
import pytest
from made_files import by_hand, tiny

from sweep.core.types import Split
from sweep.tflite import example


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_the_correctly_classified_image_with_the_widest_margin(kind):
    content, images = tiny(kind), np.random.default_rng(1).integers(0, 256, (40, 2, 2, 1), np.uint8)
    logits = by_hand(content, images)
    labels = logits.argmax(axis=1)
    labels[::2] = (labels[::2] + 1) % 3  # every other one is wrong
    tensors = example.widest(content, Split(images, labels))
    ordered = np.sort(logits, axis=1)
    margins = np.where(np.arange(40) % 2, ordered[:, -1] - ordered[:, -2], -1)[:32]
    number, label = tensors["index_and_label"].tolist()
    assert margins[number] == margins.max() > 0
    assert label == labels[number]
    pixels = images[number].ravel()
    if kind == "INT8":
        assert tensors["input"].dtype == tensors["output"].dtype == np.int8
        assert np.array_equal(tensors["input"], pixels.astype(np.int16) - 128)
        assert np.allclose((tensors["output"].astype(float) - 5) * np.float32(0.05), logits[number])
    else:
        assert np.array_equal(tensors["input"], pixels / np.float32(255))
        assert np.array_equal(tensors["output"], logits[number])


def test_there_is_no_example_where_no_image_is_classified_correctly():
    content, images = tiny("INT8"), np.zeros((3, 2, 2, 1), np.uint8)
    wrong = (by_hand(content, images).argmax(axis=1) + 1) % 3
    assert not len(example.widest(content, Split(images, wrong))["index_and_label"])
    assert not len(example.widest(content, Split(images[:0], wrong[:0]))["index_and_label"])
