"""What a person gives for a plan's options, as text or as values: names, numbers, limits, and fields to sweep."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar

from ...errors import OptionError
from ...request import Request, Sampling, option_fields
from ..report import Value

T = TypeVar("T")

SETTLED: Literal["settled"] = "settled"

# On and off are read for these; "kernels" is no field of a Request, but attention kernels patched in or not.
SWITCHES = ("kernels", "strict")
NOT_SWEPT = {"messages", "prompt", "sampling", "stop", "schema", "tools"}
SECONDS = re.compile(r"([0-9.]+(?:e-?[0-9]+)?)\s*(ms|s|)", re.I)


def sweepable() -> list[str]:
    """The fields that a plan can vary, or hold for all of its requests."""
    both = {f.name for f in (*fields(Request), *fields(Sampling))} - NOT_SWEPT - {"model"}
    return sorted({*both, "kernels"})


def as_sweep(option: str) -> str:
    """How an option that only requests have is given to a profile; "" where there is no such one."""
    name = option.lstrip("-").partition("=")[0]
    return f"To set it, write --sweep {name}=VALUE." if name.replace("-", "_") in sweepable() else ""


def names(option: str, given: Any) -> tuple[str, ...]:
    """Names out of a comma-separated text or a list of texts.

    Raises:
        OptionError: an empty name, or something else.
    """
    parts = given.split(",") if isinstance(given, str) else listed(option, given, "names, separated by commas")
    if not all(isinstance(part, str) and part.strip() for part in parts):
        raise OptionError(f"{option} is {given!r}.", "It takes names, separated by commas.")
    return tuple(dict.fromkeys(part.strip() for part in parts))


def numbers(option: str, given: Any) -> tuple[int, ...]:
    """Whole numbers of at least 1, out of one, a comma-separated text or a list.

    Raises:
        OptionError: something else.
    """
    takes = "whole numbers of at least 1, separated by commas"
    if isinstance(given, str):
        parts: Iterable[Any] = [part.strip() for part in given.split(",")]
    else:
        parts = [given] if isinstance(given, int) else listed(option, given, takes)
    return tuple(dict.fromkeys(whole(option, part, 1, f"It takes {takes}.") for part in parts))


def whole(option: str, given: Any, least: int, takes: str = "") -> int:
    """A whole number of at least `least`, given as one or as its digits.

    Raises:
        OptionError: something else.
    """
    digits = isinstance(given, str) and given.strip().isdecimal()
    number = int(given) if digits else given
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise OptionError(f"{option} is {given!r}.", takes or f"It takes a whole number of at least {least}.")
    return number


def seconds(option: str, given: Any) -> float:
    """Seconds above 0, as a number or as text such as "200ms" or "1.5s".

    Raises:
        OptionError: something else.
    """
    takes = "It takes seconds above 0, or milliseconds as in 200ms."
    if isinstance(given, str):
        read = SECONDS.fullmatch(given.strip())
        try:
            value = float(read[1]) / (1000 if read[2].lower() == "ms" else 1) if read else math.nan
        except ValueError:
            value = math.nan
    else:
        value = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else math.nan
    if not 0 < value < math.inf:
        raise OptionError(f"{option} is {given!r}.", takes)
    return value


def seconds_or_settled(option: str, given: Any) -> float | Literal["settled"]:
    """Seconds as `seconds` takes them, or the word that means until memory has settled.

    Raises:
        OptionError: something else.
    """
    if isinstance(given, str) and given.strip().lower() == SETTLED:
        return SETTLED
    try:
        return seconds(option, given)
    except OptionError as err:
        raise OptionError(err.message, f"{err.remedy[:-1]}, or {SETTLED}: until memory stops growing.") from None


def listed(option: str, given: Any, takes: str) -> list[Any]:
    """The parts of something that is a list in any form.

    Raises:
        OptionError: it is none, or an empty one.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise OptionError(f"{option} is {given!r}.", f"It takes {takes}.")
    parts = list(given)
    if not parts:
        raise OptionError(f"{option} is empty.", f"It takes {takes}.")
    return parts


def pairs(option: str, given: Any, takes: str) -> dict[str, Any]:
    """Names with what is given for each, out of a mapping, or of "name=value" texts.

    Raises:
        OptionError: something else.
    """
    if isinstance(given, Mapping):
        return dict(given)
    parts = [given] if isinstance(given, str) else listed(option, given, takes)
    read: dict[str, Any] = {}
    for part in parts:
        name, found, value = part.partition("=") if isinstance(part, str) else ("", "", "")
        if not found or not name.strip() or not value.strip():
            raise OptionError(f"{option} is {part!r}.", f"It takes {takes}.")
        if name.strip() in read:
            raise OptionError(f"{option} names {name.strip()} twice.", f"It takes {takes}.")
        read[name.strip()] = value.strip()
    return read


def near(name: object, known: Iterable[str], otherwise: str) -> str:
    """What a person who wrote `name` probably meant among the known; else the sentence `otherwise`."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"Did you mean {found[0]}?" if found else otherwise


def check_field(name: str) -> None:
    """Refuse what is no field that a plan can vary.

    Raises:
        OptionError: naming those that are.
    """
    known = sweepable()
    if name not in known:
        hint = near(name, known, f"Fields are {', '.join(known)}.")
        hint = "Name models by themselves: models=…" if name == "model" else hint
        raise OptionError(f"There is no field {name!r} to vary.", hint)


def field_value(name: str, given: Any) -> Value:
    """One value of a field, out of itself or of its text: "none" is None, a number's digits are the number.

    Raises:
        OptionError: text where a number belongs, or no such field.
    """
    check_field(name)
    if name in SWITCHES:
        return _switch(name, given)
    if isinstance(given, os.PathLike):  # the folder of an adapter
        given = os.fspath(given)
    if not isinstance(given, str):
        if given is None or isinstance(given, int | float):
            kind = option_fields()[name].metadata["kind"] if name in option_fields() else None
            return float(given) if kind is float and type(given) is int else given  # 0 and 0.0 are one case
        raise OptionError(f"{name} is {given!r}.", "It takes a number, a name, or None.")
    text = given.strip()
    if text.lower() in ("none", "null"):
        return None
    meta = option_fields().get(name)
    return text if meta is None else _read(name, text, meta.metadata["kind"])


def _read(name: str, text: str, kind: Callable[[str], int | float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        takes = "a whole number" if kind is int else "a number"
        raise OptionError(f"{name} is {text!r}.", f"It takes {takes}.") from None


def _switch(name: str, given: Any) -> bool:
    if isinstance(given, bool):
        return given
    word = given.strip().lower() if isinstance(given, str) else ""
    if word not in ("on", "off", "true", "false"):
        raise OptionError(f"{name} is {given!r}.", "It takes on or off.")
    return word in ("on", "true")
