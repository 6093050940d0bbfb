"""A GGUF model's tokenizer as every backend here has one: llama.cpp's vocabulary and the file's own chat template."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..models.gguf_vocabulary import ENDS, NORMALIZER
from ..models.llama_vocabulary import LlamaVocabulary
from .chat_template import render
from .thinking import visible
from .tokenizer import Tokenizer

# Vocabularies whose tokenizers normalise text before they split it, which llama.cpp leaves out and no GGUF file says.
NORMALISED = {"qwen2": "NFC", "qwen35": "NFC"}


class LlamaTokenizer(Tokenizer):
    """See Tokenizer; `inner` answers what is asked of a transformers tokenizer here."""

    def __init__(self, vocabulary: LlamaVocabulary, metadata: Mapping[str, Any]) -> None:
        self.inner = Inner(vocabulary, metadata)
        stated = metadata.get(ENDS)
        self.end_ids = frozenset(stated if isinstance(stated, tuple) else vocabulary.ends())
        self.markers = self._thinking_markers()
        self.decode = self.decode_with(())

    def decode_with(self, shown: tuple[str, ...]) -> Any:
        """See Tokenizer.decode_with."""
        vocabulary = self.inner.get_vocab() if shown else {}
        own = tuple(marker for marker in shown if marker in vocabulary)
        return self.inner.shown((*(self.markers or ()), *own))

    def for_grammars(self) -> Any:
        """See Tokenizer.for_grammars."""
        return self.inner.for_grammars(sorted(self.end_ids))


class Inner:
    """The part of transformers' tokenizers that is used here, over llama.cpp's vocabulary."""

    def __init__(self, vocabulary: LlamaVocabulary, metadata: Mapping[str, Any]) -> None:
        self._vocabulary = vocabulary
        self._form = metadata.get(NORMALIZER) or NORMALISED.get(str(metadata.get("tokenizer.ggml.pre", "")), "")
        # SentencePiece writes a space before every word, and so before the first one too.
        self._leading_space = vocabulary.sentencepiece and metadata.get("tokenizer.ggml.add_space_prefix", True)
        self._texts: dict[str, int] | None = None
        self.eos_token_id, self.bos_token_id = vocabulary.eos, vocabulary.bos
        self.eos_token, self.bos_token = (
            None if i is None else vocabulary.text(i) for i in (vocabulary.eos, vocabulary.bos)
        )
        template = metadata.get("tokenizer.chat_template")
        self.chat_template = template if isinstance(template, str) else None

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        if self._texts is None:
            self._texts = self._vocabulary.texts()
        return self._texts

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text, normalised as the model's own tokenizer does."""
        whole = unicodedata.normalize("NFC", text) if self._form == "NFC" else text
        return self._vocabulary.encode(whole, add_special_tokens) if whole or add_special_tokens else []

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        text = self._vocabulary.decode(ids, lambda token: not skip_special_tokens)
        return text[1:] if self._leading_space and text.startswith(" ") else text

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, Any]],
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        **variables: Any,
    ) -> Any:
        """The text of a conversation, or its ids; `variables` are what the template takes beside it.

        Raises:
            jinja2.TemplateError: the template refused the messages.
        """
        tokens = {"bos_token": self.bos_token or "", "eos_token": self.eos_token or ""}
        tokens |= variables
        text = render(self.chat_template or "", messages, prompt=add_generation_prompt, tools=tools, **tokens)
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def for_grammars(self, ends: list[int]) -> Any:
        """See Tokenizer.for_grammars."""
        return self._vocabulary.for_grammars(ends)

    def shown(self, markers: tuple[str, ...]) -> Any:
        """What turns ids into text without special tokens, those in `markers` excepted."""
        # A piece of text that is part of a marker is shown anyway; here it is only told that it is none of the hidden.
        tokens = self.get_vocab()
        kept = {tokens[token] for token in visible(markers, tokens)}
        vocabulary, leading = self._vocabulary, self._leading_space

        def decode(ids: Sequence[int]) -> str:
            text = vocabulary.decode(ids, kept.__contains__)
            return text[1:] if leading and text.startswith(" ") else text

        return decode
