"""What a `%%metal_kernel` cell shows: outputs, findings, and the bytes that each buffer moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..render import Table
from ..render.cells import Dot
from ..render.numbers import duration, plural

if TYPE_CHECKING:
    from ..kernels.emulator import Report
    from .metal_run import KernelRun

SHOWN = 6  # values of an output
DOTS = {"error": "error", "warning": "warning"}


def tables(run: KernelRun) -> list[Table]:
    """Outputs first, then findings if there are any, then the bytes."""
    shown = [_outputs(run)] if run.report is None or run.report.ok else []
    if run.report is not None:
        shown += [_findings(run.report)] if run.report.findings else []
        shown.append(_bytes(run.report))
    return shown


def _outputs(run: KernelRun) -> Table:
    rows = [
        (name, str(tuple(a.shape)), str(a.dtype).removeprefix("mlx.core."), _values(a))
        for name, a in run.outputs.items()
    ]
    if run.seconds is not None:
        caption = f"Metal · {duration(run.seconds)} a launch"
    else:
        clean = "" if run.report is None or run.report.findings else " · nothing found by the sanitizer"
        caption = f"Emulated on the CPU; the time says nothing about a GPU{clean}"
    return Table(("output", "shape", "dtype", "values"), rows, caption=caption)


def _values(array: Any) -> str:
    import mlx.core as mx

    flat = array.reshape(-1)[:SHOWN]
    numbers = (flat.astype(mx.float32) if flat.dtype in (mx.float16, mx.bfloat16) else flat).tolist()
    text = ", ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)
    return text + (", …" if array.size > SHOWN else "")


def _findings(report: Report) -> Table:
    rows = [
        (Dot(DOTS[f.grade], f.kind), _line(f.line, f.part), f.message, f.count)  # type: ignore[arg-type]
        for f in report.findings
    ]
    return Table(("finding", "line of the cell", "what", "times"), rows, caption="What the sanitizer found")


def _line(line: int | None, part: str) -> str:
    if line is None:
        return ""
    return str(line) if part == "source" else f"{part}, {line}"


def _bytes(report: Report) -> Table:
    rows = [
        (name, t.read, t.read_unique, t.read_unique_per_threadgroup, t.written, t.written_unique)
        for name, t in report.buffers.items()
    ]
    columns = ("buffer", "read", "unique", "unique by threadgroup", "written", "unique written")
    units = ["", "B", "B", "B", "B", "B"]
    caption = f"{plural(report.threads, 'thread')} in {plural(report.threadgroups, 'threadgroup')}, bytes moved"
    return Table(list(zip(columns, units, strict=True)), rows, caption=caption)
