"""What this machine is and how much memory it has, in bytes, seen through a container's limit where there is one."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def memory_total(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use at most. `root` is where `proc` and `sys` are, for tests."""
    import psutil

    return min(psutil.virtual_memory().total, *(limit for limit, _ in cgroup_limits(root)), sys.maxsize)


def memory_free(root: Path = ROOT) -> int:
    """Bytes that can be had without swapping: what the system calls available, or what a container's limit leaves."""
    import psutil

    left = (limit - used for limit, used in cgroup_limits(root))
    return max(0, min(psutil.virtual_memory().available, *left, sys.maxsize))


def cgroup_limits(root: Path = ROOT) -> Iterator[tuple[int, int]]:
    """The (limit, used) pairs in bytes that bind this process: its control group's own and its parents'.

    Used memory leaves out inactive file pages, which the kernel drops as soon as something else needs the room;
    a model file that was just read would count twice otherwise.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0" and not controllers:
            yield from _limits(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _limits(root / "sys/fs/cgroup/memory", path, *names)


def _limits(mount: Path, path: str, limit: str, used: str, cache: str) -> Iterator[tuple[int, int]]:
    # A container may see its host's path here, with no such folder: the mount itself is its group then.
    group = mount / Path(*(part for part in path.split("/") if part not in ("", "..")))
    for folder in (group, *group.parents):
        most = _text(folder / limit).strip()
        if most.isdecimal() and (now := _text(folder / used).strip()).isdecimal():
            yield int(most), max(0, int(now) - _stat(folder / "memory.stat", cache))
        if folder == mount:
            return


def _stat(path: Path, key: str) -> int:
    pairs = (line.split() for line in _text(path).splitlines())
    return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == key and pair[1].isdecimal()), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_apple_silicon() -> bool:
    """Whether this is a native Python on an Apple M-series chip; one under Rosetta is none, MLX does not run there."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def chip(root: Path = ROOT) -> str:
    """The processor's name as its maker writes it, such as "Apple M3 Max", or the architecture where none is told."""
    name = _apple_name() if sys.platform == "darwin" else _linux_name(root)
    return name or platform.processor() or platform.machine() or "unknown"


def _apple_name() -> str:
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _linux_name(root: Path) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def human_bytes(count: float) -> str:
    """A size as a person reads it, in decimal units as model pages give them: 7600000 is "7.6 MB"."""
    if count == 1:
        return "1 byte"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
