"""Token ids to text as they come, special tokens included, with the interface of mlx-lm's detokenizers."""

from __future__ import annotations

import json
from typing import Any

from ...backends.detokenize import REPLACEMENT, Detokenizer


class StreamingDetokenizer:
    """`text` is what `decode(tokens)` gives, but for a space at the very beginning of byte-level BPE, which mlx-lm
    drops too. Segments may be cut at other tokens than mlx-lm cuts them.
    """

    def __init__(self, tokenizer: Any, byte_level: bool) -> None:
        self._tokenizer = tokenizer
        self._trims = byte_level
        self.reset()

    def reset(self) -> None:
        """Forget every token."""
        self._inner = Detokenizer(self._decode)
        self.tokens: list[int] = []
        self.text = ""
        self.offset = 0

    def add_token(self, token: int) -> None:
        """Take in the next token."""
        self.tokens.append(token)
        self._add(self._inner.feed(token))

    def finalize(self) -> None:
        """Give out what was held back, an incomplete character as a replacement character."""
        self._add(self._inner.finish())
        whole = self._decode(self.tokens)
        broken = whole[len(whole.rstrip(REPLACEMENT)) :]
        if not self.text.endswith(broken):
            self._add(broken)

    @property
    def last_segment(self) -> str:
        """The text since this was last asked."""
        segment, self.offset = self.text[self.offset :], len(self.text)
        return segment

    def _decode(self, ids: Any) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _add(self, text: str) -> None:
        self.text += text[1:] if self._trims and not self.text and text.startswith(" ") else text


def is_byte_level(tokenizer: Any) -> bool:
    """Whether its tokens stand for bytes, a space among them."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(fast.to_str()).get("decoder") if fast is not None else None
    return isinstance(decoder, dict) and decoder.get("type") == "ByteLevel"
