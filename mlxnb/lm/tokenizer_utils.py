"""mlx-lm's wrapper of a tokenizer, for the engine in use."""

from __future__ import annotations

from typing import Any

from .choice import lookup, names

_MODULE = "mlx_lm.tokenizer_utils"


def __getattr__(name: str) -> Any:
    if name in names(_MODULE):
        return lookup(_MODULE, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *names(_MODULE)])
