"""What this machine is, what is installed on it, and what would make it better: everything `mlxnb doctor` shows."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from . import __version__, hardware
from .backends import default_backends
from .config import cache_dir, settings
from .decision import Absent, Accepted, Decision, Rejected
from .errors import OptionError
from .hardware import Accelerator, Cores, Speeds, human_bytes
from .hardware.system import text
from .records import Records

# What decides how a model runs and is shown, in the order of the table.
PACKAGES = (
    "mlx",
    "mlx-lm",
    "torch",
    "transformers",
    "accelerate",
    "torchao",
    "onnxruntime-genai",
    "huggingface-hub",
    "numpy",
    "ipython",
    "ipykernel",
    "jupyterlab",
)
LITTLE_ROOM = 5_000_000_000  # bytes of disk, about a small model


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Memory in bytes. `versions` maps a package to its version, None where it is absent; `findings` says of each part
    whether it is ready, or what is wrong and what mends it.
    """

    chip: str
    cores: Cores
    instruction_sets: tuple[str, ...]
    memory_total: int
    memory_free: int
    accelerators: tuple[Accelerator, ...]
    speeds: Speeds | Rejected
    system: str
    versions: dict[str, str | None]
    findings: tuple[Decision, ...]


def diagnose(again: bool = False) -> Diagnosis:
    """Look at everything. Speeds are measured once and remembered, `again` measures anew: a few seconds."""
    gpus = hardware.accelerators()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # `-W error` would end it at a folder that a finding is about
        speeds = hardware.speeds(Records(cache_dir() / "hardware", "Speeds"), again)
    return Diagnosis(
        chip=hardware.chip(),
        cores=hardware.cores(),
        instruction_sets=hardware.instruction_sets(),
        memory_total=hardware.memory_total(),
        memory_free=hardware.memory_free(),
        accelerators=gpus,
        speeds=speeds,
        system=f"{platform.platform(terse=True)}, {platform.machine()}",
        versions={"mlxnb": __version__, "Python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        findings=tuple(_findings(gpus, speeds)),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _findings(gpus: tuple[Accelerator, ...], speeds: Speeds | Rejected) -> Iterator[Decision]:
    if _translated():
        yield Rejected("Python", "runs translated by Rosetta, where MLX does not run", "install a Python for arm64")
    broken = {} if isinstance(speeds, Rejected) else speeds.broken
    for name, backend in default_backends().items():
        decision = backend.available()
        if decision and name in broken:
            remedy = f"pip install --force-reinstall {name}"
            decision = Rejected(name, f"{name} cannot be imported: {broken[name]}", remedy)
        yield type(decision)(f"backend {decision.subject}", *_rest(decision))
    for library, reason in ({} if isinstance(speeds, Rejected) else speeds.failed).items():
        yield Rejected(f"speed of {library}", f"measured in part: {reason}", "mlxnb doctor --again measures anew")
    for gpu in gpus:
        yield _used(gpu, speeds)
    if not hardware.is_apple_silicon() and (trouble := hardware.driver_trouble()):
        yield Rejected("NVIDIA driver", trouble, "restart the machine, or install the driver anew")
    yield _emulator()
    yield _jupyter()
    yield _settings()
    yield _room("caches", cache_dir())
    yield _room("models", _hub_folder())


def _rest(decision: Decision) -> tuple[str, ...]:
    return (decision.reason, decision.remedy) if isinstance(decision, Rejected) else (decision.reason,)


def _translated() -> bool:
    return sys.platform == "darwin" and platform.machine() != "arm64" and "Apple" in hardware.chip()


def _used(gpu: Accelerator, speeds: Speeds | Rejected) -> Decision:
    """Whether some library computes on a GPU, as the measurement found it."""
    subject = f"GPU {gpu.name}"
    if isinstance(speeds, Rejected):
        return Rejected(subject, "not known whether a library uses it: the measurement failed", speeds.remedy)
    devices = {"metal": ("metal", "mps"), "cuda": ("cuda",), "rocm": ("cuda",)}[gpu.kind]  # ROCm calls itself cuda
    users = [speed.library for speed in speeds.measured if speed.device in devices]
    if users:
        return Accepted(subject, f"used by {' and '.join(users)}")
    if gpu.kind == "metal":
        return Rejected(subject, "no library here uses it", "pip install --upgrade mlxnb")
    kind = "ROCm" if gpu.kind == "rocm" else "CUDA"
    if _version("torch") is None:
        return Rejected(subject, "torch is not installed", "pip install 'mlxnb[torch]'")
    if built := _torch_built_for(kind):
        remedy = "update the driver, or install a torch build for an older one: https://pytorch.org/get-started/locally"
        return Rejected(subject, f"torch {_version('torch')} is built for {built} and cannot use it", remedy)
    remedy = f"install torch's {kind} build: https://pytorch.org/get-started/locally"
    return Rejected(subject, f"torch {_version('torch')} does not use it", remedy)


def _torch_built_for(kind: str) -> str:
    """The CUDA or ROCm version that the installed torch was built for, empty where for none; torch is not imported."""
    found = find_spec("torch")
    for folder in (found.submodule_search_locations or ()) if found else ():
        written = text(Path(folder) / "version.py")
        name = "hip" if kind == "ROCm" else "cuda"
        if match := re.search(rf"^{name}[^=\n]*=\s*['\"]([\d.]+)", written, re.MULTILINE):
            return f"{kind} {match[1]}"
    return ""


def _settings() -> Decision:
    """Whether the environment's settings hold what they take."""
    try:
        found = settings()
    except OptionError as err:
        return Rejected("settings", err.message, err.remedy)
    if found.local_models_dir is not None and not found.local_models_dir.is_dir():
        reason = f"LOCAL_MODELS_DIR names {found.local_models_dir}, which is no folder"
        return Rejected("settings", reason, "name another folder, or mount its disk")
    given = sum(origin != "default" for origin in found.origin.values())
    return Accepted("settings", f"{given} set in the environment" if given else "all at their defaults")


def _emulator() -> Decision:
    from .kernels.emulator.toolchain import compiler

    if hardware.is_apple_silicon():
        return Accepted("Metal kernels", "run natively here")
    found = compiler()
    if isinstance(found, Rejected):
        return Absent("Metal emulator", found.reason, found.remedy)
    return Accepted("Metal emulator", found.reason)


def _jupyter() -> Decision:
    missing = [name for name in ("ipykernel", "jupyterlab") if find_spec(name) is None]
    if missing:
        return Absent("JupyterLab", f"{' and '.join(missing)} not installed", "pip install 'mlxnb[lab]'")
    return Accepted("JupyterLab", "installed")


def _hub_folder() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _room(subject: str, folder: Path) -> Decision:
    """Whether a folder can be written, and what its disk has free."""
    # Unlike Path's own, these do not raise below a folder that may not be entered; a link to nothing counts as there.
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        return Rejected(subject, f"{there} is no folder, so {folder} cannot be used", "name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        return Rejected(subject, f"{folder} cannot be written", f"make {there} writable")
    free = shutil.disk_usage(there).free
    if free < LITTLE_ROOM:
        return Rejected(subject, f"{human_bytes(free)} free on the disk of {folder}", "make room there")
    return Accepted(subject, f"{human_bytes(free)} free on their disk")
