"""How near each precision comes to float32 on torch, on both backends: the pocket model and every tiny family."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlxnb.pocket
from tests.backends.closeness import BACKENDS, ONLY_TORCH, Closeness, precisions
from tests.tiny import FAMILIES, make_checkpoint


def table() -> list[dict[str, Any]]:
    """A row for each model and precision: torch's and mlx's distance as a share of the logits' length, and the KL
    divergence in nats. The tiny families are drawn so wide that they amplify a small change; the pocket model is
    trained.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        rows += of_model("pocket", mlxnb.pocket.path())
        for family in sorted(FAMILIES):
            rows += of_model(family, make_checkpoint(family, Path(folder) / family))
    return rows


def of_model(name: str, path: Path) -> list[dict[str, Any]]:
    """The rows of one model."""
    backends = BACKENDS if name not in ONLY_TORCH else BACKENDS[:1]
    found = {backend: {(dtype, kind): near for dtype, kind, near in precisions(backend, path)} for backend in backends}
    return [
        {
            "benchmark": f"{name} {dtype} {kind or ''}".strip(),
            **{
                place: _words(backend, found[backend].get(precision))
                for place, backend in zip(("ours", "theirs"), backends, strict=False)
            },
        }
        for precision in found["torch"]
        for dtype, kind in [precision]
    ]


def _words(backend: str, near: Closeness | None) -> str:
    return f"{backend} off {near.off:.2g}, KL {near.kl:.2g}" if near else f"{backend} cannot run it so"


BENCHMARKS = {"precisions": table}
