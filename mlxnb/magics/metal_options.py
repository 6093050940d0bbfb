"""The options of `%%metal_kernel`, declared once, and what their values mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from .options import OptionParser

USAGE = "%%metal_kernel --in NAMES --out OUTPUTS [options]\n<body of a Metal kernel>"
NOTES = """\
The body is the same text that mx.fast.metal_kernel takes: inputs and outputs by their names, a_shape, a_strides and
a_ndim where they are mentioned, and Metal's own names such as thread_position_in_grid. An output is written
NAME, NAME:DTYPE, NAME[SHAPE] or NAME:DTYPE[SHAPE]; what is left out is as in the first input. {{ expression }} in an
option is replaced by its value. Outputs become variables of the notebook."""
OUTPUT = re.compile(r"(?P<name>\w+)(?::(?P<dtype>\w+))?(?:\[(?P<shape>[\d,\s]*)\])?")
GROUP = 256


@dataclass(frozen=True, slots=True)
class Output:
    """An output as written; `dtype` and `shape` None where they follow the first input."""

    name: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


def metal_parser() -> OptionParser:
    """The parser of `%%metal_kernel`."""
    parser = OptionParser(
        prog="%%metal_kernel",
        usage=USAGE,
        epilog=NOTES,
        description="Run a Metal kernel: natively on a Mac, emulated elsewhere.",
    )
    parser.add_argument("--in", dest="inputs", metavar="NAMES", help="variables that the kernel reads, as a,b")
    parser.add_argument("--out", dest="outputs", metavar="OUTPUTS", help="what it writes, as c or c:float32[4,8]")
    parser.add_argument(
        "--grid", metavar="X,Y,Z", help="threads in all (default one for each element of the first output)"
    )
    parser.add_argument("--group", metavar="X,Y,Z", help=f"threads of a threadgroup (default up to {GROUP})")
    parser.add_argument("--template", metavar="T=V", help="template arguments, as T=float32,N=4,FAST=true")
    parser.add_argument("--header", metavar="NAME", help="a variable with Metal code that goes before the kernel")
    parser.add_argument("--name", metavar="NAME", help="the kernel's name (default cell)")
    parser.add_argument("--init", metavar="X", help="fill the outputs with this first")
    parser.add_argument("--strided", action="store_true", help="pass inputs with their strides, not row-contiguous")
    parser.add_argument("--atomic", action="store_true", help="outputs are atomic")
    parser.add_argument("--emulate", action="store_true", help="emulate on a Mac too")
    parser.add_argument("--limit", metavar="SECONDS", help="stop an emulated kernel after this long (default 60)")
    parser.add_argument("--into", metavar="NAME", help="put outputs and report into this variable")
    return parser


def outputs_of(text: str | None) -> list[Output]:
    """The value of --out.

    Raises:
        OptionError: nothing, or not written as an output.
    """
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", text or "")]
    found = [OUTPUT.fullmatch(part) for part in parts]
    if not all(found):
        remedy = "It takes outputs as in c, c:float32 or c:float32[4,8], with commas between them."
        raise OptionError(f"--out is {text!r}." if text else "There is no --out.", remedy)
    return [Output(m["name"], m["dtype"], _shape(m["shape"])) for m in found if m]


def _shape(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(int(part) for part in text.split(",") if part.strip())


def threads_of(name: str, text: str | None, default: Sequence[int]) -> tuple[int, int, int]:
    """A grid or a threadgroup: one to three counts.

    Raises:
        OptionError: anything else.
    """
    parts = list(default) if text is None else [part.strip() for part in text.split(",")]
    try:
        counts = [int(part) for part in parts]
    except ValueError:
        counts = []
    if not 1 <= len(counts) <= 3 or min(counts, default=0) < 1:
        raise OptionError(f"{name} is {text!r}.", "It takes one to three counts, as in 1024 or 32,8,1.")
    return (*counts, 1, 1, 1)[:3]  # type: ignore[return-value]


def default_grid(shape: Sequence[int]) -> tuple[int]:
    """A thread for each element."""
    return (max(1, math.prod(shape)),)


def template_of(text: str | None, dtypes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Template arguments: a dtype, a whole number or true/false each.

    Raises:
        OptionError: none of these.
    """
    found = []
    for part in (text or "").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        known: dict[str, Any] = {**dtypes, "true": True, "false": False}
        if not equals or (value not in known and not re.fullmatch(r"-?\d+", value)):
            remedy = "It takes a dtype, a whole number, true or false, as in T=float32,N=4."
            raise OptionError(f"--template has {part.strip()!r}.", remedy)
        found.append((name, known[value] if value in known else int(value)))
    return found


def seconds_of(text: str | None, default: float) -> float:
    """The value of --limit.

    Raises:
        OptionError: no positive number.
    """
    try:
        seconds = default if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise OptionError(f"--limit is {text!r}.", "It takes a number of seconds above 0.")
    return seconds
