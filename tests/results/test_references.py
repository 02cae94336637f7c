"""References: published points as people write them down, and the record of a sweep's."""

from __future__ import annotations

import pytest

from sweep.core.errors import ConfigError
from sweep.results import references
from sweep.results.references import Reference


@pytest.fixture
def written(tmp_path):
    def write(text: str, encoding: str = "utf-8"):
        path = tmp_path / "published.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_points_are_read(written):
    text = 'name,accuracy,bytes,source,macs,latency_ms\r\nA,0.87,98496,"MLPerf, Tiny",12501632,\r\nB ü,1,1e6,2024,,0.5\r\n'
    assert references.published(written(text)) == (
        Reference("A", "MLPerf, Tiny", False, {"test_accuracy": 0.87, "size_bytes": 98496, "macs": 12501632.0}),
        Reference("B ü", "2024", False, {"test_accuracy": 1.0, "size_bytes": 1_000_000, "latency_ms": 0.5}),
    )


def test_a_spreadsheets_mark_and_spaces_change_nothing(written):
    [point] = references.published(written("name, accuracy, bytes, source\nA, 0.5, 100, x\n", "utf-8-sig"))
    assert point == Reference("A", "x", False, {"test_accuracy": 0.5, "size_bytes": 100})


HEAD = "name,accuracy,bytes,source\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ": expected the columns name, accuracy, bytes, source; received no name"),
        ("name,accuracy,bytes\nA,0.5,1\n", ": expected the columns name, accuracy, bytes, source; received no source"),
        ("name,accuracy,bytes,source,ram\nA,0.5,1,x,1\n", "received ram"),
        ("name,accuracy,bytes,source,name\nA,0.5,1,x,1\n", ": expected each column once, out of name,"),
        ("name,accuracy,bytes,source,test_accuracy\nA,0.5,1,x,1\n", "for test_accuracy and size_bytes; received test_acc"),
        (HEAD, ": expected at least one row; received none"),
        (HEAD + "A,86.97,100,x\n", ", row 2: accuracy: expected a fraction in [0, 1]; received '86.97'"),
        (HEAD + "A,87%,100,x\n", ", row 2: accuracy: expected a fraction in [0, 1]; received '87%'"),
        (HEAD + "A,nan,100,x\n", "accuracy: expected a fraction in [0, 1]; received 'nan'"),
        (HEAD + "A,0.5,100,x\nB,0.5,,x\n", ", row 3: bytes: expected a number; received ''"),
        (HEAD + "A,0.5,0,x\n", "bytes: expected a number above 0; received '0'"),
        (HEAD + "A,0.5,96 KiB,x\n", "bytes: expected a number; received '96 KiB'"),
        (HEAD + ",0.5,100,x\n", ", row 2: name: expected a text on one line; received ''"),
        (HEAD + "A,0.5,100,\n", ", row 2: source: expected a text on one line; received ''"),
        (HEAD + '"A\nB",0.5,100,x\n', "name: expected a text on one line"),
        (HEAD + "A,0.5,100\n", ", row 2: expected as many cells as there are columns; received 3"),
        (HEAD + "A,0.5,100,x,y\n", ", row 2: expected as many cells as there are columns; received 5"),
        (HEAD + 'A,0.5,100,"x\n', ": expected a CSV file with the columns"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), ": expected the columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_line(written, text, line):
    path = written(text)
    with pytest.raises(ConfigError) as raised:
        references.published(path)
    told = str(raised.value)
    assert told.startswith(str(path))
    assert line in told
    assert "\n" not in told


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected a CSV file with the columns"):
        references.published(path)
    with pytest.raises(ConfigError, match="expected a CSV file with the columns"):
        references.published(tmp_path / "absent.csv")
    path.write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(ConfigError, match="expected at most 1,048,576 bytes of CSV"):
        references.published(path)


def test_a_record_reads_back(tmp_path):
    beside = (
        Reference("theirs", "theirs.tflite", True, {"val_accuracy": 0.9, "size_bytes": 100}),
        Reference("A", "x", False, {}),
    )
    assert references.read(tmp_path) == ()
    references.write(tmp_path, beside)
    assert references.read(tmp_path) == beside
    references.write(tmp_path, ())
    assert references.read(tmp_path) == ()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"references": 3}', '{"references": [3]}', '{"references": [{"name": "A"}]}',
     '{"references": [{"name": "A", "source": "x", "metrics": {"size_bytes": "large"}}]}'],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / references.RECORD).write_text(text)
    with pytest.raises(ConfigError, match=r"references\.json"):
        references.read(tmp_path)
