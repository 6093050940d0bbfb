"""Holds the tokenizer that was written into a GGUF file against the model's own, on text of many kinds."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import BackendMissingError, UnsupportedModelError
from .gguf_vocabulary import CONTROL, NORMAL, USER_DEFINED, GgufVocabulary
from .llama_library import INSTALL, installed
from .llama_vocabulary import vocabulary_in

SAMPLES = (
    "The quick brown fox, it's said, jumped over 13 lazy dogs; they'd seen 1,234.56 of those before.",
    "def area(r: float) -> float:\n    return 3.14159 * r ** 2  # round enough\n\n\nprint(f\"{area(2):.3f}\")\n",
    "  two spaces,   three,\ttabs\t\tand a line end \r\n\r\n \n  x",
    "WE'RE HERE, I'LL Go; You'Re what I'm: don't can't won't he'd She'S",
    "Zürich, naïve café, Ελλάδα, Москва, 東京タワー、서울, हिन्दी में, ไทย, עברית, العربية",
    "emoji 🙂👩‍👩‍👧‍👦🇨🇭, math ∑x²≤√π, arrows →⇒, quotes “so” ‘so’, dash – and — …",
    "x=1;y=[2,3];z={'a':b[0]};w=a->b&&c||!d; <div class=\"e\">&amp;</div> /* f */ $HOME/.cfg #7 @me 100% 5^2",
    "0 12 345 6789 01234567890 ½ ² ٣٤ 一二三",
    "a\u0301 e\u0308 \u1e9b\u0323 ﬁ Å",
    "\n\n\n", " ", "a", " a", "a ", "",
)  # fmt: skip
SPECIALS = 24  # special tokens that are put between other text
DRAWN, EACH = 64, 50  # texts of so many tokens of the vocabulary, drawn at random


def check_tokens(file: Path, tokenizer: Any, vocabulary: GgufVocabulary, name: str) -> None:
    """Tokenise samples both ways. Without llama-cpp-python a byte-level vocabulary is known by how it splits text, and
    SentencePiece's is refused, since only trying shows whether its merges are as they should be.

    Raises:
        UnsupportedModelError: they differ.
        BackendMissingError: llama-cpp-python is needed for this vocabulary and not there.
    """
    if not installed():
        if vocabulary.model == "llama":
            raise BackendMissingError(f"Whether {name} keeps its tokens in GGUF takes llama.cpp to tell.", INSTALL)
        return
    special = [t for t, k in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if k in (CONTROL, USER_DEFINED)]
    between = [f"{token}one {token} two{token}\n{token}" for token in (*special[:SPECIALS], *special[-1:])]
    ordinary = [i for i, kind in enumerate(vocabulary.kinds) if kind == NORMAL]
    draw = random.Random(0)
    drawn = [tokenizer.decode(draw.choices(ordinary, k=EACH)) for _ in range(DRAWN)]
    with vocabulary_in(file) as theirs:
        for sample in (*SAMPLES, *between, *drawn):
            text = unicodedata.normalize("NFC", sample) if vocabulary.normalizer else sample
            own = tokenizer.encode(text, add_special_tokens=False)
            if text and theirs.encode(text, add_special=False) != own:
                raise UnsupportedModelError(
                    f"llama.cpp would split text otherwise than the tokenizer of {name}: {text[:40]!r} for one.",
                    "Run the model on the torch or mlx backend.",
                )
