"""Joules that a piece of work took, by whatever counter this machine has: Apple's, NVIDIA's, or Intel's and AMD's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ...decision import Absent, Rejected
from ...hardware import is_apple_silicon
from .nvidia import nvidia

RAPL = Path("/sys/class/powercap")
ZEUS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "ane_mj", "dram_mj")


class Meter(Protocol):
    """Counts joules between `begin` and `end`. `what` says of which parts of the machine."""

    what: str

    def begin(self) -> None:
        """The work begins."""
        ...

    def end(self) -> float | None:
        """Joules since `begin`; None where the counter could not be read."""
        ...


@dataclass(slots=True)
class Counter:
    """A Meter of a counter that only grows, in joules, up to `wraps` where it begins again from 0."""

    what: str
    read: Callable[[], float | None]
    wraps: float | None = None
    began: float | None = None

    def begin(self) -> None:
        """See Meter."""
        self.began = self.read()

    def end(self) -> float | None:
        """See Meter. It may have begun again once."""
        now = self.read()
        if now is None or self.began is None:
            return None
        if now >= self.began:
            return now - self.began
        return now - self.began + self.wraps if self.wraps is not None else None


@dataclass(slots=True)
class Sum:
    """A Meter of several parts, such as the sockets of a machine; None where one of them fails."""

    what: str
    parts: tuple[Counter, ...]

    def begin(self) -> None:
        """See Meter."""
        for part in self.parts:
            part.begin()

    def end(self) -> float | None:
        """See Meter."""
        joules = [joule for part in self.parts if (joule := part.end()) is not None]
        return sum(joules) if len(joules) == len(self.parts) else None


class Zeus:
    """Apple's own counters through zeus-apple-silicon: the sum of the parts of the chip that it tells."""

    what = "the chip (CPU, GPU, Neural Engine and memory, as far as it tells) by zeus-apple-silicon"

    def __init__(self, monitor: Any) -> None:
        self._monitor, self._open = monitor, False

    def begin(self) -> None:
        """See Meter. A window that was left open, after an interrupt, is closed."""
        if self._open:
            self.end()
        self._monitor.begin_window("mlxnb")
        self._open = True

    def end(self) -> float | None:
        """See Meter."""
        if not self._open:
            return None
        self._open = False
        told = self._monitor.end_window("mlxnb")
        parts = [value for name in ZEUS if (value := getattr(told, name, None)) is not None]
        return sum(parts) / 1000 if parts else None


def apple() -> Meter | Rejected:
    """The meter of an Apple chip, or why there is none."""
    if not is_apple_silicon():
        return Absent("energy", "not an Apple chip")
    try:
        zeus = import_module("zeus_apple_silicon")
    except ImportError:
        return Absent("energy", "zeus-apple-silicon is not installed", "pip install zeus-apple-silicon")
    try:
        return Zeus(zeus.AppleEnergyMonitor())
    except RuntimeError as err:
        return Rejected("energy", f"zeus-apple-silicon: {err}")


def nvidia_gpu() -> Meter | Rejected:
    """The meter of an NVIDIA GPU, or why there is none."""
    gpu = nvidia()
    if isinstance(gpu, Rejected):
        return gpu
    if gpu.joules() is None:
        return Rejected("energy", f"{gpu.name} does not tell its energy")
    return Counter(f"{gpu.name} by NVML", gpu.joules)


def packages(root: Path = RAPL) -> Meter | Rejected:
    """The meter of the processor's sockets, by the counters that Linux has of Intel and AMD, or why there is none."""
    folders = [folder for folder in sorted(root.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    if not folders:
        return Absent("energy", "this system has no counters of the processor's energy")
    parts = []
    for folder in folders:
        if _microjoules(folder / "energy_uj") is None:
            remedy = f"sudo chmod -R a+r {root} (until the next start)"
            return Rejected("energy", "the processor's counters can be read by root only", remedy)
        wraps = _microjoules(folder / "max_energy_range_uj")
        parts.append(Counter(folder.name, lambda path=folder / "energy_uj": _microjoules(path), wraps))  # type: ignore[misc]
    return Sum("the processor's sockets by RAPL", tuple(parts))


def _microjoules(path: Path) -> float | None:
    try:
        return int(path.read_text(encoding="ascii")) / 1e6
    except (OSError, ValueError):
        return None


def meter(device: str) -> Meter | Rejected:
    """What counts the energy of work on a device, or why nothing does."""
    if device.startswith(("cuda", "CUDA")):
        return nvidia_gpu()
    return apple() if is_apple_silicon() else packages()
