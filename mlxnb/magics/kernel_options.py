"""The options of `%patch_kernels`, declared once."""

from __future__ import annotations

import argparse

from ..errors import OptionError
from ..request import KV_BITS
from .line import check_name
from .options import OptionParser

COMMANDS = {
    "status": "the path in use for each layer and shape, its calls, and why not another (also without a command)",
    "on": "send attention down the path that was measured fastest; new shapes are measured as they come",
    "off": "mlx-lm's own attention, exactly as it was; thresholds go back to their defaults",
    "verify": "prove every path against float64: natively on a Mac, the Metal kernels in the emulator elsewhere",
    "tune": "measure a model's shapes now, whatever the thresholds say",
    "bench": "stock against patched on a model, alternating, by context length",
    "explain": "what each path would do for a model's shapes, and why",
}
THRESHOLDS = {
    "min_len": "keys below which stock is used unmeasured",
    "max_len": "keys above which stock is used",
    "min_ratio": "query heads a KV head, at least",
    "min_heads": "query heads, at least",
}
ON_A_MODEL = {"model", "kv_bits", "lengths", "into"}
BELONGING = {
    "status": {"into"},
    "on": {*THRESHOLDS, "strict", "into"},
    "off": set(),
    "verify": {"full", "into"},
    "tune": ON_A_MODEL,
    "bench": {*ON_A_MODEL, "save"},
    "explain": ON_A_MODEL,
}
USAGE = f"%patch_kernels [{' | '.join(COMMANDS)}] [options]"


def kernels_parser() -> OptionParser:
    """The parser of `%patch_kernels`."""
    lines = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    parser = OptionParser(
        prog="%patch_kernels", usage=USAGE, description=f"Attention paths for mlx-lm models.\n\ncommands:\n{lines}"
    )
    parser.add_argument("command", nargs="?", default="status", help=argparse.SUPPRESS)
    parser.add_argument("-m", "--model", metavar="NAME", help="tune, bench, explain: which model")
    parser.add_argument("--kv-bits", metavar="N", help="tune, bench, explain: with a KV cache of 4 or 8 bits")
    parser.add_argument("--lengths", metavar="N,N", help="tune, bench, explain: context lengths in tokens")
    for name, text in THRESHOLDS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", help=f"on: {text}")
    parser.add_argument("--strict", action="store_true", help="on: raise where no path of ours works")
    parser.add_argument("--full", action="store_true", help="verify: every combination, and not a covering choice")
    parser.add_argument("--save", metavar="FILE", help="bench: where the runs go, as JSON")
    parser.add_argument("--into", metavar="NAME", help="put what was found into this variable")
    return parser


def check_belonging(options: argparse.Namespace) -> None:
    """Refuse an option that says nothing to its command, and a name that is no variable.

    Raises:
        OptionError: naming the commands that the option belongs to.
    """
    given = {name for name, value in vars(options).items() if value not in (None, False)} - {"command", "help"}
    for name in sorted(given - BELONGING[options.command]):
        homes = [command for command, names in BELONGING.items() if name in names]
        option = f"--{name.replace('_', '-')}"
        raise OptionError(f"{option} says nothing to {options.command}.", f"It belongs to {' and '.join(homes)}.")
    check_name(options.into)


def whole_number(name: str, text: str | None) -> int | None:
    """The option's value.

    Raises:
        OptionError: it is no whole number.
    """
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"{name} is {text!r}.", "It takes a whole number.") from None


def kv_bits(text: str | None) -> int | None:
    """The value of --kv-bits.

    Raises:
        OptionError: no such quantisation.
    """
    bits = whole_number("--kv-bits", text)
    if bits is not None and bits not in KV_BITS:
        raise OptionError(f"--kv-bits is {bits}.", f"It takes {' or '.join(map(str, KV_BITS))}.")
    return bits


def lengths_of(text: str | None) -> tuple[int, ...]:
    """The value of --lengths; empty where it was not given.

    Raises:
        OptionError: not all are whole numbers of at least 16.
    """
    lengths = [] if text is None else [whole_number("--lengths", part) or 0 for part in text.split(",")]
    if any(length < 16 for length in lengths):
        raise OptionError(f"--lengths is {text!r}.", "It takes whole numbers of at least 16, as in 256,1024,4096.")
    return tuple(sorted(set(lengths)))
