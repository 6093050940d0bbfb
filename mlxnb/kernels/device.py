"""What MLX computes on here, by name and version: what a measurement of it holds for."""

from __future__ import annotations

from .. import hardware


def device() -> str:
    """`metal`, `cuda` or `cpu`."""
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def machine() -> str:
    """Chip, device and MLX version in one line."""
    from importlib.metadata import version

    return f"{hardware.chip()} · {device()} · mlx {version('mlx')} · mlx-lm {version('mlx-lm')}"
