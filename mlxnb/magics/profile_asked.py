"""What a line of `%profile_model` refers to: prompts, an earlier report, and the defaults of the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EmptyPromptError, OptionError, PromptError

if TYPE_CHECKING:
    from ..profiling import Report
    from .defaults import MLXNB

# Defaults of %config MLXNB that hold for a profile: how the model is loaded and how it decodes, not what it answers.
DEFAULTS = ("backend", "dtype", "quantize", "kv_bits", "kv_group_size", "draft", "draft_tokens", "prefill_step")


def defaults_of(defaults: MLXNB) -> dict[str, Any]:
    """The fields of a request that %config MLXNB, or the environment, sets to something of its own."""
    from ..request import Request

    built_in = Request.of("?")
    now = {name: getattr(defaults, name) for name in DEFAULTS}
    return {name: value for name, value in now.items() if value != getattr(built_in, name)}


def prompts_of(source: str | None, cell: str | None, names: Mapping[str, Any]) -> tuple[str, ...]:
    """The prompts of a cell's body, or of --prompts: a variable of the notebook, else a file.

    Raises:
        PromptError: there is none, or they are not text.
        OptionError: both are given, or the file cannot be read.
    """
    if cell is not None and source is not None:
        raise OptionError("There are prompts in the cell and in --prompts.", "Give one of them.")
    if cell is not None:
        if not cell.strip():
            raise EmptyPromptError("There is no prompt.", "Write it below %%profile_model, or call %profile_model.")
        return (cell.removesuffix("\n"),)
    if source is None:
        return ()
    from ..profiling.files import read_prompts

    if source in names and not isinstance(names[source], Path):
        return _in_variable(source, names[source])
    return read_prompts(str(names.get(source, source)))


def earlier_of(source: str | None, names: Mapping[str, Any]) -> Report | None:
    """The report of --against: a variable of the notebook, else a file or a folder that --save wrote.

    Raises:
        OptionError: the variable is no report.
        ReportError: the file is none, or damaged.
    """
    from ..profiling.files import read_earlier
    from ..profiling.report import Report

    if source is None or source not in names:
        return None if source is None else read_earlier(source)
    if isinstance(names[source], str | Path):
        return read_earlier(str(names[source]))
    if not isinstance(names[source], Report):
        kind = type(names[source]).__name__
        raise OptionError(f"{source} is a {kind}, not a Report.", "--against takes a Report, or what --save wrote.")
    return names[source]


def _in_variable(name: str, value: Any) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    wrong = next((each for each in found if not isinstance(each, str) or not each.strip()), None)
    if wrong is not None or not found:
        has = f"has {wrong!r} in it" if found else "is empty"
        raise PromptError(f"{name} {has}.", "--prompts takes a string, or a list of strings.")
    return found
