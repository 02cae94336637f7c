"""MLPerf Tiny's files: their packed sizes, and that their outputs in LiteRT and TFLM are unchanged."""

from __future__ import annotations

import hashlib

import pytest
from conftest import public_model

from sweep.core import isolated
from sweep.tflite import audit, litert, tflm
from sweep.tflite.minimize import lossless

SIZES = {
    # Bytes with names and without.
    "mlperf_tiny_image_classification_int8.tflite": (89_458, 85_946),
    "mlperf_tiny_keyword_spotting_int8.tflite": (38_516, 32_660),
}
INPUTS = 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("strip", [False, True])
def test_a_public_file_is_smaller_and_its_outputs_are_unchanged(name, strip):
    content = public_model(name).read_bytes()
    packed = lossless.packed(content, strip=strip)
    assert len(packed) <= SIZES[name][strip]
    assert audit.same(audit.read(content), audit.read(packed))
    outputs = litert.random_outputs(content, INPUTS)
    assert len(set(outputs)) > 50, "most outputs are distinct"
    assert litert.random_outputs(packed, INPUTS) == outputs
    expected, actual = (isolated.call(tflm.random_outputs, file, INPUTS, seconds=300) for file in (content, packed))
    assert len(expected) == len(outputs) == INPUTS
    assert hashlib.sha256(b"".join(actual)).digest() == hashlib.sha256(b"".join(expected)).digest()
