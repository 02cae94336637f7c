"""MLPerf Tiny's files: how small they become, and that they answer as before in LiteRT and in TFLM."""

from __future__ import annotations

import hashlib

import pytest
from conftest import public_model

from sweep.core import isolated
from sweep.tflite import audit, litert, tflm
from sweep.tflite.minimize import lossless

MOST = {
    # Bytes with names and without.
    "mlperf_tiny_image_classification_int8.tflite": (89_458, 85_946),
    "mlperf_tiny_keyword_spotting_int8.tflite": (38_516, 32_660),
}
INPUTS = 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", MOST)
@pytest.mark.parametrize("strip", [False, True])
def test_a_public_file_is_smaller_and_answers_the_same(name, strip):
    content = public_model(name).read_bytes()
    packed = lossless.packed(content, strip=strip)
    assert len(packed) <= MOST[name][strip]
    assert audit.same(audit.read(content), audit.read(packed))
    answers = litert.random_outputs(content, INPUTS)
    assert len(set(answers)) > 50, "answers that hardly differ test little"
    assert litert.random_outputs(packed, INPUTS) == answers
    expected, found = (isolated.call(tflm.random_outputs, file, INPUTS, seconds=300) for file in (content, packed))
    assert len(expected) == len(answers) == INPUTS
    assert hashlib.sha256(b"".join(found)).digest() == hashlib.sha256(b"".join(expected)).digest()
