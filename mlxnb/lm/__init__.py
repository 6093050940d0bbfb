"""mlx-lm's calls on any machine: `import mlxnb.lm as mlx_lm`, and code that was written for mlx-lm runs.

Where MLX is the better engine (Apple silicon) each name is mlx-lm's own function; elsewhere the torch backend answers
with the same signatures, defaults, results and errors, and arrays are torch tensors. `engine_in_use()` says which and
why; the environment variable MLXNB_LM (auto, mlx, torch) overrides it.
"""

from __future__ import annotations

from typing import Any

from .choice import engine_in_use, load_cached, lookup

_CALLS = ("batch_generate", "convert", "generate", "load", "stream_generate")

__all__ = [  # noqa: RUF022 - mlx-lm's calls first
    "batch_generate", "convert", "generate", "load", "stream_generate",
    "engine_in_use", "load_cached",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _CALLS:
        return lookup("mlx_lm", name)
    raise AttributeError(f"module 'mlxnb.lm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CALLS])
