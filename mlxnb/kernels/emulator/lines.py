"""Lines of a kernel's text for places in its machine code, through the debugging information in its file."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .cache import NATIVE
from .signature import HEADER, SOURCE
from .sites import own_line

_TOOLS = ("addr2line", "llvm-addr2line", *(f"llvm-addr2line-{version}" for version in range(24, 14, -1)))


@dataclass(frozen=True, slots=True)
class Place:
    file: str
    line: int


@lru_cache
def line_tool() -> str | None:
    """The path of this machine's addr2line, or of LLVM's."""
    return next((path for path in map(shutil.which, _TOOLS) if path), None)


def places(library: Path, addresses: Iterable[int]) -> dict[int, Place]:
    """The line that each address belongs to: the innermost one that is not the emulator's own.

    Addresses without one are left out, and all of them where the machine has no addr2line.
    """
    wanted = sorted({address for address in addresses if address})
    tool = line_tool()
    if not wanted or not tool:
        return {}
    command = [tool, "-a", "-i", "-e", str(library), *map(hex, wanted)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[int, Place] = {}
    address = 0
    for line in answer.stdout.split("\n"):
        if re.fullmatch(r"0x[0-9a-f]+", line.strip()):
            address = int(line, 16)
        elif address not in found and (place := _place(line)):
            found[address] = place
    return found


def _place(line: str) -> Place | None:
    match = re.match(r"(.*):(\d+)", line)
    if not match or match.group(2) == "0" or match.group(1).startswith(("?", str(NATIVE))):
        return None
    name = match.group(1).rsplit("/", 1)[-1]
    if name.startswith("kernel.") and name not in (SOURCE, HEADER):
        return None
    return Place(name, own_line(int(match.group(2))))
