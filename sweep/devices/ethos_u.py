"""A microcontroller with an Arm Ethos-U: Vela compiles the file, and estimates its memory and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.compress.quantize.integer import Integer
from sweep.core.errors import ConfigError, require_choice
from sweep.core.types import Split, Storage
from sweep.devices import fitness
from sweep.tflite import audit, tflm, vela
from sweep.tflite.interface import OWN, Interface
from sweep.tflite.weight_storage import container

# Vela's names, of version 5.2.0.
_ACCELERATORS = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_Deep_Embedded", "Ethos_U55_High_End_Embedded"),
    "ethos-u65": ("Ethos_U65_Embedded", "Ethos_U65_Mid_End", "Ethos_U65_High_End", "Ethos_U65_Client_Server"),
    "ethos-u85": tuple(f"Ethos_U85_SYS_{kind}" for kind in ("Flash_Low", "Flash_High", "DRAM_Low", "DRAM_Mid", "DRAM_High")),
}
_MODES = ("Sram_Only", "Shared_Sram", "Dedicated_Sram", *(f"Dedicated_Sram_{size}KB" for size in (256, 384, 512)))
_SMALL = ("INT4", "INT2")
_BITS = "5 to 8 for every layer: Vela crashes on kernels that are stored in 4 bits"


@dataclass(frozen=True)
class EthosU:
    """An Ethos-U, as modelled by Vela. Nothing runs, so predictions are not compared.

    Args:
        accelerator: Vela's name of the accelerator (`ethos-u55-128`).
        system_config: the section of Vela's `vela.ini` with clock and memories.
        memory_mode: the section with the placement of weights and activations.
        ram_kib: the budget for SRAM in KiB; None for no budget.
        flash_kib: the budget for the compiled file in KiB; None for no budget.
    """

    accelerator: str
    system_config: str
    memory_mode: str
    ram_kib: float | None = field(default=None, kw_only=True)
    flash_kib: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        names = tuple(f"{family}-{macs}" for family, sizes in _ACCELERATORS.items() for macs in sizes)
        require_choice("accelerator", self.accelerator, names)
        require_choice("system_config", self.system_config, _SYSTEMS[self.accelerator.rpartition("-")[0]])
        require_choice("memory_mode", self.memory_mode, _MODES)
        fitness.require_kib(ram_kib=self.ram_kib, flash_kib=self.flash_kib)

    @property
    def name(self) -> str:
        """The accelerator, by Vela's name."""
        return self.accelerator

    @property
    def budgets(self) -> Mapping[str, tuple[str, float]]:
        """The budgets for SRAM and for the compiled file."""
        return fitness.budgets_set(npu_sram_bytes=("ram_kib", self.ram_kib), npu_bytes=("flash_kib", self.flash_kib))

    @property
    def rehearses(self) -> bool:
        """Always."""
        return True

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of Vela, and of TFLM, which measures `arena_bytes`."""
        return fitness.versions(vela.DISTRIBUTION, tflm.DISTRIBUTION)

    def check(self) -> None:
        """Refuses the target where Vela is not installed.

        Raises:
            ConfigError: naming the extra.
        """
        fitness.require_installed(vela.MODULE, "ethos-u")

    def require_form(self, form: fitness.Form) -> None:
        """Refuses formats that are not full-integer, sparse storage, and configured bit-widths of 4 and less.

        Raises:
            ConfigError: with the key and the remedy.
        """
        if form.storage is not Storage.INTEGER:
            raise ConfigError("quant", "ptq or qat: an Ethos-U computes with integers alone", form.storage.value)
        fitness.require_no_sparse(form, "an Ethos-U has no DENSIFY, and Vela codes zeros in few bits itself")
        if not isinstance(form, Integer):
            return
        if form.per_layer_bits == "auto":
            raise ConfigError("quant.per_layer_bits", f"{_BITS}; auto may choose fewer", "auto")
        if form.per_layer_bits is None and form.first_last_bits is None and container(form.bits) in _SMALL:
            raise ConfigError("quant.bits", _BITS, form.bits)

    def metrics(self, form: fitness.Form) -> frozenset[str]:
        """The metrics of the NPU, and `arena_bytes` where TFLM is installed."""
        return fitness.arena_metrics(form) | {"npu_bytes", "npu_sram_bytes", "npu_ms", "npu_operators"}

    def rehearsed(self, content: bytes) -> Mapping[str, float]:
        """Nothing: the size of encoded weights depends on training. The file is compiled as a check.

        Raises:
            Unfit: for a file that Vela does not compile, or of which the NPU runs no operator.
        """
        self._compiled(content)
        return {}

    def measured(self, content: bytes, validation: Split, threads: int, interface: Interface = OWN) -> Mapping[str, float]:
        """`npu_bytes`, `npu_sram_bytes`, `npu_ms`, `npu_operators`, and `arena_bytes` where TFLM is installed.

        Raises:
            Unfit: for a file that Vela does not compile, or of which the NPU runs no operator.
        """
        compiled = self._compiled(content)
        return {
            **fitness.arena(content),
            "npu_bytes": len(compiled.content),
            "npu_sram_bytes": compiled.sram_bytes,
            "npu_ms": compiled.ms,
            "npu_operators": compiled.npu_operators / (compiled.npu_operators + compiled.cpu_operators),
        }

    def _compiled(self, content: bytes) -> vela.Compiled:
        small = next((kernel.name for kernel in audit.read(content).kernels if kernel.type in _SMALL), None)
        if small is not None:
            raise fitness.Unfit(f"the kernel {small!r} is stored in 4 bits, on which Vela crashes: set quant.bits to 5 to 8")
        try:
            compiled = vela.compiled(content, self.accelerator, self.system_config, self.memory_mode)
        except vela.VelaError as error:
            raise fitness.Unfit(str(error)) from error
        if not compiled.npu_operators:
            raise fitness.Unfit(f"Vela leaves every operator to the processor; {'; '.join(compiled.fallbacks[:1])}")
        return compiled
