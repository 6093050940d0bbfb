"""Accelerators, found without importing the libraries that use them, so that one that nothing uses yet is seen too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .memory import memory_free, memory_total
from .processor import chip, is_apple_silicon
from .system import ROOT, refused, said, text

Kind = Literal["cuda", "rocm", "metal"]
AMD = "0x1002"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU. Memory in bytes, None where it is not told; on Apple silicon it is the machine's own."""

    kind: Kind
    name: str
    memory_total: int | None
    memory_free: int | None
    driver: str = ""


def accelerators(root: Path = ROOT) -> tuple[Accelerator, ...]:
    """Every GPU that some library here could compute on."""
    if is_apple_silicon():
        return (Accelerator("metal", chip(), memory_total(), memory_free()),)
    return (*_nvidia(), *(_amd(root) if sys.platform == "linux" else ()))


def _nvidia() -> Iterator[Accelerator]:
    fields = "--query-gpu=name,memory.total,memory.free,driver_version"
    for line in said(["nvidia-smi", fields, "--format=csv,noheader,nounits"], timeout=20).splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4:
            name, total, free, driver = cells
            yield Accelerator("cuda", name, _mebibytes(total), _mebibytes(free), driver)


def driver_trouble() -> str:
    """Why the NVIDIA driver that is installed does not answer, in its own words; empty where it does, or is absent."""
    return refused(["nvidia-smi"], timeout=20)


def _mebibytes(count: str) -> int | None:
    return int(count) * 2**20 if count.isdecimal() else None  # "[N/A]" on machines whose memory is shared


def _amd(root: Path) -> Iterator[Accelerator]:
    for card in sorted((root / "sys/class/drm").glob("card[0-9]*")):
        device = card / "device"
        total = text(device / "mem_info_vram_total").strip()
        if text(device / "vendor").strip() == AMD and total.isdecimal():
            used = text(device / "mem_info_vram_used").strip()
            free = int(total) - int(used) if used.isdecimal() else None
            name = text(device / "product_name").strip() or "AMD GPU"
            yield Accelerator("rocm", name, int(total), free, text(root / "sys/module/amdgpu/version").strip())
