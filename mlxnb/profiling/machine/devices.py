"""Which names are of one device: Apple's GPU is "mps" to torch and "metal" to MLX, and llama.cpp says "gpu" only."""

from __future__ import annotations

APPLE = {"mps", "metal"}


def same_device(one: str, other: str) -> bool:
    """Whether what was measured on one device holds for the other."""
    if one == other or {one, other} <= APPLE:
        return True
    return "gpu" in (one, other) and "cpu" not in (one, other)
