"""One llama.cpp context: its KV cache holds one sequence at a time, grows with it, and changes hands between states."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from ..errors import GenerationError
from ..models.llama_library import Library
from .base import Cancelled

SEQUENCE = 0
BATCH = 512  # tokens that are fed at once, at most
OUTPUTS = 64  # of them that logits are asked for after, at most: room for each is made beforehand
LEAST = 1024  # tokens that a context has room for at first, where the model has more
FLASH_AUTO, FLASH_OFF = -1, 0
NO_SLOT, ABORTED = 1, 2  # llama_decode's words for a KV cache that is full, and for having been stopped


@dataclass(eq=False)
class LlamaState:
    """The KV state of the first `length` tokens of a sequence. `data` is llama.cpp's own copy of it, of `held` tokens,
    which may be more; None while the state lies in a context and was changed there.
    """

    length: int = 0
    data: np.ndarray | None = None
    held: int = 0


@dataclass(slots=True)
class Settings:
    """What each context of a model is made with. `room`: tokens at most; `kind`: ggml's type of keys and values;
    `flash`: whether llama.cpp may take its fused attention, which on a CPU rounds queries to float16.
    """

    room: int
    threads: int
    kind: int
    flash: bool
    gpu: bool


class LlamaContext:
    """Feeds tokens to one state at a time, which then resides here. What resided before is copied out first, where
    somebody still holds it.
    """

    def __init__(self, llama: Library, model: Any, settings: Settings) -> None:
        self._llama, self._api, self._model, self._settings = llama, llama.module, model, settings
        self._context: Any = None
        self._resident: weakref.ref[LlamaState] | None = None
        self._stop: Event | None = None
        self._asked = self._api.ggml_abort_callback(lambda _: self._stop is not None and self._stop.is_set())
        self._never = self._api.ggml_abort_callback()  # NULL
        self.room = 0
        self.vocabulary = int(self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(model)))
        self._make(min(settings.room, LEAST))

    def _make(self, room: int) -> None:
        """A context with room for so many tokens, in the place of the one before.

        Raises:
            MemoryError: there is no memory for it.
        """
        params = self._api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = room, BATCH, BATCH, 1
        params.n_outputs_max = OUTPUTS
        params.n_threads = params.n_threads_batch = self._settings.threads
        params.type_k = params.type_v = self._settings.kind
        params.flash_attn_type = FLASH_AUTO if self._settings.flash else FLASH_OFF
        params.offload_kqv = params.op_offload = self._settings.gpu
        params.swa_full = params.no_perf = True  # a window that keeps all can be cut back
        with self._llama.listening():
            made = self._api.llama_init_from_model(self._model, params)
        if not made:
            reason = self._llama.complaint() or "it gave no reason"
            raise MemoryError(f"llama.cpp could not make a context of {room} tokens: {reason}")
        self._free()
        self._context = made
        self.room = int(self._api.llama_n_ctx(made))

    def _free(self) -> None:
        if self._context is not None:
            self._api.llama_free(self._context)
            self._context = None

    @property
    def _memory(self) -> Any:
        return self._api.llama_get_memory(self._context)

    @property
    def remembers(self) -> bool:
        """Whether the model keeps what it was fed; one that makes embeddings does not."""
        return bool(self._memory)

    @property
    def threads(self) -> int:
        """How many threads it computes on."""
        return self._settings.threads

    def use_threads(self, count: int) -> None:
        """Compute on so many threads from now on."""
        self._settings.threads = count
        self._api.llama_set_n_threads(self._context, count, count)

    def reserve(self, tokens: int) -> None:
        """Have room for so many tokens, at least twice as much as before, so that a long answer asks seldom.

        Raises:
            MemoryError: there is no memory for it.
        """
        if tokens > self.room:
            self.leave()
            self._make(min(self._settings.room, max(tokens, 2 * self.room)))

    def leave(self) -> None:
        """Copy out what resides here, where somebody holds it, and forget it."""
        state = None if self._resident is None else self._resident()
        if state is not None and state.data is None and state.length:
            self._copy_out(state)
        self._resident = None

    def resides(self, state: LlamaState) -> bool:
        """Whether a state lies here now."""
        return self._resident is not None and self._resident() is state

    def enter(self, state: LlamaState) -> None:
        """Bring a state here, if it is not here already.

        Raises:
            ValueError: its copy is none that llama.cpp reads.
        """
        if self.resides(state):
            return
        self.leave()
        self.reserve(state.length)
        self._api.llama_memory_clear(self._memory, False)
        if state.length:
            assert state.data is not None, "a state that does not reside here has a copy"
            self._restore(state.data, state.length)
        self._resident = weakref.ref(state)

    def _restore(self, data: np.ndarray, length: int) -> None:
        with self._llama.listening():
            read = self._api.llama_state_seq_set_data(self._context, _pointer(data), data.nbytes, SEQUENCE)
        if read != data.nbytes or self._held() < length or not self._cut(length):
            self._api.llama_memory_clear(self._memory, False)
            raise ValueError(f"llama.cpp does not read this KV state: {self._llama.complaint() or 'it is too short'}.")

    def _held(self) -> int:
        return int(self._api.llama_memory_seq_pos_max(self._memory, SEQUENCE)) + 1

    def _cut(self, length: int) -> bool:
        """Drop the tokens after the first `length`; False where this memory cannot."""
        return self._held() <= length or bool(self._api.llama_memory_seq_rm(self._memory, SEQUENCE, length, -1))

    def settled(self, state: LlamaState) -> np.ndarray:
        """llama.cpp's copy of exactly the tokens of a state.

        Raises:
            ValueError: see `enter`.
        """
        if state.data is None or state.held != state.length:
            self.enter(state)
            self._copy_out(state)
        assert state.data is not None
        return state.data

    def _copy_out(self, state: LlamaState) -> None:
        self._cut(state.length)
        data = np.empty(self.nbytes(), np.uint8)
        written = self._api.llama_state_seq_get_data(self._context, _pointer(data), data.nbytes, SEQUENCE)
        state.data, state.held = data[:written], state.length

    def nbytes(self) -> int:
        """Bytes of a copy of what resides here."""
        return int(self._api.llama_state_seq_get_size(self._context, SEQUENCE))

    def feed(self, state: LlamaState, ids: Sequence[int], every: bool = False, stop: Event | None = None) -> np.ndarray:
        """Logits [vocabulary] after the last of at most BATCH ids, or with `every`, of at most OUTPUTS ids, those after
        each [ids, vocabulary]. They are llama.cpp's own memory, and hold until it is fed again.

        Raises:
            MemoryError: there is no room for them.
            Cancelled: `stop` was set meanwhile.
            GenerationError: llama.cpp failed.
        """
        self.reserve(state.length + len(ids))
        self.enter(state)
        if not self._cut(state.length):  # a piece that failed half way left some of its tokens
            raise GenerationError("llama.cpp cannot take back what it computed in part.", "Ask again.")
        batch, kept = self._batch(ids, state.length, every)
        state.data = None
        self._stop = stop
        self._api.llama_set_abort_callback(self._context, self._never if stop is None else self._asked, None)
        with self._llama.listening():
            code = self._api.llama_decode(self._context, batch)
        del kept
        self._check(code, state, len(ids))
        state.length += len(ids)
        first = self._api.llama_get_logits_ith(self._context, 0 if every else len(ids) - 1)
        return np.ctypeslib.as_array(first, (len(ids), self.vocabulary) if every else (self.vocabulary,))

    def _check(self, code: int, state: LlamaState, count: int) -> None:
        if code == ABORTED:
            raise Cancelled
        if code == NO_SLOT:
            raise MemoryError(f"llama.cpp has no room for {count} tokens after {state.length}")
        if code != 0:
            reason = self._llama.complaint() or f"llama_decode gave {code}"
            raise GenerationError(f"llama.cpp failed after {state.length} tokens: {reason}.", "Ask again.")

    def _batch(self, ids: Sequence[int], start: int, every: bool) -> tuple[Any, list[Any]]:
        """A llama_batch, and the arrays that it points at."""
        count, api = len(ids), self._api
        tokens = (api.llama_token * count)(*ids)
        places = (api.llama_pos * count)(*range(start, start + count))
        numbers = (ctypes.c_int32 * count)(*([1] * count))
        sequence = (api.llama_seq_id * 1)(SEQUENCE)
        sequences = (ctypes.POINTER(api.llama_seq_id) * count)(*([sequence] * count))
        wanted = (ctypes.c_int8 * count)(*([1] * count if every else [*[0] * (count - 1), 1]))
        batch = api.llama_batch(count, tokens, None, places, numbers, sequences, wanted)
        return batch, [tokens, places, numbers, sequence, sequences, wanted]

    def close(self) -> None:
        """Give the memory back."""
        self._resident = None
        self._free()


def _pointer(data: np.ndarray) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
