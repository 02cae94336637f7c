"""`sweep.pack`: what it writes and prints, where it refuses, and files that LiteRT cannot run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from conftest import CONF
from made_files import tflite

from sweep import pack
from sweep.tflite import litert
from sweep.tflite.minimize import anyfile, lossless


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite())
    return path


def custom(content: bytes) -> bytes:
    """The file with an operator that LiteRT does not have."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"mine"
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType, operator.builtinOptions = 0, None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(capsys: Any, code: int, *arguments: str | Path) -> str:
    """The one line that the command ends with."""
    assert pack.main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    return line


def printed(capsys: Any) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The bytes of each kind before and after, and the other lines."""
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    rows = [re.fullmatch(r"(\D+?) +([\d,]+) +([\d,]+)(?:  [-+]\d+\.\d %)?", line) for line in lines]
    found = {row[1]: (int(row[2].replace(",", "")), int(row[3].replace(",", ""))) for row in rows if row}
    return found, [line for line, row in zip(lines, rows, strict=True) if not row]


def test_the_command_as_a_user_has_it(file):
    command = [sys.executable, "-m", "sweep", "pack", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONF.parent, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    packed = file.with_name("model.packed.tflite")
    assert done.stdout.splitlines()[-1] == str(packed)
    assert "to the bit, the outputs for 10 random inputs in LiteRT and TFLM" in done.stdout
    assert packed.read_bytes() == lossless.packed(tflite(), strip=False)
    assert file.read_bytes() == tflite()


def test_the_bytes_by_kind_add_up_before_and_after(file, capsys, tmp_path):
    to = tmp_path / "small.tflite"
    assert pack.main([str(file), "--strip", "--to", str(to)]) == 0
    rows, (head, _, path) = printed(capsys)
    assert head.split() == ["bytes", "before", "after"]
    assert path == str(to)
    total = rows.pop("in all")
    assert total == (len(tflite()), to.stat().st_size)
    assert total == tuple(map(sum, zip(*rows.values(), strict=True)))
    assert rows["weights"] == (12, 12)
    assert rows["names"] == (len("in0kernel0bias0out0"), 0)
    assert names(tmp_path) == ["model.tflite", "small.tflite"]


def test_a_file_that_is_as_small_as_it_can_be_is_written_as_it_is(file, capsys, tmp_path):
    file.write_bytes(lossless.packed(tflite(), strip=True))
    assert pack.main([str(file)]) == 0
    rows, lines = printed(capsys)
    assert rows["in all"] == (len(file.read_bytes()), len(file.read_bytes()))
    assert lines[1:] == ["nothing can be left out", str(tmp_path / "model.packed.tflite")]
    assert (tmp_path / "model.packed.tflite").read_bytes() == file.read_bytes()


def test_a_file_that_does_not_run_here_is_proved_to_be_the_same(file, capsys):
    file.write_bytes(custom(tflite()))
    assert pack.main([str(file)]) == 0
    _, (_, proof, _) = printed(capsys)
    assert proof.startswith("all operators, tensors and values are the same; LiteRT could not run it: ")
    assert "mine" in proof


def crashes(content: bytes, count: int) -> list[bytes]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def crashes_on_the_packed(content: bytes, count: int) -> list[bytes]:
    if len(content) < len(tflite()):
        os.kill(os.getpid(), signal.SIGSEGV)
    return []


def fails_on_the_packed(content: bytes, count: int) -> list[bytes]:
    if len(content) < len(tflite()):
        raise ValueError("expected\nthe whole file")
    return []


def differs(content: bytes, count: int) -> list[bytes]:
    return [content]


def test_native_code_that_crashes_does_not_end_the_command(file, capsys, monkeypatch):
    monkeypatch.setattr(anyfile, "RUNTIMES", {"LiteRT": litert.random_outputs, "another": crashes})
    assert pack.main([str(file)]) == 0
    _, (_, proof, _) = printed(capsys)
    assert proof.endswith("random inputs in LiteRT; another could not run it: its process died: signal 11, SIGSEGV")


@pytest.mark.parametrize(
    ("runtime", "line"),
    [
        (crashes_on_the_packed, "error: it runs the file, but not the packed one: its process died: signal 11, SIGSEGV"),
        (fails_on_the_packed, "error: it runs the file, but not the packed one: expected the whole file"),
        (differs, "error: the outputs of the packed file differ in it"),
    ],
)
def test_a_packed_file_whose_outputs_differ_is_not_written(file, capsys, monkeypatch, runtime, line):
    monkeypatch.setattr(anyfile, "RUNTIMES", {"it": runtime})
    assert refused(capsys, 1, file) == line
    assert names(file.parent) == ["model.tflite"]


def test_what_is_no_file_to_pack_is_refused_in_a_line(file, capsys, tmp_path, monkeypatch):
    content = tflite()
    for name, made in (("empty", b""), ("cut.tflite", content[:300]), ("text.txt", b"not a .tflite file")):
        (tmp_path / name).write_bytes(made)
    expected = f"error: {tmp_path}"
    assert refused(capsys, 2, tmp_path / "none") == f"{expected}/none: expected a .tflite file; received nothing"
    assert refused(capsys, 2, tmp_path) == f"{expected}: expected a .tflite file; received a folder"
    assert refused(capsys, 2, "/dev/null") == "error: /dev/null: expected a .tflite file; received something else"
    assert refused(capsys, 2, tmp_path / "empty").endswith("expected a .tflite file of 1 to 2147483647 bytes; received 0 bytes")
    assert "damaged at byte" in refused(capsys, 2, tmp_path / "cut.tflite")
    assert "expected a .tflite file (TFL3 in bytes 4 to 7), found b'a .t'" in refused(capsys, 2, tmp_path / "text.txt")
    with (tmp_path / "huge.tflite").open("wb") as huge:
        huge.truncate(2**31)
    assert refused(capsys, 2, tmp_path / "huge.tflite").endswith("received 2147483648 bytes")


def test_the_file_itself_and_a_place_that_is_not_there_are_refused(file, capsys, tmp_path):
    before = names(tmp_path)
    (tmp_path / "link").symlink_to(file)
    for to in (file, tmp_path / "link"):
        assert refused(capsys, 2, file, "--to", to) == (
            f"error: --to: expected another file than the one that is packed; received {to}"
        )
    for to in (tmp_path, tmp_path / "no" / "x.tflite"):
        assert refused(capsys, 2, file, "--to", to) == f"error: --to: expected a file in a folder that exists; received {to}"
    (tmp_path / "link").unlink()
    assert names(tmp_path) == before
    assert file.read_bytes() == tflite()


def test_a_file_that_cannot_be_written_is_told(file, capsys, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pack.files, "write", full)
    assert "No space left on device" in refused(capsys, 1, file)


def test_no_arguments_and_unknown_ones_are_refused(file, capsys):
    for arguments in ([], [str(file), "--stripp"]):
        with pytest.raises(SystemExit) as stop:
            pack.main(arguments)
        assert stop.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
