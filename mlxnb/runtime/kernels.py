"""Attention kernels for a while, put in place on the engine's thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .shared import shared_engine

if TYPE_CHECKING:
    from ..kernels import Patch
    from ..kernels.dispatch import Dispatcher
    from .engine import Engine


@contextmanager
def patched_kernels(*, strict: bool = False, engine: Engine | None = None) -> Iterator[Dispatcher]:
    """Inside, mlx-lm models take the attention path that was measured fastest; before is as after.

    Args:
        strict: raise where no path of ours works, instead of using mlx-lm's own.
        engine: whose thread it is done on, by default that of the process's engine.

    Raises:
        PatchError: mlx-lm is not installed, or something else replaced its attention.
    """
    from ..kernels import patch_mlx_lm

    engine = engine if engine is not None else shared_engine()
    made: list[Patch] = []
    try:
        engine.call(lambda: made.append(patch_mlx_lm(strict=strict)))
    except BaseException:
        engine.later(lambda: _undo(made))  # interrupted while it waited: whatever still comes of it is taken back
        raise
    try:
        yield made[0].dispatcher
    finally:
        # An engine that was closed meanwhile has no thread left that could be in the middle of a call.
        _undo(made) if engine.closed else engine.call(lambda: _undo(made))


def _undo(made: list[Patch]) -> None:
    for patch in made:
        patch.undo()
