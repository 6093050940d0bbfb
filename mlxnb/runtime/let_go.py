"""Frees what an error holds: whoever keeps the error must not keep a model with it."""

from __future__ import annotations

import traceback


def let_go(err: BaseException) -> None:
    """Whoever keeps an answer must not keep a model with it, nor tensors: frames that still run cannot be cleared."""
    seen: list[BaseException] = []
    going: BaseException | None = err
    while going is not None and going not in seen:
        seen.append(going)
        traceback.clear_frames(going.__traceback__)
        going.__traceback__ = None
        going = going.__cause__ or going.__context__
