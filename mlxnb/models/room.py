"""Whether a model fits beside a context of some length, and the longest context that would fit: figures, not errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .fit import KV_ALLOWANCE, MARGIN_BYTES, MARGIN_SHARE, cache_bytes
from .shape import Shape

State = Literal["fits", "tight", "no"]

# Of the free memory, what other programs may want back before long: a model that leaves less than that is tight.
SPARE = 0.10

# A model that has not even this many tokens of context beside its weights does not fit.
LEAST_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Room:
    """What a model needs for a context of `tokens` tokens, in bytes, and how that compares with `free`.

    state: "fits" with a tenth of the free memory to spare; "tight" where it fits with less, or only a shorter context
    does; "no" where not even 256 tokens fit. `most` is the longest context in tokens that fits: at most the model's
    own, None where neither memory nor the model sets a limit that is known.
    """

    state: State
    tokens: int
    weights: float
    cache: float
    working: float
    free: int
    most: int | None

    @property
    def need(self) -> float:
        """Weights, KV cache and working space."""
        return self.weights + self.cache + self.working


def room(weights: float, shape: Shape, free: int, *, tokens: int | None = None, context: int | None = None) -> Room:
    """What weights of so many bytes, in a model of that shape, leave of `free` bytes.

    tokens: the context that is asked for, None for 4,096; never more than `context`, the model's own.
    """
    tokens = min(tokens or KV_ALLOWANCE, context or math.inf)  # type: ignore[assignment]
    assert tokens is not None
    working = weights * MARGIN_SHARE + MARGIN_BYTES
    cache = cache_bytes(shape, tokens)
    most = _most(shape, free - weights - working, context)
    if most is not None and most < min(LEAST_TOKENS, tokens):
        state: State = "no"
    else:
        state = "fits" if weights + cache + working <= free * (1 - SPARE) else "tight"
    return Room(state, tokens, weights, cache, working, free, most)


def _most(shape: Shape, left: float, context: int | None) -> int | None:
    """The most tokens whose KV cache takes `left` bytes; layers with a window stop growing at its length."""
    if left < 0:
        return 0
    token = cache_bytes(shape, 1)
    if not token:
        return context
    tokens = left / token
    if shape.windowed_layers and shape.window and tokens > shape.window:
        full = shape.kv_layers - shape.windowed_layers
        of_windows = cache_bytes(shape, shape.window) * shape.windowed_layers / shape.kv_layers
        tokens = (left - of_windows) / (token * full / shape.kv_layers) if full else math.inf
    return context if tokens >= (context or math.inf) else int(tokens)
