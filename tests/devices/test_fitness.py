"""The targets: what each refuses before there is a file, what it measures, and what it says where its package is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sweep.compress.quantize import formats, ptq, qat
from sweep.core.errors import ConfigError
from sweep.core.types import Split
from sweep.devices.ethos_u import EthosU
from sweep.devices.fitness import Unfit
from sweep.devices.litert import LiteRT
from sweep.devices.microcontroller import Microcontroller
from sweep.tflite import external, tflm, vela

FILES = Path(__file__).parents[1] / "corpus" / "tflite"
U55 = EthosU("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
U65 = EthosU("ethos-u65-256", "Ethos_U65_Client_Server", "Dedicated_Sram_384KB")
U85 = EthosU("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB")
needs_tflm = pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed")
needs_vela = pytest.mark.skipif(not external.installed(vela.MODULE), reason="the extra ethos-u is not installed")


def content(name: str) -> bytes:
    return (FILES / f"{name}.tflite").read_bytes()


@pytest.fixture(scope="module")
def split() -> Split:
    """Images of the files in the corpus."""
    from sweep.tflite import litert

    shape = litert.Network(content("int8")).shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    return Split(images, np.arange(30, dtype=np.int64) % 3)


FORMS = {
    "none": formats.Float32(),
    "float16": formats.Float16(),
    "dynamic": formats.Dynamic(),
    "sparse": formats.Float32(sparse=True),
    "ptq": ptq.PTQ(8, 16),
    "ptq 4": ptq.PTQ(4, 16),
    "qat 4, one of 8": qat.QAT(4, 16, finetune=1, learning_rate=0.001, per_layer_bits={"a": 8}),
    "auto": ptq.PTQ(8, 16, per_layer_bits="auto", mean_bits=6),
    "ptq sparse": ptq.PTQ(8, 16, sparse=True),
}
REFUSED = {
    ("litert", ""): None,
    ("tflm", "float16"): "^quant: expected none .*; received float16, whose weights DEQUANTIZE would restore",
    ("tflm", "dynamic"): "^quant: expected none .*; received dynamic, whose CONV_2D and FULLY_CONNECTED",
    ("tflm", "sparse"): r"^quant\.sparse: expected false for this target: TFLM has no DENSIFY",
    ("tflm", "ptq sparse"): r"^quant\.sparse: expected false",
    ("u55", "none"): "^quant: expected ptq or qat: an Ethos-U computes with integers alone; received float32",
    ("u55", "float16"): "^quant: expected ptq or qat",
    ("u55", "dynamic"): "^quant: expected ptq or qat",
    ("u55", "sparse"): "^quant: expected ptq or qat",
    ("u55", "ptq sparse"): r"^quant\.sparse: expected false",
    ("u55", "ptq 4"): r"^quant\.bits: expected 5 to 8 for every layer: Vela crashes on .*; received 4",
    ("u55", "auto"): r"^quant\.per_layer_bits: expected 5 to 8 .*; received auto",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "target"), [("litert", LiteRT()), ("tflm", Microcontroller()), ("u55", U55)])
def test_an_unsupported_form_is_refused(name, target, form):
    if (told := REFUSED.get((name, form))) is None:
        target.require_form(FORMS[form])
        return
    with pytest.raises(ConfigError, match=told):
        target.require_form(FORMS[form])


@needs_tflm
@pytest.mark.parametrize("name", ["float32", "int8", "int4"])
def test_a_microcontroller_measures_memory_and_agreement(name, split):
    metrics = Microcontroller(images=20).measured(content(name), split, 1)
    assert metrics.keys() == {"arena_bytes", "target_agreement"}
    assert metrics["arena_bytes"] == tflm.arena(content(name)).total
    assert 0.9 <= metrics["target_agreement"] <= 1
    assert Microcontroller().rehearsed(content(name)) == {"arena_bytes": metrics["arena_bytes"]}


@needs_tflm
def test_agreement_and_accuracy_are_fractions_of_their_images(split, monkeypatch):
    monkeypatch.setattr(tflm, "predict", lambda content, images, interface: (tflm.Arena(3, 2, 1), np.arange(len(images)) % 3))
    monkeypatch.setattr(
        "sweep.tflite.benchmark.predict", lambda content, images, threads, interface: np.zeros(len(images), int)
    )
    metrics = Microcontroller(images=10, accuracy=True).measured(b"", Split(split.images, np.arange(30) % 2), 1)
    assert metrics == {"arena_bytes": 3, "target_agreement": 0.4, "tflm_accuracy": 1 / 3}


@needs_tflm
def test_the_error_of_a_microcontroller_has_its_reason(split):
    with pytest.raises(Unfit, match="DENSIFY"):
        Microcontroller().rehearsed(content("sparse"))
    with pytest.raises(Unfit, match="DEQUANTIZE"):
        Microcontroller().measured(content("float16"), split, 1)


@needs_vela
@pytest.mark.parametrize("target", [U55, U65, U85], ids=lambda target: target.name)
def test_an_ethos_u_measures_the_estimates_of_vela(target, split):
    metrics = target.measured(content("int8"), split, 1)
    compiled = vela.compiled(content("int8"), target.accelerator, target.system_config, target.memory_mode)
    assert {name: metrics[name] for name in metrics if name != "arena_bytes"} == {
        "npu_bytes": len(compiled.content),
        "npu_sram_bytes": compiled.sram_bytes,
        "npu_ms": compiled.ms,
        "npu_operators": 1.0,
    }
    assert target.rehearsed(content("int8")) == {}


@needs_vela
def test_an_ethos_u_names_the_kernel_of_4_bits_and_the_unsupported_operator():
    with pytest.raises(Unfit, match=r"^the kernel '.*' is stored in 4 bits, on which Vela crashes: set quant\.bits to 5 to 8$"):
        U55.rehearsed(content("int4"))
    with pytest.raises(Unfit, match=r"^Vela leaves every operator to the processor; FULLY_CONNECTED: .+"):
        U55.rehearsed(content("float32"))


def test_litert_measures_the_arena_where_tflm_loads_the_file(split, monkeypatch):
    if external.installed(tflm.MODULE):
        assert LiteRT().measured(content("int8"), split, 1) == {"arena_bytes": tflm.arena(content("int8")).total}
        assert LiteRT().measured(content("float16"), split, 1) == {}
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    assert LiteRT().measured(content("int8"), split, 1) == {}


def test_a_target_that_is_not_installed_is_refused_with_its_extra(monkeypatch):
    LiteRT().check()
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    monkeypatch.setitem(sys.modules, "ethosu", None)
    LiteRT().check()
    with pytest.raises(ConfigError, match=r"the extra tflm, which brings it: pip install -e '\.\[tflm\]'; received no package"):
        Microcontroller().check()
    with pytest.raises(ConfigError, match=r"the extra ethos-u, which brings it: pip install -e '\.\[ethos-u\]'"):
        U55.check()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Microcontroller(ram_kib=0), "^ram_kib: expected a number in"),
        (lambda: Microcontroller(flash_kib="much"), "^flash_kib: "),
        (lambda: Microcontroller(images=0), "^images: expected an integer of at least 1"),
        (lambda: Microcontroller(accuracy="yes"), "^accuracy: expected true or false"),
        (lambda: LiteRT(flash_kib=-1), "^flash_kib: "),
        (lambda: EthosU("ethos-u66-128", "", ""), "^accelerator: expected one of ethos-u55-32"),
        (lambda: EthosU("ethos-u55-128", U85.system_config, "Shared_Sram"), "^system_config: expected one of Ethos_U55_Deep"),
        (lambda: EthosU("ethos-u55-128", U55.system_config, "Sram"), "^memory_mode: expected one of Sram_Only"),
    ],
)
def test_keys_are_checked(make, told):
    with pytest.raises(ConfigError, match=told):
        make()


@needs_vela
def test_the_names_are_those_of_vela():
    from sweep.devices import ethos_u

    sections = external.run("Vela", ["-P", "-m", "ethosu.vela", "--list-configs", "Arm/vela.ini"], 60)
    listed = {line.strip() for line in sections.splitlines()[1:]}
    systems = {f"System_Config.{name}" for names in ethos_u._SYSTEMS.values() for name in names}
    assert systems | {f"Memory_Mode.{name}" for name in ethos_u._MODES} == listed
    offered = external.run("Vela", ["-P", "-m", "ethosu.vela", "--help"], 60)
    names = {f"{family}-{macs}" for family, sizes in ethos_u._ACCELERATORS.items() for macs in sizes}
    assert names == set(offered.split("--accelerator-config {")[1].split("}")[0].split(","))
