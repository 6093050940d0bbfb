"""A tokenizer as mlx-lm gives it: transformers' own, with a streaming detokenizer and what ends or opens a turn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import TokenizerMissingError, UnsupportedModelError
from ...models.files import read_json
from ...quiet import import_transformers
from .detokenizer import StreamingDetokenizer, is_byte_level


class TokenizerWrapper:
    """Attributes that are not here are those of the transformers tokenizer in it.

    mlx-lm's parsers of tool calls come with mlx-lm alone, so `has_tool_calling` is False here; the text of a call is
    in the answer all the same.
    """

    has_tool_calling = False
    tool_call_start = tool_call_end = tool_call_start_tokens = tool_call_end_tokens = tool_parser = None

    def __init__(self, tokenizer: Any, eos_token_ids: Iterable[int] | None = None) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = set(eos_token_ids or ())
        if tokenizer.eos_token_id is not None:
            self._eos_token_ids.add(tokenizer.eos_token_id)
        self._markers = _thinking(tokenizer.get_vocab())
        self._byte_level = is_byte_level(tokenizer)  # asked once: it writes out the whole vocabulary
        self.has_chat_template = tokenizer.chat_template is not None

    def apply_chat_template(self, *args: Any, tokenize: bool = True, **kwargs: Any) -> Any:
        """Ids, or text with `tokenize=False`; thinking is on where the model can think, unless `enable_thinking`."""
        kwargs = {"enable_thinking": self.has_thinking, **kwargs, "return_dict": False}
        return self._tokenizer.apply_chat_template(*args, tokenize=tokenize, **kwargs)

    def add_eos_token(self, token: str) -> None:
        """Let a further token, by its text or its id, end an answer.

        Raises:
            ValueError: there is no such token.
        """
        number = int(token) if str(token).isdecimal() else self._tokenizer.convert_tokens_to_ids(token)
        if number is None:
            raise ValueError(f"{token!r} is no token of this tokenizer.")
        self._eos_token_ids.add(number)

    @property
    def eos_token_ids(self) -> set[int]:
        """Every token that ends an answer."""
        return self._eos_token_ids

    @eos_token_ids.setter
    def eos_token_ids(self, ids: Iterable[int] | None) -> None:
        self._eos_token_ids = set(ids or ())

    @property
    def has_thinking(self) -> bool:
        """Whether the vocabulary has a pair of tokens around a thinking block."""
        return self._markers is not None

    @property
    def think_start(self) -> str | None:
        """The token that opens a thinking block."""
        return self._markers[0] if self._markers else None

    @property
    def think_end(self) -> str | None:
        """The token that closes it."""
        return self._markers[1] if self._markers else None

    @property
    def think_start_id(self) -> int | None:
        """Its id."""
        return self._tokenizer.get_vocab()[self._markers[0]] if self._markers else None

    @property
    def think_end_id(self) -> int | None:
        """Its id."""
        return self._tokenizer.get_vocab()[self._markers[1]] if self._markers else None

    @property
    def detokenizer(self) -> StreamingDetokenizer:
        """A new one, that has seen no token."""
        return StreamingDetokenizer(self._tokenizer, self._byte_level)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "has_chat_template" or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            setattr(self._tokenizer, name, value)


# The pairs that mlx-lm knows, in its order; the engine knows more.
THINKING_MARKERS = (
    ("<think>", "</think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
)


def _thinking(vocabulary: dict[str, int]) -> tuple[str, str] | None:
    return next((pair for pair in THINKING_MARKERS if pair[0] in vocabulary and pair[1] in vocabulary), None)


def load_tokenizer(path: Path, options: dict[str, Any] | None, eos_token_ids: Any) -> TokenizerWrapper:
    """The tokenizer of a folder; `options` go to transformers.

    Raises:
        TokenizerMissingError: transformers cannot load it.
        UnsupportedModelError: its chat template is one of mlx-lm's own Python modules.
    """
    config = path / "tokenizer_config.json"
    kind = read_json(config).get("chat_template_type") if config.is_file() else None
    if kind:
        raise UnsupportedModelError(f"{path.name} wants mlx-lm's own chat template {kind!r}.", "Set MLXNB_LM=mlx.")
    transformers = import_transformers()
    try:
        inner = transformers.AutoTokenizer.from_pretrained(path, **{"local_files_only": True, **(options or {})})
    except (OSError, ValueError, KeyError) as err:
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise TokenizerMissingError(f"The tokenizer in {path.name} cannot be loaded: {reason}.") from err
    return TokenizerWrapper(inner, [eos_token_ids] if isinstance(eos_token_ids, int) else eos_token_ids)
