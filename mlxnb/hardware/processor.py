"""The processor: its name, its cores, and the instruction sets that decide how fast it multiplies."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .system import ROOT, control_groups, sysctl, text

# The shown name of an instruction set, by what the kernel calls it.
X86 = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "amx_fp16": "AMX-FP16",
}
ARM = {
    "asimd": "NEON",
    "asimdhp": "FP16",
    "asimddp": "DotProd",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
    "sme": "SME",
}
APPLE = {
    "AdvSIMD": "NEON",
    "arm.FEAT_FP16": "FP16",
    "arm.FEAT_DotProd": "DotProd",
    "arm.FEAT_I8MM": "I8MM",
    "arm.FEAT_BF16": "BF16",
    "arm.FEAT_SME": "SME",
    "arm.FEAT_SME2": "SME2",
}


@dataclass(frozen=True, slots=True)
class Cores:
    """`usable`: logical cores that this process may keep busy, after affinity and a container's quota; `physical`: of
    the machine, of them `performance` and `efficiency` cores where it has both kinds. None where it is not told.
    """

    usable: int
    physical: int | None = None
    performance: int | None = None
    efficiency: int | None = None


def is_apple_silicon() -> bool:
    """Whether this is a native Python on an Apple M-series chip; one under Rosetta is none, MLX does not run there."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def chip(root: Path = ROOT) -> str:
    """The processor's name as its maker writes it, such as "Apple M3 Max", or the architecture where none is told."""
    name = sysctl("machdep.cpu.brand_string") if sys.platform == "darwin" else _cpuinfo(root, "model name")
    return name or platform.processor() or platform.machine() or "unknown"


def cores(root: Path = ROOT) -> Cores:
    """See Cores."""
    import psutil

    physical = psutil.cpu_count(logical=False)
    if sys.platform == "darwin":
        fast, slow = _number(sysctl("hw.perflevel0.physicalcpu")), _number(sysctl("hw.perflevel1.physicalcpu"))
    else:
        fast, slow = _kinds(root)
    both = (fast, slow) if fast and slow else (None, None)
    return Cores(_usable(root), physical, *both)


def instruction_sets(root: Path = ROOT) -> tuple[str, ...]:
    """Those that matter to a matrix product, as they are usually written; none where the system does not tell."""
    if sys.platform == "darwin":
        return tuple(shown for name, shown in APPLE.items() if sysctl(f"hw.optional.{name}") == "1")
    has = {*_cpuinfo(root, "flags").split(), *_cpuinfo(root, "Features").split()}
    return tuple(shown for name, shown in {**X86, **ARM}.items() if name in has)


def _usable(root: Path) -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Whole processors that each control group of this process may use; version 2 has one file, version 1 two."""
    for group in control_groups("cpu", root):
        words = text(group / "cpu.max").split() or [
            word for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for word in text(group / name).split()
        ]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            yield int(words[0]) // int(words[1])


def _kinds(root: Path) -> tuple[int | None, int | None]:
    """Logical performance and efficiency cores: as Intel's hybrid chips list them, or by Arm's relative capacities."""
    listed = [_listed(text(root / f"sys/devices/{kind}/cpus")) for kind in ("cpu_core", "cpu_atom")]
    if all(listed):
        return listed[0], listed[1]
    found = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpu_capacity"))
    capacities = [capacity for path in found if (capacity := _number(text(path))) is not None]
    slowest = sum(capacity == min(capacities) for capacity in capacities)
    return (len(capacities) - slowest, slowest) if slowest < len(capacities) else (None, None)


def _listed(ranges: str) -> int:
    """How many cores a list such as "0-7,16" names."""
    count = 0
    for part in filter(None, ranges.strip().split(",")):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            count += int(last or first) - int(first) + 1
    return count


def _number(digits: str) -> int | None:
    return int(digits) if digits.strip().isdecimal() else None


def _cpuinfo(root: Path, wanted: str) -> str:
    for line in text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return ""
