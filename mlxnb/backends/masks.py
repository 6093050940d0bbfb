"""Logits of tokens that may not come put at minus infinity, in torch, mlx and numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Up to so many logits one mask over all of them is cheapest on a CPU: torch takes one thread for it.
SMALL = 32768


class Mask:
    """Masks the logits of one answer. Inside a string the same tokens may come again and again: the last mask is kept,
    on the device, as it is applied.
    """

    def __init__(self) -> None:
        self._said = b""
        self._apply: Callable[[Any], Any] | None = None

    def __call__(self, logits: Any, words: np.ndarray) -> Any:
        """See `masked`."""
        said = words.tobytes()
        if self._apply is None or said != self._said:
            self._said, self._apply = said, masking(logits, words)
        return self._apply(logits)


def masked(logits: Any, words: np.ndarray) -> Any:
    """Logits [..., vocabulary] of torch, mlx or numpy with those whose bit is not set at minus infinity."""
    return masking(logits, words)(logits)


def masking(logits: Any, words: np.ndarray) -> Callable[[Any], Any]:
    """What does that to logits such as these."""
    kept = np.unpackbits(words.view(np.uint8), bitorder="little", count=logits.shape[-1]).view(bool)
    library = type(logits).__module__.partition(".")[0]
    if library == "mlx":
        import mlx.core as mx

        allowed, low = mx.array(kept), mx.array(-mx.inf, logits.dtype)
        return lambda given: mx.where(allowed, given, low)
    if library == "torch":
        import torch

        if logits.device.type != "cpu" or kept.size <= SMALL:
            gone = torch.from_numpy(~kept).to(logits.device)
            return lambda given: given.masked_fill(gone, -np.inf)
        return _writing(kept, torch.from_numpy, torch.full_like, torch.clone)
    if kept.size <= SMALL:
        return lambda given: np.where(kept, given, np.float32(-np.inf))
    return _writing(kept, np.asarray, np.full_like, np.copy)


def _writing(kept: np.ndarray, index: Any, full: Any, copy: Any) -> Callable[[Any], Any]:
    """The same by writing at as few places as there are: of 151,936 logits in torch on a CPU about 35 microseconds,
    where a mask over all of them took 70 to 180, on one thread, and more on two that others disturb.
    """
    few = 2 * np.count_nonzero(kept) <= kept.size
    places = index(np.flatnonzero(kept if few else ~kept))

    def only_these(logits: Any) -> Any:
        made = full(logits, -np.inf)
        made[..., places] = logits[..., places]
        return made

    def all_but_these(logits: Any) -> Any:
        made = copy(logits)
        made[..., places] = -np.inf
        return made

    return only_these if few else all_but_these
