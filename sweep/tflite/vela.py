"""Compiles a `.tflite` file for an Arm Ethos-U with Vela (package `ethos-u-vela`), which also estimates SRAM and time.

Vela is native code that crashes on some files (SIGFPE on a kernel of 4 bits), so it runs in a subprocess.
"""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sweep.tflite import external

DISTRIBUTION, MODULE = "ethos-u-vela", "ethosu"
_CONFIG = "Arm/vela.ini"  # part of the package
_SECONDS = 300.0
_COUNTS = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
_FALLBACK = re.compile(r"^Warning \(supported operators\) operator: (\w+).*\n\s*(?:Reason|-|\s)*:?\s*(.*)", re.MULTILINE)


class VelaError(RuntimeError):
    """Vela does not compile the file. The message is one line, with the exit status and the end of stderr."""


@dataclass(frozen=True)
class Compiled:
    """A compiled file, with Vela's estimates.

    Attributes:
        content: the compiled file: a custom operator with the NPU's command stream and encoded weights.
        sram_bytes: the peak SRAM usage.
        ms: the time of an image on the NPU, in milliseconds.
        npu_operators: the number of operators on the NPU.
        cpu_operators: the number of operators that stay on the CPU.
        fallbacks: the operators that stay on the CPU, each with Vela's reason if there is one.
    """

    content: bytes
    sram_bytes: int
    ms: float
    npu_operators: int
    cpu_operators: int
    fallbacks: tuple[str, ...]


def compiled(content: bytes, accelerator: str, system_config: str, memory_mode: str) -> Compiled:
    """Compiles a file for an accelerator.

    Args:
        content: the file's bytes.
        accelerator: Vela's name of the accelerator (`ethos-u55-128`).
        system_config: the section of Vela's `vela.ini` that describes the clock and the memories.
        memory_mode: the section that assigns weights and activations to memories.

    Raises:
        VelaError: when Vela rejects the file or the sections, or crashes.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-vela-") as name:
        folder = Path(name)
        (folder / "network.tflite").write_bytes(content)
        options = {
            "--accelerator-config": accelerator,
            "--config": _CONFIG,
            "--system-config": system_config,
            "--memory-mode": memory_mode,
            "--output-dir": str(folder),
        }
        arguments = [argument for option in options.items() for argument in option]
        try:
            log = external.run("Vela", ["-P", "-m", "ethosu.vela", str(folder / "network.tflite"), *arguments], _SECONDS)
        except external.ProgramError as error:
            raise VelaError(str(error)) from error
        counts = {processor: int(count) for processor, count in _COUNTS.findall(log)}
        summaries, compiled_file = list(folder.glob("*_summary_*.csv")), folder / "network_vela.tflite"
        if counts.keys() != {"CPU", "NPU"} or len(summaries) != 1 or not compiled_file.exists():
            raise VelaError("Vela reports no summary of the compiled file")
        with summaries[0].open(newline="") as summary:
            row = next(csv.DictReader(summary))
        return Compiled(
            content=compiled_file.read_bytes(),
            sram_bytes=round(1024 * float(row["sram_memory_used"])),
            ms=1000 * float(row["inference_time"]),
            npu_operators=counts["NPU"],
            cpu_operators=counts["CPU"],
            fallbacks=tuple(f"{operator}: {reason.strip()}".rstrip(": ") for operator, reason in _FALLBACK.findall(log)),
        )
