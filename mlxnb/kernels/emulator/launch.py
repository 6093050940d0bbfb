"""Runs a compiled kernel once, in a child process that may crash, spin or write wildly without harm to this one."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import KernelError
from .build import Built
from .findings import worded
from .lines import Place, line_tool, places
from .report import Report, ThreadgroupArray, Traffic
from .signature import KernelText
from .sites import own_line

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[int, int, int]
_REFUSED, _NOT_LOADED = 2, 3  # the runner's exit status where it cannot begin
GRACE = 5.0  # seconds after the runner's own limit until it is killed
MOST_BUFFERS = 63  # as native/runner/memory.h


@dataclass(slots=True)
class Argument:
    """An array that a kernel is given. Outputs are written in place; `initialised` ones may be read before that."""

    name: str
    data: Array
    output: bool = False
    initialised: bool = True


class NotStartedError(KernelError):
    """The compiled kernel could not be started or loaded, before anything of it ran."""


def launch(
    built: Built,
    text: KernelText,
    arguments: Sequence[Argument],
    grid: Triple,
    threadgroup: Triple,
    checks: bool,
    time_limit: float,
) -> Report:
    """Run the kernel over `grid` threads and write its outputs into their arrays.

    Raises:
        NotStartedError: the compiled files are damaged, or may not be executed where they are.
        KernelError: the machine has not the memory for it.
    """
    offsets, size = _layout(arguments)
    description = _description(arguments, offsets, grid, threadgroup, checks, time_limit)
    with _shared_file(size) as file, mmap.mmap(file.fileno(), size) as memory:
        for argument, offset in zip(arguments, offsets, strict=True):
            _bytes_at(memory, argument, offset)[:] = _bytes(argument) if argument.initialised else 0xFF
        raw = _run(built, description, file.fileno(), time_limit)
        for argument, offset in zip(arguments, offsets, strict=True):
            if argument.output:
                _bytes(argument)[:] = _bytes_at(memory, argument, offset)
    return _report(raw, built, text)


def _bytes(argument: Argument) -> Array:
    return argument.data.reshape(-1).view(np.uint8)


def _bytes_at(memory: mmap.mmap, argument: Argument, offset: int) -> Array:
    return np.frombuffer(memory, np.uint8, argument.data.nbytes, offset)


def _layout(arguments: Sequence[Argument]) -> tuple[list[int], int]:
    """Where each array's bytes go in the shared file: at the end of its pages, but for the alignment to 16."""
    offsets, end = [], 0
    for argument in arguments:
        pages = -(-argument.data.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        offsets.append(end + (pages - argument.data.nbytes) // 16 * 16)
        end += pages
    return offsets, max(end, mmap.PAGESIZE)


def _shared_file(size: int) -> Any:
    """A file of that size without a name, in memory where the system has such a thing."""
    try:
        file: Any = _in_memory() if sys.platform == "linux" else tempfile.TemporaryFile()  # noqa: SIM115
        file.truncate(size)
    except OSError as error:
        raise KernelError(
            f"The kernel's arrays take {size} bytes: {error.strerror}.", "Give it smaller ones."
        ) from None
    return file


def _in_memory() -> Any:
    return os.fdopen(os.memfd_create("mlxnb"), "w+b")


def _description(
    arguments: Sequence[Argument],
    offsets: Sequence[int],
    grid: Triple,
    threadgroup: Triple,
    checks: bool,
    time_limit: float,
) -> str:
    """The launch in the runner's words; a buffer's offset is that of its first page."""
    lines = [f"{int(checks)} {time_limit:.6f}", " ".join(map(str, (*grid, *threadgroup))), str(len(arguments))]
    for argument, offset in zip(arguments, offsets, strict=True):
        flags = int(argument.output) + 2 * int(argument.initialised)
        first_page = offset // mmap.PAGESIZE * mmap.PAGESIZE
        lines.append(f"{argument.name[:63]} {argument.data.nbytes} {argument.data.itemsize} {flags} {first_page}")
    return "\n".join(lines) + "\n"


def _run(built: Built, description: str, file: int, time_limit: float) -> dict[str, Any]:
    """The runner's report; where it gave none, a report of its end."""
    command = [str(built.runner), str(built.library), str(file), *filter(None, [line_tool()])]
    pipe = subprocess.PIPE
    with _started(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, pass_fds=(file,)) as process:
        try:
            output, complaint = process.communicate(description, timeout=time_limit + GRACE)
        except subprocess.TimeoutExpired:
            return _ended("time-limit", index=int(time_limit * 1e6))
        finally:
            process.kill()
    if process.returncode == _NOT_LOADED:
        raise _not_started(built.library, complaint.strip())
    if process.returncode == _REFUSED:
        raise KernelError(
            complaint.strip() or "The kernel could not be started.", "Give it smaller arrays, or free some memory."
        )
    try:
        return json.loads(output)
    except ValueError:
        return _ended("crash", bytes=abs(process.returncode))


def _started(command: list[str], **options: Any) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(command, **options)
    except OSError as error:
        raise _not_started(Path(command[0]), error.strerror or str(error)) from None


def _not_started(path: Path, why: str) -> NotStartedError:
    return NotStartedError(
        f"The compiled kernel cannot be run from {path.parent}: {why}.",
        "Set MLXNB_CACHE_DIR to a folder on a disk from which programs may be run.",
    )


def _ended(kind: str, **numbers: int) -> dict[str, Any]:
    finding = {
        "kind": kind,
        "space": "",
        "subject": "",
        "pc": 0,
        "earlier_pc": 0,
        "callers": [],
        "where": ["", 0],
        "earlier_where": ["", 0],
    }
    finding |= {"index": 0, "bytes": 0, "has_thread": 0, "count": 1} | numbers
    return {"complete": 0, "findings": [finding], "buffers": [], "threadgroup": []}


def _report(raw: dict[str, Any], built: Built, text: KernelText) -> Report:
    addresses = [a for f in raw["findings"] for a in (f["pc"], f["earlier_pc"], *f["callers"])]
    found = places(built.library, addresses)

    def place(where: tuple[str, int], *addresses: int) -> Place | None:
        file, line = where
        known = (found[address] for address in addresses if address in found)
        return Place(file.rsplit("/", 1)[-1], own_line(line)) if line else next(known, None)

    findings = tuple(
        worded(f, text, place(f["where"], f["pc"], *f["callers"]), place(f["earlier_where"], f["earlier_pc"]))
        for f in raw["findings"]
    )
    return Report(
        findings=findings,
        buffers={buffer.pop("name"): Traffic(**buffer) for buffer in raw["buffers"]},
        threadgroup={array.pop("name"): ThreadgroupArray(**array) for array in raw["threadgroup"]},
        seconds=raw.get("seconds", 0.0),
        threads=raw.get("threads", 0),
        threadgroups=raw.get("threadgroups", 0),
        barriers=raw.get("barriers", 0),
        simd_calls=raw.get("simd_calls", 0),
        complete=bool(raw["complete"]),
    )
