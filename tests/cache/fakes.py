"""KV states whose content follows from their tokens, so that a state given out for other tokens is seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlxnb.cache import HostArray


@dataclass
class FakeState:
    """`rows[i]` depends on all tokens up to i, as the keys of a deep layer do. `trimmable_to`: None for any length."""

    rows: np.ndarray
    window: int | None


class FakeStates:
    """A backend's KVStates. `window` as of mlx-lm's RotatingKVCache: cut back only while the state is shorter than it.

    A window of 0 is a recurrent layer: only whole. `width` rows' bytes are 8 a token.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.made = 0

    def prefill(self, tokens: Sequence[int]) -> FakeState:
        self.made += 1
        return FakeState(rows_of(tokens), self.window)

    def nbytes(self, state: FakeState) -> int:
        return state.rows.nbytes

    def size(self, state: FakeState, tokens: int) -> int:
        return 8 * tokens

    def copy(self, state: FakeState) -> FakeState:
        return FakeState(state.rows.copy(), state.window)

    def trim(self, state: FakeState, length: int) -> FakeState | None:
        assert 0 < length < len(state.rows)
        if self.window is not None and len(state.rows) >= self.window:
            return None
        return FakeState(state.rows[:length].copy(), state.window)

    def arrays(self, state: FakeState) -> tuple[dict[str, HostArray], dict[str, str]]:
        bits = (state.rows & 0xFFFF).astype(np.uint16)
        arrays = {"rows": HostArray.of(state.rows), "layer.0": HostArray.of(bits, "BF16")}
        return arrays, {"window": str(state.window)}

    def state(self, arrays: dict[str, HostArray], meta: dict[str, str]) -> FakeState:
        rows = arrays["rows"].numpy()
        assert (arrays["layer.0"].numpy() == (rows & 0xFFFF)).all()
        return FakeState(rows, None if meta["window"] == "None" else int(meta["window"]))


def rows_of(tokens: Sequence[int]) -> np.ndarray:
    rows, last = [], 1
    for token in tokens:
        last = (last * 6364136223846793005 + token * 1442695040888963407 + 1) % 2**63
        rows.append(last)
    return np.array(rows, np.uint64)


def spoil(state: FakeState) -> None:
    """What a generation does to a state that it was given."""
    state.rows[:] = 0


def is_fresh(state: FakeState, tokens: Sequence[int]) -> bool:
    """Whether the state is the one that a prefill of these tokens gives."""
    return state.rows.shape == (len(tokens),) and bool((state.rows == rows_of(tokens)).all())
