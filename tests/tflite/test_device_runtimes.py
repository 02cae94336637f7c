"""TFLM and Vela in subprocesses, on real files: their results, and the errors of failed and crashed processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_files import by_hand, edited, tiny

from sweep.tflite import external, litert, tflm, vela

FILES = Path(__file__).parents[1] / "corpus" / "tflite"
HIGH_END = ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
needs_tflm = pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")
needs_vela = pytest.mark.skipif(not external.installed(vela.MODULE), reason="the extra ethos-u is not installed")
PRINTED = """
import sys
from tflite_micro.python.tflite_micro.runtime import Interpreter
Interpreter.from_file(sys.argv[1], arena_size=3_000_000).print_allocations()
"""


def content(name: str) -> bytes:
    return (FILES / f"{name}.tflite").read_bytes()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGFPE)", "X died of signal 8, SIGFPE"),
        (
            "import os, sys; print('no operator SIN', file=sys.stderr, flush=True); os.abort()",
            "X died of signal 6, SIGABRT: no operator SIN",
        ),
        ("raise RuntimeError('of a kind')", "X failed: RuntimeError: of a kind"),
        (
            "import sys; print('Warning: a default', 'one', 'two', sep=chr(10), file=sys.stderr); sys.exit(3)",
            "X failed: one; two",
        ),
        ("import sys; sys.exit(3)", "X failed with exit code 3"),
        (
            "import sys, time; print('began', file=sys.stderr, flush=True); time.sleep(60)",
            "X took more than 1 s: began",
        ),
    ],
)
def test_the_error_of_a_process_is_one_line(code, message):
    with pytest.raises(external.ProgramError) as refusal:
        external.run("X", ["-c", code], 1)
    assert str(refusal.value) == message


def test_the_output_of_a_process_is_returned():
    assert external.run("X", ["-c", "import sys; print('out'); print('err', file=sys.stderr)"], 10) == "out\nerr\n"


def test_a_module_that_is_none_in_sys_modules_is_not_installed(monkeypatch):
    assert external.installed("json")
    monkeypatch.setitem(sys.modules, "json", None)
    assert not external.installed("json")
    assert not external.installed("no_such_module")
    assert external.version("no-such-distribution") == ""


@needs_tflm
@pytest.mark.parametrize("name", ["float32", "int8", "int4"])
def test_the_arena_equals_the_output_of_print_allocations(name):
    process = subprocess.run(
        [sys.executable, "-c", PRINTED, str(FILES / f"{name}.tflite")], capture_output=True, text=True, check=True
    )
    total, head, tail = (
        int(re.search(rf"Arena allocation {part} (\d+) bytes", process.stderr)[1]) for part in ("total", "head", "tail")
    )
    assert tflm.arena(content(name)) == tflm.Arena(total, head, tail)
    assert total == head + tail > 1000


@needs_tflm
def test_the_arena_grows_where_it_is_too_small(monkeypatch):
    monkeypatch.setattr(tflm, "_ARENAS", (1 << 9, 1 << 20))
    assert tflm.arena(content("int8")).total > 1 << 9
    monkeypatch.setattr(tflm, "_ARENAS", (1 << 9,))
    with pytest.raises(tflm.TflmError, match="failed to allocate tensors"):
        tflm.arena(content("int8"))


@needs_tflm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("float16", r"^TFLM failed: .*Node DEQUANTIZE \(number 0\) failed to prepare.*failed to allocate tensors$"),
        ("sparse", r"^TFLM failed: Didn't find op for builtin opcode 'DENSIFY'.*failed to allocate tensors$"),
        ("cut", "^TFLM (failed|died)"),
    ],
)
def test_the_error_of_tflm_is_one_line(name, message):
    with pytest.raises(tflm.TflmError, match=message) as refusal:
        tflm.arena(content(name))
    assert "\n" not in str(refusal.value)


@needs_tflm
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_tflm_predicts_the_classes_of_litert(kind):
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1), np.uint8)
    arena, classes = tflm.predict(tiny(kind), images)
    expected = by_hand(tiny(kind), images).argmax(axis=1)
    assert len(set(expected.tolist())) > 1
    assert np.mean(classes == expected) >= 0.95
    assert arena == tflm.arena(tiny(kind))


@needs_tflm
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_raw_outputs_have_the_output_type_and_equal_those_of_litert(kind):
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1), np.uint8)
    network, outputs = litert.Network(tiny(kind)), tflm.raw_outputs(tiny(kind), images)
    assert (outputs.shape, outputs.dtype.name.upper()) == ((40, 3), kind)
    np.testing.assert_allclose(network.dequantised(outputs), network.predict(images / np.float32(255)), atol=1e-5)


@needs_tflm
def test_random_outputs_use_every_input_and_output():
    def two_inputs_and_outputs(graph):
        graph.inputs, graph.outputs = [0, 2], [3, 3]  # the bias becomes an input

    file = edited(tiny("INT8"), two_inputs_and_outputs)
    outputs = tflm.random_outputs(file, 5)
    assert outputs[::2] == outputs[1::2]
    assert len(set(outputs)) > 1
    assert tflm.random_outputs(file, 5) == outputs
    assert tflm.random_outputs(file, 5, seed=1) != outputs
    assert tflm.random_outputs(tiny("INT8"), 5) != outputs[::2]


def test_random_outputs_without_tflm_are_an_error(monkeypatch):
    monkeypatch.setattr(tflm, "MODULE", "no_such_module")
    with pytest.raises(tflm.TflmError, match="the package tflite-micro is not installed"):
        tflm.random_outputs(tiny("INT8"), 1)


def test_the_process_imports_neither_this_project_nor_tensorflow():
    if not external.installed(tflm.MODULE):
        pytest.skip("the extra tflm is not installed")
    code = (
        "import runpy, sys; from pathlib import Path; from tempfile import mkdtemp; folder = Path(mkdtemp());"
        f"(folder / 'network.tflite').write_bytes(Path({str(FILES / 'int8.tflite')!r}).read_bytes());"
        f"ended = runpy.run_path({tflm.tflm_process.__file__!r})['main'](folder, 1 << 20);"
        "print(ended, [name for name in sys.modules if name.split('.')[0] in ('sweep', 'tensorflow', 'ai_edge_litert')])"
    )
    assert external.run("it", ["-P", "-c", code], 60).splitlines()[0] == "0 []"


@needs_vela
def test_vela_compiles_an_integer_file():
    compiled = vela.compiled(content("int8"), *HIGH_END)
    assert compiled.content[4:8] == b"TFL3"
    assert compiled.content != content("int8")
    assert (compiled.npu_operators, compiled.cpu_operators, compiled.fallbacks) == (4, 0, ())
    assert compiled.sram_bytes > 0
    assert 0 < compiled.ms < 1
    assert compiled == vela.compiled(content("int8"), *HIGH_END)


@needs_vela
def test_vela_lists_the_operators_on_the_cpu():
    compiled = vela.compiled(content("float16"), *HIGH_END)
    assert (compiled.npu_operators, compiled.cpu_operators) == (0, 8)
    assert "DEQUANTIZE: Unsupported opType" in compiled.fallbacks
    unsupported = "DEPTHWISE_CONV_2D: Operation has tensor with unsupported DataType"
    assert any(line.startswith(unsupported) for line in compiled.fallbacks)


@needs_vela
@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("int4", "Shared_Sram", "Vela died of signal 8, SIGFPE"),
        ("int8", "Dedicated_Sram", "Vela failed: .*Invalid configuration of arena_mem_area=OffChipFlash"),
    ],
)
def test_the_error_of_vela_is_one_line(name, mode, message):
    with pytest.raises(vela.VelaError, match=message):
        vela.compiled(content(name), *HIGH_END[:2], mode)
