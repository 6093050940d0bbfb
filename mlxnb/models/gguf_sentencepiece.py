"""SentencePiece's tokenizer, as the tokenizers library has it, in llama.cpp's terms: a score for every token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UnsupportedModelError

SPACE = "\u2581"  # what stands for a space in a token


def is_byte(token: str) -> bool:
    """Whether a token stands for one byte of a character that has no token."""
    return re.fullmatch("<0x[0-9A-F]{2}>", token) is not None


def sentencepiece(described: Mapping[str, Any], tokens: Sequence[str], name: str) -> dict[str, Any]:
    """The fields of a GgufVocabulary, the score of each of `tokens` among them.

    SentencePiece merges the pair whose token scores highest, the tokenizers library the pair that comes first in its
    list: the same as long as all pairs of one token stand together there, as they do where the list was made from
    scores.

    Raises:
        UnsupportedModelError: its spaces are not handled in one of SentencePiece's ways.
    """
    scores: dict[str, float] = {}
    for rank, pair in enumerate(described["model"]["merges"]):
        left, right = pair if isinstance(pair, list) else pair.split(" ", 1)
        scores.setdefault(left + right, -float(rank))
    return {
        "model": "llama",
        "pre": "default",
        "scores": [scores.get(token, 0.0) for token in tokens],
        "space_prefix": _space_prefix(described, name),
    }


def _space_prefix(described: Mapping[str, Any], name: str) -> bool:
    """Whether a space is put before a text."""
    normalizer, pre = described.get("normalizer"), described.get("pre_tokenizer")
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    kinds = [step["type"] for step in steps]
    if pre is not None and pre["type"] == "Metaspace" and not kinds and not pre.get("split", True):
        return pre.get("prepend_scheme", "always") != "never"
    replaces = [step for step in steps if step["type"] == "Replace"]
    whole = len(replaces) == 1 and replaces[0]["content"] == SPACE and replaces[0]["pattern"] == {"String": " "}
    if pre is None and whole and kinds in (["Replace"], ["Prepend", "Replace"]):
        return kinds[0] == "Prepend"
    raise UnsupportedModelError(
        f"The tokenizer of {name} handles spaces in a way that llama.cpp has no name for.",
        "Run the model on the torch or mlx backend.",
    )
