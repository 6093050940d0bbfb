"""Gives methods that pass their options on to `Request.of` a signature that names them, for help and completion."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ..request import Request, Sampling

F = TypeVar("F", bound=Callable[..., Any])

# Fields of a Request that `Request.of` makes from others.
MADE = {"messages", "prompt", "sampling", "stop", "tools"}


def option_parameters() -> list[inspect.Parameter]:
    """A keyword-only parameter for every option of `Request.of`, with its default."""
    own = [p for p in inspect.signature(Request.of).parameters.values() if p.kind is p.KEYWORD_ONLY]
    rest = [f for cls in (Request, Sampling) for f in fields(cls) if f.name not in MADE]
    return own + [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in rest
        if f.default is not MISSING
    ]


def names_its_options(method: F) -> F:
    """Replace `**options` in a method's signature by the options themselves."""
    signature = inspect.signature(method)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=[*kept, *option_parameters()])  # type: ignore[attr-defined]
    return method
