"""The source that one flashes: it compiles against a stub of TFLM's headers, runs there, and means what the file means."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF
from made_files import by_hand, tiny

from sweep.core.types import Split
from sweep.reporting import firmware
from sweep.results.examples import Example
from sweep.tflite import example, tflm_kernels
from sweep.tflite.tflm_kernels import Needs, Tensor

STUB = CONF.parent / "tests" / "tflm_stub"
STRICT = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{STUB}"]
CORPUS = CONF.parent / "tests" / "corpus" / "tflite"
TFLM = """
import json, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=int(sys.argv[2]))
taken = interpreter.get_input_details(0)
interpreter.set_input(np.array(json.loads(sys.argv[3])).astype(taken["dtype"]).reshape(taken["shape"]), 0)
interpreter.invoke()
print(json.dumps(interpreter.get_output(0).ravel().tolist()))
"""
KINDS = {"INT8": "kTfLiteInt8", "INT16": "kTfLiteInt16", "FLOAT32": "kTfLiteFloat32"}


def shown(content: bytes) -> Example:
    """An image that a tiny file classifies right."""
    images = np.random.default_rng(3).integers(0, 256, (8, 2, 2, 1), np.uint8)
    found = example.widest(content, Split(images, by_hand(content, images).argmax(axis=1)))
    number, label = found["index_and_label"].tolist()
    return Example(number, label, found["input"].tobytes(), found["output"].tobytes())


def written(folder: Path, sources: firmware.Sources) -> Path:
    for name, text in sources.texts.items():
        (folder / name).write_text(text)
    return folder


def built(folder: Path, kind: str, taken: int, given: int) -> Path:
    """The program, linked with the stub's interpreter."""
    tensors = [f"-DSTUB_INPUT_TYPE={KINDS[kind]}", f"-DSTUB_INPUT_BYTES={taken}"]
    tensors += [f"-DSTUB_OUTPUT_TYPE={KINDS[kind]}", f"-DSTUB_OUTPUT_BYTES={given}"]
    subprocess.run([*STRICT, *tensors, "-o", "main", "main.cc"], cwd=folder, check=True)
    return folder / "main"


def answered(program: Path, answer: bytes, **environment: str) -> tuple[int, list[str]]:
    (program.parent / "answer").write_bytes(answer)
    places = {"STUB_INPUT": str(program.parent / "fed"), "STUB_ANSWER": str(program.parent / "answer"), **environment}
    process = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **places}, check=False)
    return process.returncode, process.stdout.splitlines()


@pytest.mark.parametrize("kind", ["INT8", "FLOAT32"])
def test_the_program_feeds_the_image_and_tells_a_right_answer_from_a_wrong_one(tmp_path, kind):
    content = tiny(kind)
    found = shown(content)
    sources = firmware.sources(content, tflm_kernels.needs(content), 1728, found)
    assert set(sources.texts) == {"model.h", "resolver.h", "example.h", "main.cc"}
    assert not sources.absent
    written(tmp_path, sources)
    subprocess.run([*STRICT, "-fsyntax-only", "main.cc"], cwd=tmp_path, check=True)
    program = built(tmp_path, kind, len(found.input), len(found.output))
    code, told = answered(program, found.output)
    assert code == 0
    assert told == [
        "operator: FullyConnected, 0 left",
        "aligned: yes",
        f"arena: {sources.arena.size - 16} of {sources.arena.size} bytes used",
        f"class: {found.label}, expected {found.label}",
        "scores: as expected",
    ]
    assert (tmp_path / "fed").read_bytes() == found.input

    dtype = np.int8 if kind == "INT8" else np.float32
    scores, other = np.frombuffer(found.output, dtype), (found.label + 1) % 3
    step = 1 if kind == "INT8" else 1e-4 * max(1, np.abs(scores).max()) / 4
    for changed, steps, expected in ((other, -4, 0), (other, -5, 1), (found.label, -4, 0), (found.label, -5, 1)):
        near = scores.copy()
        near[changed] = scores[changed] + dtype(steps * 0.999 * step if kind == "FLOAT32" and steps == -4 else steps * step)
        assert answered(program, near.tobytes())[0] == expected
    wrong = np.roll(scores, 1)
    code, told = answered(program, wrong.tobytes())
    assert code == 1
    assert told[-2:] == [f"class: {wrong.argmax()}, expected {found.label}", "scores: further from LiteRT's than the tolerance"]
    if kind == "FLOAT32":
        assert answered(program, np.full(3, np.nan, dtype).tobytes())[0] == 1
    code, told = answered(program, found.output, STUB_SMALL="1")
    assert (code, told[-1]) == (1, f"the tensors cannot be allocated in {sources.arena.size} bytes")
    for sizes in ((len(found.input) + 1, len(found.output)), (len(found.input), len(found.output) - 1)):
        assert answered(built(tmp_path, kind, *sizes), found.output)[0] == 1


@pytest.mark.parametrize("name", ["int8", "int4", "float32"])
def test_tflm_answers_the_embedded_image_within_the_tolerance(tmp_path, name):
    """The arrays of example.h, read back from its text, through TFLM's own interpreter in the arena of resolver.h."""
    pytest.importorskip("tflite_micro")
    content = (CORPUS / f"{name}.tflite").read_bytes()
    needs = tflm_kernels.needs(content)
    images = np.random.default_rng(3).integers(0, 256, (8, 4, 4, 1), np.uint8)
    found = example.widest(content, Split(images, by_hand(content, images).argmax(axis=1)))
    shown = Example(0, int(found["index_and_label"][1]), found["input"].tobytes(), found["output"].tobytes())
    texts = firmware.sources(content, needs, 1840, shown).texts
    arrays = [
        [float(literal.removesuffix("f")) for literal in re.findall(r"[-+.\de]+f?", body)]
        for body in re.findall(r"\] = \{(.*?)\}", texts["example.h"], re.DOTALL)
    ]
    size = re.findall(r"kTensorArenaSize = (\d+)", texts["resolver.h"])[0]
    (tmp_path / "model.tflite").write_bytes(content)
    process = subprocess.run(
        [sys.executable, "-c", TFLM, tmp_path / "model.tflite", size, json.dumps(arrays[0])],
        capture_output=True,
        text=True,
        check=True,
    )
    tolerance = float(re.findall(r"kExampleTolerance = ([\d.e-]+)", texts["example.h"])[0])
    scores = np.array(json.loads(process.stdout.splitlines()[-1]))
    assert np.abs(scores - arrays[1]).max() <= tolerance
    assert scores.argmax() == shown.label


def test_a_file_of_16_bit_activations_is_fed_16_bits(tmp_path):
    scores = np.array([-3000, 32767], np.int16)
    needs = Needs(("CONV_2D", "FULLY_CONNECTED"), (Tensor("INT16", 2),), (Tensor("INT16", 2),), 0)
    found = Example(0, 1, np.array([-1, 300], np.int16).tobytes(), scores.tobytes())
    written(tmp_path, firmware.sources(b"not a multiple of four bytes.", needs, 100, found))
    program = built(tmp_path, "INT16", 4, 4)
    assert answered(program, found.output)[0] == 0
    assert (tmp_path / "fed").read_bytes() == found.input
    assert answered(program, (scores - np.array([32, 32], np.int16)).tobytes())[0] == 0
    assert answered(program, (scores - np.array([33, 0], np.int16)).tobytes())[0] == 1


def test_a_program_that_links_the_array_holds_the_files_bytes(tmp_path):
    content = (CORPUS / "int8.tflite").read_bytes()
    written(tmp_path, firmware.sources(content, tflm_kernels.needs(content), 1728, None))
    (tmp_path / "dump.cc").write_text(
        '#include <cstdio>\n#include "model.h"\n'
        "int main() { return std::fwrite(model_tflite, 1, sizeof model_tflite, stdout) != model_tflite_len; }\n"
    )
    subprocess.run([*STRICT, "-o", "dump", "dump.cc"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "dump"], capture_output=True, check=True).stdout == content


def test_the_names_of_the_classes_are_in_the_array_and_in_what_the_program_says(tmp_path):
    content, names = tiny("INT8"), ('a "b" \\', "??/ crème brûlée", "%s7")
    found = shown(content)
    written(tmp_path, firmware.sources(content, tflm_kernels.needs(content), 1728, found, names))
    code, told = answered(built(tmp_path, "INT8", len(found.input), len(found.output)), found.output)
    assert (code, told[-2]) == (0, f"that is: {names[found.label]}")
    (tmp_path / "names.c").write_text(
        '#include <stdio.h>\n#include "model.h"\n'
        "int main(void) { for (int i = 0; i < model_classes; ++i) puts(model_class_names[i]); return 0; }\n"
    )
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", "names", "names.c"], cwd=tmp_path, check=True)
    process = subprocess.run([tmp_path / "names"], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == list(names)


def test_the_resolver_adds_exactly_the_operators_of_the_file(tmp_path):
    content = (CORPUS / "int8.tflite").read_bytes()
    text = firmware.sources(content, tflm_kernels.needs(content), 1728, None).texts["resolver.h"]
    assert re.findall(r"resolver\.(\w+)\(\)", text) == ["AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddReshape"]
    assert "tflite::MicroMutableOpResolver<4>;" in text
    assert "constexpr std::size_t kTensorArenaSize = 2784;" in text  # 1,728, 800 for planning, 256 to spare
    (tmp_path / "resolver.h").write_text(text)
    (tmp_path / "two.cc").write_text(
        '#include "resolver.h"\n#include "resolver.h"\nint main() { ModelOpResolver r; (void)r; }\n'
    )
    subprocess.run([*STRICT, "-fsyntax-only", "two.cc"], cwd=tmp_path, check=True)


def test_every_operator_that_tflm_has_compiles(tmp_path):
    text = firmware.resolver(b"", sorted(tflm_kernels.KERNELS), firmware.Arena(1, 15))
    (tmp_path / "all.cc").write_text(text + "int main() { ModelOpResolver all; return AddModelOperators(all); }\n")
    subprocess.run([*STRICT, "-o", "all", "all.cc"], cwd=tmp_path, check=True)
    told = subprocess.run([tmp_path / "all"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 100
    assert told[-1] == "operator: ZerosLike, 0 left"


@pytest.mark.parametrize(
    ("change", "arena_bytes", "with_example", "texts", "reason"),
    [
        ({"operators": ("CONV_2D", "DENSIFY")}, 100, True, {"model.h"}, "TensorFlow Lite Micro has no kernel for DENSIFY"),
        ({"operators": ("CUSTOM",)}, 100, True, {"model.h"}, "no kernel for CUSTOM"),
        ({}, None, True, {"model.h"}, "no `arena_bytes`"),
        ({}, 100, False, {"model.h", "resolver.h"}, "no `example.json`"),
        ({"inputs": (Tensor("UINT8", 4),)}, 100, True, {"model.h", "resolver.h"}, "takes and gives UINT8 and INT8"),
        ({"outputs": ()}, 100, True, {"model.h", "resolver.h"}, "more than one input or output"),
    ],
)
def test_what_cannot_run_there_has_no_source_and_the_reason_is_told(change, arena_bytes, with_example, texts, reason):
    content = tiny("INT8")
    needs = replace(tflm_kernels.needs(content), **change)
    sources = firmware.sources(content, needs, arena_bytes, shown(content) if with_example else None)
    assert set(sources.texts) == texts
    assert set(sources.texts) | set(sources.absent) == {"model.h", "resolver.h", "example.h", "main.cc"}
    assert all(reason in text for text in sources.absent.values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": b"123"}, "input: expected the file's 4 bytes; received 3"),
        ({"output": b"1234"}, "output: expected the file's 3 bytes; received 4"),
        ({"label": 7}, "the class of the output; received 7"),
    ],
)
def test_an_example_of_another_file_is_refused(change, told):
    content = tiny("INT8")
    with pytest.raises(ValueError, match=re.escape(told)):
        firmware.sources(content, tflm_kernels.needs(content), 100, replace(shown(content), **change))


def test_floats_are_written_so_that_they_read_back_the_same():
    values = np.array([1 / 3, 0.1, 1, 0, -0.0, 1e-30, 3.4e38, 123456.78], np.float32)
    needs = Needs(("RESHAPE",), (Tensor("FLOAT32", len(values)),), (Tensor("FLOAT32", 2),), 0)
    found = Example(0, 1, values.tobytes(), np.array([0, 2e6], np.float32).tobytes())
    text = firmware.sources(b"", needs, 100, found).texts["example.h"]
    row = text.partition("kExampleInput[8] = {")[2].partition("}")[0]
    literals = [literal.strip() for literal in row.split(",") if literal.strip()]
    assert all(literal.endswith("f") and set(literal) & set(".e") for literal in literals)
    assert np.array([np.float32(literal[:-1]) for literal in literals]).tobytes() == values.tobytes()
    assert "kExampleTolerance = 200.0f;" in text
