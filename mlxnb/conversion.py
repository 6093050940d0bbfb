"""What a person can ask a conversion for, checked when made, and the same as options on a line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import OptionError

# Of MLX's affine quantisation: bits of a weight, and weights that share a scale.
BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
GROUP = 64  # unless told

# mlx-lm's mixed recipes: bits of most layers, and of those that a model misses most.
RECIPES: Mapping[str, tuple[int, int]] = {
    "mixed_2_6": (2, 6),
    "mixed_3_4": (3, 4),
    "mixed_3_6": (3, 6),
    "mixed_4_6": (4, 6),
}

# What each format calls so many bits.
KINDS: Mapping[str, Mapping[int, str]] = {
    "mlx": {bits: f"{bits}-bit" for bits in BITS},
    "gguf": {4: "q4_0", 5: "q5_0", 8: "q8_0"},
    "onnx": {4: "int4", 8: "int8"},
}
# Kinds that llama.cpp has beside, by the names that it gives them.
GGUF_KINDS = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k")
DTYPES = ("float16", "bfloat16", "float32")

# Options that no other command has.
OWN = ("to", "group_size", "mixed", "force", "no_check", "text")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to make of a model.

    to: one of KINDS. bits: a weight's, None to leave them whole; for GGUF also one of GGUF_KINDS. group_size: weights
    that share a scale, None for GROUP. mixed: one of RECIPES, in the place of `bits`. dtype: of what is not quantised,
    None for as it is.

    Raises:
        OptionError: a value that there is not, or two that do not go together.
    """

    to: str = "mlx"
    bits: int | str | None = None
    group_size: int | None = None
    mixed: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        _check("to", self.to or repr(self.to), tuple(KINDS))
        named = GGUF_KINDS if self.to == "gguf" else ()
        _check(f"quantize (to {self.to})", self.bits, (*KINDS[self.to], *named))
        _check("group_size", self.group_size, GROUPS)
        _check("mixed", self.mixed, tuple(RECIPES))
        _check("dtype", self.dtype, DTYPES)
        if self.to != "mlx" and (self.group_size or self.mixed):
            option = "group_size" if self.group_size else "mixed"
            raise OptionError(f"{option} is for MLX's format, and {self.to} has its own blocks.", "Leave it out.")
        if self.mixed and self.bits:
            raise OptionError(f"{self.mixed} says the bits of every layer.", "Leave out quantize, or mixed.")
        if self.group_size and not (self.bits or self.mixed):
            raise OptionError("group_size says nothing where nothing is quantised.", "Say quantize or mixed too.")

    @property
    def kind(self) -> str | None:
        """What its format calls the quantisation; None where the weights stay whole."""
        return self.mixed or (KINDS[self.to][self.bits] if isinstance(self.bits, int) else self.bits)

    def words(self) -> str:
        """What it does to the weights, such as "4-bit, group 64"."""
        if self.kind and self.to == "mlx":
            return f"{self.kind}, group {self.group_size or GROUP}"
        return self.kind or self.dtype or "weights whole"


def _check(name: str, value: object, takes: tuple[object, ...]) -> None:
    if value is not None and (isinstance(value, bool | float) or value not in takes):
        raise OptionError(f"{name} is {value!r}.", f"It takes {', '.join(map(str, takes))}.")


def add_options(parser: argparse.ArgumentParser, before: str = "") -> None:
    """Declare them, but for --quantize, --dtype and --backend; `before` goes before each help."""
    groups, recipes = ", ".join(map(str, GROUPS)), ", ".join(RECIPES)
    parser.add_argument("--to", metavar="FORMAT", help=f"{before}{', '.join(KINDS)} (default mlx)")
    parser.add_argument("--group-size", metavar="N", help=f"{before}weights that share a scale: {groups} (default 64)")
    parser.add_argument("--mixed", metavar="RECIPE", help=f"{before}some layers in more bits: {recipes}")
    parser.add_argument("--force", action="store_true", help=f"{before}replace a model that is at the target")
    parser.add_argument("--no-check", action="store_true", help=f"{before}leave out the check against the source")
    parser.add_argument("--text", metavar="FILE", help=f"{before}a text of your own for the check, in UTF-8")


def as_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What Engine.convert takes, but for source, target and progress.

    Raises:
        OptionError: a value is no number where one is expected.
    """
    return {
        "to": options.to or "mlx",
        "quantize": _bits(options.quantize),
        "group_size": _whole("--group-size", options.group_size, GROUPS),
        "mixed": options.mixed,
        "dtype": options.dtype,
        "force": options.force,
        "check": not options.no_check,
        "text": options.text,
        "backend": options.backend or "auto",
    }


def check_belonging(options: argparse.Namespace) -> None:
    """Refuse an option of a conversion beside another command.

    Raises:
        OptionError: naming it.
    """
    given = [name for name in OWN if getattr(options, name) not in (None, False)]
    if given and options.command != "convert":
        option = "--" + given[0].replace("_", "-")
        raise OptionError(f"{option} says nothing to {options.command}.", "It belongs to convert.")


def _bits(text: str | None) -> int | str | None:
    """--quantize in bits: 4, or int4 as it is written where models are loaded; or what llama.cpp calls it."""
    if text is None or text == "none":
        return None
    if text.lower() in GGUF_KINDS:
        return text.lower()
    return _whole("--quantize", re.sub(r"\Aint(?=\d+\Z)", "", text), BITS)


def _whole(name: str, text: str | None, takes: tuple[int, ...]) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise OptionError(f"{name} is {text!r}.", f"It takes {', '.join(map(str, takes))}.")
    return int(text)
