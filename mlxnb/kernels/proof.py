"""Holds an attention path against float64 and against mlx-lm's own, case by case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import KernelError
from . import fused, stock
from .call import Array, Call
from .cases import Case
from .problem import Problem, problem
from .source import built

# A path passes where its error is at most the stock path's times SLACK. Where stock's is smaller than FLOOR, or there
# is none, FLOOR counts: half a unit in the last place for the 16-bit dtypes, where rounding the result costs a third,
# and eight units for float32, in which sums of 256 products are made.
SLACK = 1.05
FLOOR = {"bfloat16": 0.5 * 2.0**-7, "float16": 0.5 * 2.0**-10, "float32": 8 * 2.0**-23}
PLAINLY_WRONG = 0.05  # error from which the stock result is no rounding any more

KERNELS: Mapping[str, Callable[..., Array]] = {
    "decode_quantized": fused.decode_quantized,
    "decode_dense": fused.decode_dense,
    "prefill_dense": fused.prefill_dense,
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of one path on one case.

    Attributes:
        error: ‖output − float64‖ / ‖float64‖ of the path; infinite where it gave none or not finite values.
        stock_error: the same of the stock path; None where it refuses the case or is plainly wrong.
        stock_note: why `stock_error` is None.
        allowed: the largest error that passes.
        blind_are_zero: queries that may look at nothing gave zeros.
        fault: what the emulator's sanitizer or the path itself objected to; empty if nothing.
        traffic: bytes per buffer by kernel, where the emulator ran it.
    """

    case: Case
    path: str
    error: float
    stock_error: float | None
    stock_note: str
    allowed: float
    blind_are_zero: bool
    fault: str
    traffic: Mapping[str, Mapping[str, Any]]

    @property
    def passed(self) -> bool:
        return not self.fault and self.blind_are_zero and self.error <= self.allowed

    def __str__(self) -> str:
        held = f"stock {self.stock_error:.2g}" if self.stock_error is not None else self.stock_note
        state = "passed" if self.passed else f"FAILED {self.fault}".rstrip()
        return f"{self.path}: {state}, error {self.error:.2g} of {self.allowed:.2g} allowed ({held}); {self.case}"


def prove(path: str | Callable[[Call], Array], case: Case, metal_kernel: Callable[..., Any] | None = None) -> Proof:
    """Runs a path on a case and holds it against float64 and stock.

    Args:
        path: a name of KERNELS, or anything that computes a Call.
        case: see `cases`.
        metal_kernel: what makes the kernels of KERNELS: the emulator's `metal_kernel`; None is Metal itself.
    """
    posed = problem(case)
    stock_error, note = _stock(posed, case)
    name = path if isinstance(path, str) else getattr(path, "__name__", str(path))
    allowed = allowed_error(case.dtype, stock_error)
    fault, output = "", None
    try:
        output = KERNELS[path](posed.call, metal_kernel) if isinstance(path, str) else path(posed.call)
        error, blind = posed.error(output), posed.blind_are_zero(output)
    except KernelError as refusal:
        fault, error, blind = str(refusal), float("inf"), False
    traffic: dict[str, Any] = {}
    if output is not None and isinstance(path, str) and metal_kernel is not None:
        fault, traffic = _reports(path, metal_kernel)
    return Proof(case, name, error, stock_error, note, allowed, blind, fault, traffic)


def allowed_error(dtype: str, stock_error: float | None) -> float:
    """The largest relative error that passes beside a stock error; None where there is none to go by."""
    if stock_error is None or not stock_error <= PLAINLY_WRONG:  # wrong, infinite or no number
        return FLOOR[dtype]
    return max(FLOOR[dtype], SLACK * stock_error)


def _stock(posed: Problem, case: Case) -> tuple[float | None, str]:
    """The error of mlx-lm's own path in the dtype of the case, or why there is none to hold anything against."""
    from .device import device

    decision = stock.takes(case.config, device())
    try:
        error = posed.error(stock.attention(posed.call))
    except (ValueError, RuntimeError) as refusal:
        return None, f"stock refuses: {refusal}"
    if error > PLAINLY_WRONG:
        reason = "" if decision else f": {decision.reason}"
        return None, f"stock is wrong by {error:.2g}{reason}"
    return error, ""


def _reports(name: str, metal_kernel: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """What the sanitizer found in the last call of a kernel and of the one that joins its partial results."""
    names = [name, "combine"] if name.startswith("decode") else [name]
    reports = {part: built(part, metal_kernel).report for part in names}
    found = [f"{part}: {finding.message}" for part, report in reports.items() for finding in report.findings]
    return "; ".join(found), {part: dict(report.buffers) for part, report in reports.items()}
