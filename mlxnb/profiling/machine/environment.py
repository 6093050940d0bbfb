"""What figures hold for: the machine, what is installed, how fast the device was measured, and settings that count."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ... import __version__, hardware
from ...config import cache_dir, settings
from ...decision import Rejected
from ...doctor import PACKAGES
from ...errors import OptionError
from ...hardware import Speed, Speeds
from ...hardware.system import ROOT, said, text
from ...records import Records
from ..report import Environment, Value
from .datasheet import datasheet
from .devices import same_device

# Of the libraries that run models, and of what measures them.
VERSIONS = (*PACKAGES, "llama-cpp-python", "zeus-apple-silicon", "nvidia-ml-py", "psutil")

# Variables that change figures and hold no secret. Others are not looked at.
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "KMP_BLOCKTIME",
    "KMP_AFFINITY", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "MLX_DISABLE_COMPILE", "MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER", "MLX_METAL_FAST_SYNCH",
)  # fmt: skip

# Our own settings that change them, shown where a person gave them.
SETTINGS = ("backend", "quantize", "batch_size", "memory_mb", "keep_alive", "probe")

# What this process measured, by the folder that it is remembered in where the machine was not busy.
_measured_here: dict[Path, Speeds] = {}


def environment(device: str, dtype: str) -> Environment:
    """The machine as it is now, and how fast `device` ("cpu", "cuda", "mps", "metal") copies and multiplies.

    Speeds are remembered, or measured now, which takes a few seconds; of several libraries the fastest one tells what
    the device can do. Where they cannot be had `settings` says why. `dtype` is what the models compute in: `settings`
    tells where no product in it was measured. On the engine's thread torch's threads are those that models run on.
    """
    cores, gpus = hardware.cores(), hardware.accelerators()
    speeds = _speeds()
    bandwidth, products = fastest(speeds, device)
    names = [gpu.name for gpu in gpus if gpu.kind != "metal"]
    return Environment(
        chip=", ".join([hardware.chip(), *names]),
        cores=_cores_in_words(cores),
        memory=hardware.memory_total(),
        system=f"{platform.platform(terse=True)}, {platform.machine()}",
        versions={"mlxnb": __version__, "Python": platform.python_version(), **dict(_versions())},
        device=device,
        bandwidth=bandwidth,
        products=products,
        datasheet=_stated(device, names, cores.physical),
        settings={**dict(_settings()), **dict(_measured(speeds, device, dtype, products))},
    )


def _speeds() -> Speeds | Rejected:
    """The speeds that are remembered, or those that this process measured: on a busy machine nothing is remembered, and
    a notebook that profiles ten times shall not wait for it ten times.
    """
    folder = cache_dir() / "hardware"
    store = Records(folder, "Speeds")
    if hardware.speed.remembered(store) is None and folder in _measured_here:
        return _measured_here[folder]
    found = hardware.speeds(store)
    if not isinstance(found, Rejected):
        _measured_here[folder] = found
    return found


def fastest(speeds: Speeds | Rejected, device: str) -> tuple[float | None, dict[str, float]]:
    """Bytes a second and operations a second by dtype, the best that any library reached on a device."""
    here = _on(speeds, device)
    products: dict[str, float] = {}
    for speed in here:
        for dtype, rate in speed.products.items():
            products[dtype] = max(rate, products.get(dtype, 0.0))
    return max((speed.copy for speed in here), default=None), products


def _on(speeds: Speeds | Rejected, device: str) -> list[Speed]:
    measured = () if isinstance(speeds, Rejected) else speeds.measured
    return [speed for speed in measured if same_device(speed.device, device)]


def _measured(
    speeds: Speeds | Rejected, device: str, dtype: str, products: Mapping[str, float]
) -> Iterator[tuple[str, Value]]:
    """What to know of the measured speeds."""
    if isinstance(speeds, Rejected):
        yield "speeds", f"not measured: {speeds.reason}"
    elif not _on(speeds, device):
        yield "speeds", f"not measured on {device}"
    else:
        yield "speeds", ", ".join(speed.library for speed in _on(speeds, device))
        if dtype and dtype not in products:
            yield "product", f"none measured in {dtype}"
        if speeds.busy >= hardware.speed.BUSY:
            yield "busy", round(speeds.busy, 2)


def _stated(device: str, gpus: list[str], physical: int | None) -> float | None:
    """The maker's bandwidth: of the first GPU where that computes, of the chip on Apple silicon, whoever computes."""
    if hardware.is_apple_silicon():
        return datasheet(hardware.chip(), physical)
    return datasheet(gpus[0]) if gpus and device in ("cuda", "gpu") else None


def _cores_in_words(cores: hardware.Cores) -> str:
    words = f"{cores.usable} usable"
    if cores.performance is not None and cores.efficiency is not None:
        return f"{words}; {cores.performance} performance and {cores.efficiency} efficiency"
    return f"{words} of {cores.physical} physical" if cores.physical else words


def _versions() -> Iterator[tuple[str, str]]:
    for package in VERSIONS:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _settings(variables: Mapping[str, str] = os.environ, root: Path = ROOT) -> Iterator[tuple[str, Value]]:
    if "torch" in sys.modules:
        yield "torch threads", sys.modules["torch"].get_num_threads()
    yield from power(root)
    yield from ((name, variables[name]) for name in VARIABLES if variables.get(name))
    ours = settings()
    for name in SETTINGS:
        if ours.origin[name] != "default":
            try:
                yield f"mlxnb {name}", getattr(ours, name)
            except OptionError as err:
                yield f"mlxnb {name}", f"wrong: {err.message}"


def power(root: Path = ROOT) -> Iterator[tuple[str, Value]]:
    """What feeds the machine and how it is told to save power, as far as the system says."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None and battery.power_plugged is not None:
        yield "power", "mains" if battery.power_plugged else "battery"
    if sys.platform == "darwin":
        words = said(["/usr/bin/pmset", "-g"]).split()
        if "lowpowermode" in words[:-1]:
            yield "low power mode", words[words.index("lowpowermode") + 1] == "1"
    governor = text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    if governor:
        yield "governor", governor
