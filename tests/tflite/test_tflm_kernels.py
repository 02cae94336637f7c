"""The requirements of a file on TFLM, against the symbols and the interpreter of the pinned package."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ai_edge_litert.schema_py_generated import BuiltinOperator
from conftest import CONF
from made_files import tflite, tiny

from sweep.reporting.firmware import Arena
from sweep.tflite import flatbuffer, tflm_kernels

STUB = CONF.parent / "tests" / "tflm_stub" / "tensorflow" / "lite" / "micro" / "micro_mutable_op_resolver.h"
CORPUS = sorted((CONF.parent / "tests" / "corpus" / "tflite").glob("*.tflite"))
RUN = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=int(sys.argv[2]))
details = interpreter.get_input_details(0)
interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
interpreter.invoke()
interpreter.print_allocations()
"""


def runtime() -> Path:
    """TFLM's library in the package `tflite-micro`, or a skip where that is not installed."""
    package = importlib.util.find_spec("tflite_micro")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tflite-micro is not installed")
    return Path(next(iter(package.submodule_search_locations)), "python", "tflite_micro", "_runtime.so")


def test_the_kernels_are_those_of_the_pinned_package():
    registered = {name.decode() for name in re.findall(rb"Register_([A-Z0-9_]+)Ev", runtime().read_bytes())}
    assert registered.intersection(vars(BuiltinOperator)) == tflm_kernels.KERNELS


def test_every_method_has_the_name_that_the_resolver_declares():
    declared = re.findall(r"STUB_METHOD\((\w+)\)$", STUB.read_text(), re.MULTILINE)
    assert len(declared) == 100
    assert {tflm_kernels.method(operator) for operator in tflm_kernels.KERNELS} == {f"Add{name}" for name in declared}


def test_the_operators_the_tensors_and_the_missing_operators():
    needs = tflm_kernels.needs(tiny("INT8"))
    assert needs.operators == ("FULLY_CONNECTED",)
    assert (needs.inputs, needs.outputs) == ((tflm_kernels.Tensor("INT8", 4),), (tflm_kernels.Tensor("INT8", 3),))
    assert needs.missing == ()
    (sparse,) = (path for path in CORPUS if path.name == "sparse.tflite")
    assert tflm_kernels.needs(sparse.read_bytes()).missing == ("DENSIFY",)
    with pytest.raises(flatbuffer.DamagedError):
        tflm_kernels.needs(b"x" * 100)


def run(path: Path, arena: int) -> tuple[int, str]:
    process = subprocess.run([sys.executable, "-c", RUN, path, str(arena)], capture_output=True, text=True, check=False)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize("name", ["int8", "float32", "int4", "tiny"])
def test_a_file_runs_in_the_arena_that_an_export_gives_it(tmp_path, name):
    """A network with small activations does not run in the reported arena, since planning needs more."""
    runtime()
    content = tflite() if name == "tiny" else (CORPUS[0].parent / f"{name}.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(content)
    code, output = run(tmp_path / "model.tflite", 1_000_000)
    assert code == 0, output
    used = int(re.findall(r"Arena allocation total (\d+) bytes", output)[0])
    arena = Arena.of(used, tflm_kernels.needs(content))
    assert arena.size % 16 == 0
    assert 256 <= arena.margin <= 1280
    assert run(tmp_path / "model.tflite", arena.size)[0] == 0
    if name in ("int8", "tiny"):
        assert run(tmp_path / "model.tflite", used)[0] != 0
