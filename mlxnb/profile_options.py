"""What a person can ask a profile for, as options on a line; what their text means is the Plan's affair."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .errors import OptionError

# Options by the names that a Plan has for them, where it has another.
NAMES = {"scenario": "scenarios", "slo": "limits"}
# Measured one by one by options of their own, and swept by the same name where somebody writes it so.
OWN = ("concurrency", "prompt_tokens")
SEVERAL = "; of several, each is measured"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what every front takes, but for the models and for what becomes of the report."""
    add = parser.add_argument
    add("--quick", action="store_true", help="a few short cases, in seconds rather than minutes")
    known = "simple, medium, complex, long-context, multi-turn, code, batch"
    add("--scenario", metavar="NAME,…", help=f"{known} (default all, with --quick the first two)")
    add("--prompts", metavar="FILE", help="prompts of your own, parted by lines of three dashes")
    add("--prompt-tokens", metavar="N,…", help="prompts of random tokens, of these exact lengths: 128,1024,4096")
    add("--max-tokens", metavar="N", help="tokens of each answer (default the scenario's own)")
    add("--runs", metavar="N", help="how often each case is measured (default 5, with --quick 3)")
    add("--warmup", metavar="N", help="runs before those, which do not count (default 1)")
    add("--concurrency", metavar="N,…", help="so many requests at a time: 1,2,4")
    add("--kv-bits", metavar="N,…", help=f"the KV cache in 4 or 8 bits, or none{SEVERAL}")
    add("--quantize", metavar="KIND,…", help=f"the weights in int8 or int4, or none{SEVERAL}")
    add("--backend", metavar="NAME,…", help=f"what computes{SEVERAL}")
    sweep = "measure with each value of an option: temperature=0,0.7; may be repeated"
    add("--sweep", metavar="FIELD=A,B,…", action="append", help=sweep)
    compare = "take models, backends or swept values in turns, and hold each against the first"
    add("--compare", action="store_true", help=compare)
    settled = "then generate for so long, or until memory has settled, and look for a leak"
    add("--stress", metavar="SECONDS|settled", help=settled)
    add("--slo", metavar="NAME=TIME,…", help="limits of goodput, of ttft, tpot and total: ttft=0.5,tpot=50ms")
    add("--no-inside", action="store_true", help="leave out the pass that looks inside a token")
    add("--save", metavar="DIR", help="write the report there: JSON, Markdown and pictures")
    add("--against", metavar="REPORT", help="compare with a report that was saved")


def sort_words(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Put the words beside the options where they belong: models, and further FIELD=VALUES after a --sweep.

    Raises:
        OptionError: there is FIELD=VALUES and no --sweep.
    """
    options.models = [word for word in words if not _is_sweep(word)]
    sweeps = [word for word in words if _is_sweep(word)]
    if sweeps and not options.sweep:
        raise OptionError(f"{sweeps[0]} is no model.", f"To measure with each value, write --sweep {sweeps[0]}.")
    options.sweep = [*options.sweep, *sweeps] if options.sweep else None


def _is_sweep(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.replace("-", "_").isidentifier()


def as_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What `mlxnb.profile` takes, but for models and prompts; only what was given, and as its text.

    Raises:
        OptionError: one thing is given in two ways.
    """
    texts = (
        "scenario",
        "prompt_tokens",
        "max_tokens",
        "runs",
        "warmup",
        "concurrency",
        "kv_bits",
        "quantize",
        "backend",
    )
    given = {NAMES.get(name, name): getattr(options, name) for name in (*texts, "stress", "slo")}
    arguments: dict[str, Any] = {name: text for name, text in given.items() if text is not None}
    arguments |= {name: True for name in ("quick", "compare") if getattr(options, name)}
    if options.no_inside:
        arguments["inside"] = False
    sweep = []
    for text in options.sweep or ():
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name in arguments:
            raise OptionError(f"{name} is given twice.", "Give all of its values at once, with commas between.")
        if name in OWN and values.strip():
            arguments[name] = values
        else:
            sweep.append(f"{name}{equals}{values}")
    return {**arguments, "sweep": sweep} if sweep else arguments
