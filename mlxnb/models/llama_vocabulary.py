"""The vocabulary of a GGUF file as llama.cpp reads it: text to token ids and back to bytes."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import DamagedModelError
from .llama_library import Library, library

SENTENCEPIECE = 1  # of llama_vocab_type
BYTE = 32  # of llama_token_attr
NONE = -1  # the id that llama.cpp gives for a token that there is none of


class LlamaVocabulary:
    """Belongs to a model that llama.cpp has loaded, and ends with it."""

    def __init__(self, llama: Library, model: Any) -> None:
        self._api = llama.module
        self._vocab = self._api.llama_model_get_vocab(model)
        self.size = int(self._api.llama_vocab_n_tokens(self._vocab))
        self.sentencepiece = self._api.llama_vocab_type(self._vocab) == SENTENCEPIECE
        self.bos, self.eos = (self._token(name) for name in ("bos", "eos"))
        self.adds_bos = bool(self._api.llama_vocab_get_add_bos(self._vocab))
        self._pieces: dict[tuple[int, bool], bytes] = {}

    def _token(self, name: str) -> int | None:
        found = int(getattr(self._api, f"llama_vocab_{name}")(self._vocab))
        return None if found == NONE else found

    def encode(self, text: str, add_special: bool) -> list[int]:
        """Token ids of a text; what reads like a special token is one."""
        data = text.encode()
        room = len(data) + 8
        while True:
            ids = (self._api.llama_token * room)()
            count = self._api.llama_tokenize(self._vocab, data, len(data), ids, room, add_special, True)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def piece(self, token: int, special: bool = True) -> bytes:
        """The bytes of a token; those of a special one are empty unless `special`."""
        found = self._pieces.get((token, special))
        if found is None:
            found = self._pieces[token, special] = self._piece(token, special)
        return found

    def _piece(self, token: int, special: bool) -> bytes:
        if not 0 <= token < self.size:
            return b""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._api.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def text(self, token: int) -> str:
        """The name of a token, as its vocabulary has it."""
        return bytes(self._api.llama_vocab_get_text(self._vocab, token) or b"").decode("utf-8", "replace")

    def texts(self) -> dict[str, int]:
        """Every token's name with its id."""
        return {self.text(token): token for token in range(self.size)}

    def is_control(self, token: int) -> bool:
        """Whether a token is one that no text has."""
        return bool(self._api.llama_vocab_is_control(self._vocab, token))

    def for_grammars(self, ends: list[int]) -> Any:
        """It as llguidance knows tokenizers; no longer of use than this is."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of llama-cpp-python's, once a token
            return lltokenizer_from_vocab(self._vocab, eos_token=ends)

    def ends(self) -> list[int]:
        """The tokens that llama.cpp takes for the end of a turn."""
        return [token for token in range(self.size) if self._api.llama_vocab_is_eog(self._vocab, token)]

    def is_byte(self, token: int) -> bool:
        """Whether a token stands for one byte of a character that has no token."""
        return bool(self._api.llama_vocab_get_attr(self._vocab, token) & BYTE) if 0 <= token < self.size else False

    def decode(self, ids: Iterable[int], shown: Callable[[int], bool] = lambda token: True) -> str:
        """The text of ids, special ones only where `shown`. Bytes that are no character become U+FFFD: where tokens are
        pieces of bytes the shortest stretches, and where single bytes stand in for characters each of a whole run of
        them, as the tokenizers library has it.
        """
        if not self.sentencepiece:
            return b"".join(self.piece(i, shown(i)) for i in ids).decode("utf-8", "replace")
        text, seen = [], [i for i in ids if self.piece(i, shown(i))]
        for single, run in groupby(seen, self.is_byte):
            data = b"".join(self.piece(i, shown(i)) for i in run)
            try:
                text.append(data.decode())
            except UnicodeDecodeError:
                text.append("\ufffd" * len(data) if single else data.decode("utf-8", "replace"))
        return "".join(text)


@contextmanager
def vocabulary_in(file: Path) -> Iterator[LlamaVocabulary]:
    """The vocabulary alone of a GGUF file, as long as the context lasts.

    Raises:
        DamagedModelError: llama.cpp cannot read it.
    """
    llama = library()
    params = llama.module.llama_model_default_params()
    params.vocab_only = True
    with llama.listening():
        model = llama.module.llama_model_load_from_file(os.fsencode(file), params)
    if not model:
        raise DamagedModelError(f"llama.cpp cannot read {file.name}: {llama.complaint()}.", "Convert the model again.")
    try:
        yield LlamaVocabulary(llama, model)
    finally:
        llama.module.llama_model_free(model)
