"""Compiles a `.tflite` file for an Arm Ethos-U with Vela (package `ethos-u-vela`), which also estimates what it takes there.

Vela is native code that some files kill (a kernel of 4 bits: SIGFPE), so it has a process of its own.
"""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sweep.tflite import external

DISTRIBUTION, MODULE = "ethos-u-vela", "ethosu"
_CONFIG = "Arm/vela.ini"  # in the package
_SECONDS = 300.0
_COUNTS = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
_FALLBACK = re.compile(r"^Warning \(supported operators\) operator: (\w+).*\n\s*(?:Reason|-|\s)*:?\s*(.*)", re.MULTILINE)


class VelaError(RuntimeError):
    """Vela does not compile the file. The message has its exit status and its output, in one line."""


@dataclass(frozen=True)
class Compiled:
    """A file for an Ethos-U, and Vela's estimate of what it takes.

    Attributes:
        content: the file that Vela wrote: the commands and the encoded weights of the NPU, as a custom operator.
        sram_bytes: the most SRAM that is in use at once.
        ms: time of one image on the NPU, in milliseconds.
        npu_operators: how many operators the NPU computes.
        cpu_operators: how many are left to the processor.
        fallbacks: the operators that are, each with Vela's reason where it gives one.
    """

    content: bytes
    sram_bytes: int
    ms: float
    npu_operators: int
    cpu_operators: int
    fallbacks: tuple[str, ...]


def compiled(content: bytes, accelerator: str, system_config: str, memory_mode: str) -> Compiled:
    """The file compiled for an accelerator.

    Args:
        content: the file's bytes.
        accelerator: Vela's name for it (`ethos-u55-128`).
        system_config: a section of Vela's own `vela.ini`: clock, memories and their speed.
        memory_mode: another: which memory holds weights and activations.

    Raises:
        VelaError: for a file or a choice of sections that Vela does not take, or dies of.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-vela-") as place:
        folder = Path(place)
        (folder / "network.tflite").write_bytes(content)
        options = {
            "--accelerator-config": accelerator,
            "--config": _CONFIG,
            "--system-config": system_config,
            "--memory-mode": memory_mode,
            "--output-dir": str(folder),
        }
        words = [word for pair in options.items() for word in pair]
        try:
            text = external.run("Vela", ["-P", "-m", "ethosu.vela", str(folder / "network.tflite"), *words], _SECONDS)
        except external.ProgramError as error:
            raise VelaError(str(error)) from error
        counts = {name: int(count) for name, count in _COUNTS.findall(text)}
        tables, written = list(folder.glob("*_summary_*.csv")), folder / "network_vela.tflite"
        if counts.keys() != {"CPU", "NPU"} or len(tables) != 1 or not written.exists():
            raise VelaError("Vela did not report what it compiled")
        with tables[0].open(newline="") as table:
            row = next(csv.DictReader(table))
        return Compiled(
            content=written.read_bytes(),
            sram_bytes=round(1024 * float(row["sram_memory_used"])),
            ms=1000 * float(row["inference_time"]),
            npu_operators=counts["NPU"],
            cpu_operators=counts["CPU"],
            fallbacks=tuple(f"{operator}: {reason.strip()}".rstrip(": ") for operator, reason in _FALLBACK.findall(text)),
        )
