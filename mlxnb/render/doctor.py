"""The tables of `mlxnb doctor`: the machine, its speeds, and what is ready or missing."""

from __future__ import annotations

import time

from ..decision import Absent, Decision, Rejected
from ..doctor import Diagnosis
from .cells import Cell, Dot
from .numbers import plural, size
from .table import Table

DTYPES = ("float32", "bfloat16", "float16", "int8")


def doctor_tables(diagnosis: Diagnosis) -> list[Table]:
    """What a person reads from top to bottom; what needs doing comes last, where the eye ends."""
    return [_machine(diagnosis), _speeds(diagnosis), _versions(diagnosis), _parts(diagnosis)]


def _machine(d: Diagnosis) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("chip", d.chip),
        ("cores", _cores(d)),
        ("instruction sets", ", ".join(d.instruction_sets) or "not told"),
        ("memory", f"{size(d.memory_free)} of {size(d.memory_total)} free"),
    ]
    for gpu in d.accelerators:
        memory = f", {size(gpu.memory_total)}" if gpu.memory_total else ""
        free = f", {size(gpu.memory_free)} free" if gpu.memory_free is not None else ""
        rows.append(("GPU", f"{gpu.name} ({gpu.kind}){memory}{free}"))
    if not d.accelerators:
        rows.append(("GPU", _computed_on(d) or "none found"))
    return Table(("machine", "what it is"), [*rows, ("system", d.system)])


def _computed_on(d: Diagnosis) -> str:
    """A GPU that only the libraries know of: in a container the system's own programs may be missing."""
    measured = () if isinstance(d.speeds, Rejected) else d.speeds.measured
    seen = [f"{speed.library} computes on {speed.device}" for speed in measured if speed.device != "cpu"]
    return f"{', '.join(seen)}; the system does not tell of it" if seen else ""


def _cores(d: Diagnosis) -> str:
    c = d.cores
    said = f"{c.usable} usable"
    if c.performance is not None and c.efficiency is not None:
        return f"{said}; {c.performance} performance and {plural(c.efficiency, 'efficiency core')}"
    return f"{said} of {plural(c.physical, 'physical core')}" if c.physical else said


def _speeds(d: Diagnosis) -> Table:
    if isinstance(d.speeds, Rejected):
        return Table(("speed", "why not"), [(Dot("error", "not measured"), str(d.speeds))])
    rows = [
        (s.library, s.device, _giga(s.copy), *(_giga(s.products.get(dtype)) for dtype in DTYPES))
        for s in d.speeds.measured
    ]
    columns: list[str | tuple[str, str]] = [
        "library",
        "device",
        ("copy", "GB/s"),
        *((dtype, "Gop/s") for dtype in DTYPES),
    ]
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(d.speeds.at))
    busy = f" while {d.speeds.busy:.0%} of the processor was taken" if d.speeds.busy >= 0.1 else ""
    return Table(columns, rows, caption=f"Measured {when}{busy}: bytes read and written, and matrix products")


def _giga(per_second: float | None) -> float | None:
    return None if per_second is None else per_second / 1e9


def _versions(d: Diagnosis) -> Table:
    return Table(("package", "version"), [(name, found or "not installed") for name, found in d.versions.items()])


def _parts(d: Diagnosis) -> Table:
    rows = [(f.subject, _state(f), f.reason, f.remedy if isinstance(f, Rejected) else "") for f in d.findings]
    return Table(("part", "state", "what was found", "to mend it"), rows)


def _state(finding: Decision) -> Dot:
    if isinstance(finding, Absent):
        return Dot("off", "absent")
    return Dot("warning", "mend") if isinstance(finding, Rejected) else Dot("success", "ready")
