"""What a person can ask a profile for, as options on a line, and what their text means."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import OptionError
from .request import option_fields

NONE = "none"
# Fields of a Request that take words, beside those that take numbers.
WORDS = ("backend", "cache", "draft", "dtype", "quantize")
# What a list of is measured one by one by options of its own, and may be swept by the same name.
OWN = ("concurrency", "prompt_tokens")
# Options that become a field of every request, or are swept where they have several values.
FIELDS = ("backend", "quantize", "kv_bits")
LIMITS = ("ttft", "tpot", "total")
UNITS = {"ms": 1e-3, "s": 1.0}

LISTS = {
    "prompt_tokens": "also prompts of random tokens, of these exact lengths: 128,1024,4096",
    "concurrency": "requests at a time, one after the other: 1,2,4",
}
NUMBERS = {
    "max_tokens": "tokens of each answer (default the scenario's own)",
    "runs": "how often each case is measured",
    "warmup": "runs before those, which do not count",
}
VALUES = {
    "kv_bits": "the KV cache in 4 or 8 bits, or none",
    "quantize": "the weights in int8 or int4, or none",
    "backend": "what computes",
}
SEVERAL = "; several with commas between are measured one by one"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what every front takes, but for the models and for what becomes of the report."""
    parser.add_argument("--quick", action="store_true", help="a few short cases, in seconds rather than minutes")
    parser.add_argument("--scenario", metavar="NAME,…", help="which scenarios (default all, with --quick a few)")
    parser.add_argument("--prompts", metavar="FILE", help="prompts of your own, parted by lines of three dashes")
    for name, text in LISTS.items():
        parser.add_argument(_flag(name), metavar="N,…", help=text)
    for name, text in NUMBERS.items():
        parser.add_argument(_flag(name), metavar="N", help=text)
    for name, text in VALUES.items():
        parser.add_argument(_flag(name), metavar="VALUE,…", help=text + SEVERAL)
    sweep = "measure with each value of an option of %%generate: temperature=0,0.7; may be repeated"
    parser.add_argument("--sweep", metavar="FIELD=A,B,…", action="append", help=sweep)
    compare = "take models, backends or swept values in turns, and hold each against the first"
    parser.add_argument("--compare", action="store_true", help=compare)
    parser.add_argument("--stress", metavar="SECONDS", help="then generate for so long, and look for a leak")
    slo = f"limits of goodput, of {', '.join(LIMITS)}: ttft=0.5,tpot=50ms"
    parser.add_argument("--slo", metavar="NAME=TIME,…", help=slo)
    parser.add_argument("--no-inside", action="store_true", help="leave out the pass that looks inside a token")
    parser.add_argument("--save", metavar="DIR", help="write the report there: JSON, Markdown and pictures")
    parser.add_argument("--against", metavar="REPORT", help="compare with a report that was saved")


def as_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What `mlxnb.profile` takes, but for models and prompts; only what was given.

    Raises:
        OptionError: a value that is not what its option takes.
    """
    arguments: dict[str, Any] = {name: True for name in ("quick", "compare") if getattr(options, name)}
    if options.no_inside:
        arguments["inside"] = False
    if options.scenario is not None:
        arguments["scenarios"] = tuple(_parts("--scenario", options.scenario))
    for name in LISTS:
        if (text := getattr(options, name)) is not None:
            arguments[name] = tuple(_whole(_flag(name), part) for part in _parts(_flag(name), text))
    for name in NUMBERS:
        if (text := getattr(options, name)) is not None:
            arguments[name] = _whole(_flag(name), text, least=0 if name == "warmup" else 1)
    if options.stress is not None:
        arguments["stress"] = _seconds("--stress", options.stress)
    if options.slo is not None:
        arguments["limits"] = limits_of(options.slo)
    base, sweep = _fields(options)
    return {**arguments, **{name: sweep.pop(name) for name in OWN if name in sweep}, "base": base, "sweep": sweep}


def with_defaults(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` with what holds where the line says nothing: fields of a request, by name."""
    said = {*arguments["base"], *arguments["sweep"]}
    base = {name: value for name, value in defaults.items() if name not in said}
    return {**arguments, "base": {**base, **arguments["base"]}}


def limits_of(text: str) -> dict[str, float]:
    """The value of --slo, in seconds.

    Raises:
        OptionError: an unknown limit, or a value that is no time.
    """
    found = {}
    for part in _parts("--slo", text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in LIMITS:
            near = difflib.get_close_matches(name, LIMITS, n=1)
            meant = (
                f"Did you mean {near[0]}?" if near and near[0] != name else "It takes, for example, ttft=0.5,tpot=50ms."
            )
            raise OptionError(f"--slo has {part!r}.", meant)
        found[name] = _seconds(f"--slo {name}", value)
    return found


def fields_to_sweep() -> list[str]:
    """What --sweep takes."""
    return sorted({*option_fields(), *WORDS, *OWN})


def _fields(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Fields with one value, and those with several."""
    given: dict[str, tuple[Any, ...]] = {}
    said = [(name, getattr(options, name)) for name in FIELDS if getattr(options, name) is not None]
    for name, text in [*said, *map(_swept, options.sweep or ())]:
        if name in given or (name in OWN and getattr(options, name) is not None):
            raise OptionError(f"{name} is given twice.", "Give all of its values at once, with commas between.")
        given[name] = _values(name, text)
    base = {name: values[0] for name, values in given.items() if len(values) == 1 and name not in OWN}
    return base, {name: values for name, values in given.items() if name not in base}


def _swept(text: str) -> tuple[str, str]:
    """The two sides of a --sweep."""
    name, equals, values = (part.strip() for part in text.partition("="))
    name = name.replace("-", "_")
    if name not in fields_to_sweep():
        near = difflib.get_close_matches(name, fields_to_sweep(), n=1)
        known = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(fields_to_sweep())}."
        raise OptionError(f"--sweep names {name!r}, which is no field of a request.", known)
    if not equals or not values:
        raise OptionError(f"--sweep is {text!r}.", f"It takes values after the name, as in {name}=A,B.")
    return name, values


def _values(name: str, text: str) -> tuple[Any, ...]:
    """The values of a field, as what it takes."""
    if name in OWN:
        return tuple(_whole(name, part) for part in _parts(name, text))
    kind = option_fields()[name].metadata["kind"] if name in option_fields() else str
    values = tuple(_value(name, part, kind) for part in _parts(name, text))
    if len(set(values)) < len(values):
        raise OptionError(f"{name} has a value twice in {text!r}.", "Give each once.")
    return values


def _value(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    if text == NONE:
        return None
    try:
        return kind(text)
    except ValueError:
        takes = "whole numbers" if kind is int else "numbers"
        raise OptionError(f"{name} has the value {text!r}.", f"It takes {takes}, with commas between.") from None


def _parts(name: str, text: str) -> Sequence[str]:
    """The texts between the commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise OptionError(f"{name} is {text!r}.", "It takes values with commas between, and nothing else.")
    return parts


def _whole(name: str, text: str, least: int = 1) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise OptionError(f"{name} is {text!r}.", f"It takes a whole number of at least {least}.") from None
    return number


def _seconds(name: str, text: str) -> float:
    """A time in seconds, written 2, 2s or 50ms."""
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    try:
        seconds = float(text.removesuffix(unit)) * UNITS.get(unit, 1.0)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise OptionError(f"{name} is {text!r}.", "It takes a time of more than 0, such as 2, 2s or 50ms.")
    return seconds


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
