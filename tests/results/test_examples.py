"""The record of an image that a file classifies right: back as it was written, and damaged ones named."""

from __future__ import annotations

import json

import pytest

from sweep.core.errors import ConfigError
from sweep.results import examples

FOUND = examples.Example(17, 3, bytes(range(256)), b"\x00\xff")


def test_an_example_is_read_back_as_it_was_written(tmp_path):
    assert examples.read(tmp_path, b"file") is None
    (tmp_path / "example.json").write_text(json.dumps(FOUND.record(b"file")))
    assert examples.read(tmp_path, b"file") == FOUND


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "0"}, "example.json: sha256: expected 3b9c358f36f0a31b6ad3e14f309c7cf198ac9246e8316f9ce543d5b19ac02b80"),
        ({"sha256": None}, "sha256: expected a text"),
        ({"label": "3"}, "label: expected an integer; received 3"),
        ({"number": 1.5}, "number: expected an integer"),
        ({"input": "a"}, "input: expected bytes in base64; received a"),
        ({"output": "a!=="}, "output: expected bytes in base64"),
        ({"output": "é"}, "output: expected bytes in base64"),
        ({"output": 1}, "output: expected a text"),
    ],
)
def test_a_damaged_example_is_named(tmp_path, change, told):
    (tmp_path / "example.json").write_text(json.dumps(FOUND.record(b"file") | change))
    with pytest.raises(ConfigError, match="example") as error:
        examples.read(tmp_path, b"file")
    assert told in str(error.value)
