"""KV states of a llama.cpp model: what the prefix cache copies, cuts, weighs and stores."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cache.states import HostArray
from .llamacpp_context import LlamaContext, LlamaState

DATA, LENGTH = "state", "length"


class LlamaStates:
    """See KVStates. A state is a LlamaState; `cuttable` tells whether the model's can be cut, `per_token` its bytes."""

    def __init__(self, context: LlamaContext, cuttable: bool, per_token: int) -> None:
        self._context, self.cuttable, self._per_token = context, cuttable, per_token

    def nbytes(self, state: LlamaState) -> int:
        """See KVStates.nbytes. What lies in the context counts as what its copy will take."""
        if state.data is not None:
            return state.data.nbytes
        return self._context.nbytes() if state.length else 0

    def size(self, state: LlamaState, tokens: int) -> int:
        """See KVStates.size."""
        return tokens * self._per_token

    def copy(self, state: LlamaState) -> LlamaState:
        """See KVStates.copy. Copies share their bytes, which are never written to."""
        if state.data is None and state.length:
            self._context.settled(state)
        return LlamaState(state.length, state.data, state.held)

    def trim(self, state: LlamaState, length: int) -> LlamaState | None:
        """See KVStates.trim. It keeps the bytes of all of `state` until it is fed or stored."""
        if length != state.length and not self.cuttable:
            return None
        made = self.copy(state)
        made.length = length
        return made

    def arrays(self, state: LlamaState) -> tuple[dict[str, HostArray], dict[str, str]]:
        """See KVStates.arrays."""
        data = self._context.settled(state) if state.length else np.empty(0, np.uint8)
        return {DATA: HostArray.of(data)}, {LENGTH: str(state.length)}

    def state(self, arrays: dict[str, HostArray], meta: dict[str, str]) -> Any:
        """See KVStates.state. llama.cpp holds the bytes against the model when the state is fed first."""
        if set(arrays) != {DATA} or arrays[DATA].dtype != "U8" or len(arrays[DATA].shape) != 1:
            raise ValueError("The arrays are not those of a llama.cpp state.")
        length = int(meta[LENGTH])
        data = np.ascontiguousarray(arrays[DATA].numpy())
        if length < 0 or (length > 0) != (data.size > 0):
            raise ValueError(f"A state of {length} tokens has {data.size} bytes.")
        made = LlamaState(length, data if length else None, length)
        if length:
            self._context.enter(made)  # so that what is no state of this model is told here
        return made
