"""What the driver tells of an NVIDIA GPU, through nvidia-ml-py where that is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from ...decision import Absent, Rejected

T = TypeVar("T")


class Nvidia:
    """One GPU. What its driver does not tell is None."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml, self._handle = library, handle
        self.name = self._told(lambda: str(library.nvmlDeviceGetName(handle))) or "NVIDIA GPU"

    def busy(self) -> float | None:
        """The share of the last moment in which it computed, from 0 to 1."""
        return self._told(lambda: self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)

    def memory(self) -> int | None:
        """Bytes in use."""
        return self._told(lambda: int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used))

    def temperature(self) -> float | None:
        """Degrees Celsius."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        return self._told(lambda: float(self._nvml.nvmlDeviceGetTemperature(self._handle, sensor)))

    def joules(self) -> float | None:
        """Energy since the driver was loaded."""
        return self._told(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000)

    def _told(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except self._nvml.NVMLError:
            return None


def nvidia() -> Nvidia | Rejected:
    """The GPU that this process computes on: the first that CUDA_VISIBLE_DEVICES lets it see; or why there is none."""
    try:
        pynvml = import_module("pynvml")
    except ImportError:
        return Absent("nvml", "nvidia-ml-py is not installed", "pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
        return Nvidia(pynvml, _handle(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", "")))
    except pynvml.NVMLError as err:
        return Absent("nvml", f"no NVIDIA driver answers: {err}")


def _handle(library: Any, visible: str) -> Any:
    first = visible.split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return library.nvmlDeviceGetHandleByUUID(first)
    return library.nvmlDeviceGetHandleByIndex(int(first) if first.isdecimal() else 0)
