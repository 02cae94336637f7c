"""Trials for a device: what is refused before anything trains, what is measured, and budgets on the final file."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import Silent
from test_trial import CLUSTERS, PLAN, facts, ran

from sweep.compress.quantize import formats, ptq
from sweep.core.errors import ConfigError
from sweep.devices.ethos_u import EthosU
from sweep.devices.fitness import Unfit
from sweep.devices.litert import LiteRT
from sweep.devices.microcontroller import Microcontroller
from sweep.models import families
from sweep.pipeline import executor
from sweep.pipeline.cache import Cache
from sweep.tflite import audit, external, tflm, vela

pytestmark = [
    pytest.mark.usefixtures("tensorflow"),
    pytest.mark.slow,
    pytest.mark.skipif(not external.installed(tflm.MODULE), reason="the extra tflm is not installed"),
]
PRINTED = """
import sys
from tflite_micro.python.tflite_micro.runtime import Interpreter
Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=3_000_000).print_allocations()
"""
U55 = EthosU("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
INT4 = ptq.PTQ(bits=4, calibration_samples=64)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def refused(plan, store, told):
    """What a plan is refused with, before anything trained."""
    progress = Silent()
    with pytest.raises(ConfigError, match=told):
        executor.run(plan, Cache(store), progress)
    assert all(reused for _, reused in progress.finished)
    assert set(progress.begun) <= {"check"}


def printed(content: bytes) -> int:
    process = subprocess.run([sys.executable, "-c", PRINTED], input=content, capture_output=True, check=True)
    return int(re.search(rb"Arena allocation total (\d+) bytes", process.stderr)[1])


@pytest.mark.parametrize("quant", [formats.Float32(), PLAN.quant, INT4], ids=["float32", "int8", "int4"])
def test_a_microcontroller_adds_its_metrics_to_the_same_file(store, quant):
    plan = replace(PLAN, quant=quant)
    there, finished = ran(replace(plan, target=Microcontroller(images=50, accuracy=True)), store)
    here, again = ran(plan, store)
    assert again == [(name, True) for name, _ in finished]
    assert there.content == here.content
    assert there.metrics.arena_bytes == here.metrics.arena_bytes == printed(here.content)
    assert facts(there).keys() - facts(here).keys() == {"target_agreement", "tflm_accuracy"}
    assert there.metrics.target_agreement >= 0.9
    assert abs(there.metrics.tflm_accuracy - there.metrics.val_accuracy) < 0.05


@pytest.mark.parametrize("quant", [formats.Float16(), formats.Dynamic()])
def test_what_does_not_run_there_is_refused_and_has_no_memory_elsewhere(store, quant):
    plan = replace(
        PLAN, quant=quant, model=families.CNN(filters=(32, 32), units=())
    )  # a kernel below 1,024 weights stays float32
    refused(replace(plan, target=Microcontroller()), store, "^quant: expected none")
    result, _ = ran(plan, store)
    assert "arena_bytes" not in result.metrics
    assert "RAM" not in result.metrics.summary("")


def test_a_budget_that_no_training_meets_is_refused(tmp_path):
    needed = r"at least the (\d+\.\d) KiB \(arena_bytes\) that the network takes untrained; received 1$"
    refused(replace(PLAN, target=Microcontroller(ram_kib=1)), tmp_path, rf"^target\.ram_kib: expected {needed}")
    refused(replace(PLAN, target=LiteRT(flash_kib=1)), tmp_path, r"^target\.flash_kib: expected at least .* \(size_bytes\)")
    result, _ = ran(replace(PLAN, target=Microcontroller(ram_kib=8, flash_kib=16)), tmp_path)
    assert result.metrics.arena_bytes <= 8 * 1024
    with pytest.raises(ConfigError) as refusal:
        ran(replace(PLAN, seed=1, target=Microcontroller(ram_kib=1)), tmp_path)
    assert float(re.search(needed[:-11], str(refusal.value))[1]) == pytest.approx(result.metrics.arena_bytes / 1024, abs=0.06)


def test_what_training_may_change_is_refused_with_the_final_file(store):
    plan = replace(PLAN, cluster=CLUSTERS, target=Microcontroller(ram_kib=1))
    with pytest.raises(audit.AuditError, match=r"^target\.ram_kib: expected at most 1 KiB, found \d+\.\d \(arena_bytes\)$"):
        ran(plan, store)


@pytest.mark.skipif(not external.installed(vela.MODULE), reason="the extra ethos-u is not installed")
def test_an_ethos_u_takes_integers_of_5_bits_and_more(store):
    result, _ = ran(replace(PLAN, target=U55), store)
    assert result.metrics.npu_bytes > 1000
    assert result.metrics.npu_sram_bytes > 0
    assert result.metrics.npu_ms > 0
    assert result.metrics.npu_operators == 1
    refused(replace(PLAN, quant=INT4, target=U55), store, r"^quant\.bits: expected 5 to 8")
    some = ptq.PTQ(bits=8, calibration_samples=64, first_last_bits=4)
    refused(
        replace(PLAN, quant=some, target=U55), store, r"^target: expected a file that runs on ethos-u55-128; .*the kernel '"
    )
    with pytest.raises(audit.AuditError, match=r"^target\.flash_kib: expected at most 1 KiB, found .* \(npu_bytes\)"):
        ran(replace(PLAN, target=replace(U55, flash_kib=1)), store)


def test_a_target_that_is_not_installed_is_refused(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    refused(replace(PLAN, target=Microcontroller()), store, "^target: expected the extra tflm")
    monkeypatch.setattr(external, "version", lambda distribution: "")
    result, _ = ran(PLAN, store)
    assert "arena_bytes" not in result.metrics


def test_a_file_that_turns_out_not_to_run_fails_with_its_reason(store, monkeypatch):
    ran(PLAN, store)

    def lacking(content, images, interface):
        raise tflm.TflmError("TFLM failed: Didn't find op for builtin opcode 'SIN'")

    monkeypatch.setattr(tflm, "predict", lacking)
    with pytest.raises(Unfit, match="opcode 'SIN'"):
        ran(replace(PLAN, target=Microcontroller(images=7)), store)
