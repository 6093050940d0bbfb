"""How much memory there is, in bytes, seen through a container's limit where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .system import ROOT, control_groups, text

# Where a control group says its limit, what it uses, and how much of that is inactive file pages.
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_total(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use at most. `root` is where `proc` and `sys` are, for tests."""
    total, _ = _system()
    return min(total, *(limit for limit, _ in cgroup_limits(root, total)), sys.maxsize)


def memory_free(root: Path = ROOT) -> int:
    """Bytes that can be had without swapping: what the system calls available, or what a container's limit leaves."""
    total, available = _system()
    left = (limit - used for limit, used in cgroup_limits(root, total))
    return max(0, min(available, *left, sys.maxsize))


def _system() -> tuple[int, int]:
    """The system's own (total, available) bytes; without /proc the pages it counts, where file pages are not free."""
    import psutil

    try:
        memory = psutil.virtual_memory()
    except OSError:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    return memory.total, memory.available


def cgroup_limits(root: Path = ROOT, total: int | None = None) -> Iterator[tuple[int, int]]:
    """The (limit, used) pairs in bytes that bind this process: its control group's own and its parents'.

    Used memory leaves out inactive file pages, which the kernel drops as soon as something else needs the room;
    a model file that was just read would count twice otherwise. `total`: bytes of the machine, if they are known.
    """
    total = _system()[0] if total is None else total
    for folder, (limit, used, cache) in _accounts(root):
        most = text(folder / limit).strip()
        # A limit of more than there is binds nothing, and its account is the slow one to read.
        if most.isdecimal() and int(most) < total and (now := text(folder / used).strip()).isdecimal():
            yield int(most), max(0, int(now) - _stat(folder / "memory.stat", cache))


@lru_cache
def _accounts(root: Path) -> tuple[tuple[Path, tuple[str, str, str]], ...]:
    """The groups that tell a limit, with the names by which they do. Found once: each request asks several times for
    their figures, and a process seldom moves to another group.
    """
    groups = control_groups("memory", root)
    return tuple((folder, names) for folder in groups for names in (VERSION_2, VERSION_1) if text(folder / names[0]))


def _stat(path: Path, key: str) -> int:
    pairs = (line.split() for line in text(path).splitlines())
    return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == key and pair[1].isdecimal()), 0)


def human_bytes(count: float) -> str:
    """A size as a person reads it, in decimal units as model pages give them: 7600000 is "7.6 MB"."""
    if count == 1:
        return "1 byte"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
