"""Brings a prompt to an exact number of tokens, as the model's own tokenizer or its server counts them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from ...backends.tokenizer import Tokenizer

# What is put behind the material where whole words do not come out even: each is one token in nearly every vocabulary.
PADS = (" a", " and", ".", "\n", " 1", "!")

# Plain words, for prompts whose tokens nobody here can draw, and for marks that set one prompt apart from another.
WORDS = (Path(__file__).parent / "scenarios" / "words.txt").read_text(encoding="utf-8").split()

# Draws of a token that is a whole word, after which a vocabulary counts as one that has none.
TRIES = 2000


def fitted(length: int, write: Callable[[int, str], str], count: Callable[[str], int], most: int = 60) -> str:
    """The text that comes to exactly `length` tokens, or as near below as could be found with `most` counts; where even
    the shortest is longer, that.

    Args:
        write: the text with so many pieces and a pad behind them.
        count: the tokens of the whole prompt that a text makes.
    """
    return _Fitting(length, write, count, most).text()


class _Fitting:
    """Looks for the number of pieces that is almost long enough, then for a pad that fills the rest."""

    def __init__(self, length: int, write: Callable[[int, str], str], count: Callable[[str], int], most: int) -> None:
        self._length, self._write, self._count, self._left = length, write, count, most
        self._best = ""
        self._near = -1  # tokens of the best so far

    def text(self) -> str:
        shortest = self._tokens(0)
        if shortest < self._length and self._left > 0:
            low = self._pieces(shortest)
            if self._near != self._length:
                self._fill(low)
        return self._best or self._write(0, "")

    def _tokens(self, pieces: int, pad: str = "") -> int:
        self._left -= 1
        text = self._write(pieces, pad)
        tokens = self._count(text)
        if self._near < tokens <= self._length:
            self._best, self._near = text, tokens
        return tokens

    def _pieces(self, shortest: int) -> int:
        """The largest number of pieces that is not too long."""
        low, few = 0, shortest
        high = max(1, int((self._length - shortest) * 0.8))
        while (many := self._tokens(high)) <= self._length:
            if many <= few or many == self._length or self._left <= 0:
                return high  # it does not grow, is there, or nobody may ask any more
            per_piece = (many - few) / (high - low)
            low, few = high, many
            high += max(1, round((self._length - many) / per_piece) + 1)
        for step in range(100):
            if high - low <= 1 or self._left <= 0:
                break
            share = (self._length - few) / (many - few) if step % 2 == 0 else 0.5
            middle = min(high - 1, max(low + 1, low + round((high - low) * share)))
            tokens = self._tokens(middle)
            if tokens <= self._length:
                low, few = middle, tokens
            else:
                high, many = middle, tokens
            if tokens == self._length:
                break
        return low

    def _fill(self, low: int) -> None:
        for pieces in (low, max(0, low - 2)):
            for pad in PADS:
                copies = self._length - (self._near if pieces == low else self._tokens(pieces))
                while copies > 0 and self._left > 0:
                    off = self._length - self._tokens(pieces, pad * copies)
                    if off == 0:
                        return
                    copies = copies + off if off < 0 else 0


def drawn(tokenizer: Tokenizer, length: int, seed: int, count: Callable[[str], int]) -> str:
    """Text whose tokens are drawn from a model's whole-word tokens: it comes to `length` tokens, those that were drawn
    behind what the tokenizer itself puts before every text.
    """
    rng, words = random.Random(seed), list[str]()
    pick = _picker(tokenizer, rng)
    for _ in range(8):
        off = length - (count(_joined(words)) if words else 0)
        if off == 0:
            return _joined(words)
        words = [*words, *(pick() for _ in range(off))] if off > 0 else words[:off]
        if not words:
            break
    spare = [pick() for _ in range(length)]
    return fitted(length, lambda pieces, pad: _joined(spare[: pieces + 1]) + pad, count)


def _joined(words: list[str]) -> str:
    return "".join(f" {word}" for word in words)


def _picker(tokenizer: Tokenizer, rng: random.Random) -> Callable[[], str]:
    """Draws token ids until one is a word by itself, within a text too; a word's text."""
    size = tokenizer.vocabulary.size
    alone = len(tokenizer.inner.encode("a", add_special_tokens=False))
    tries = TRIES

    def pick() -> str:
        nonlocal tries
        for _ in range(tries):
            word = tokenizer.decode([rng.randrange(size)]).strip()
            plain = len(word) > 1 and word.isascii() and word.isalpha()
            if plain and len(tokenizer.inner.encode(f"a {word}", add_special_tokens=False)) == alone + 1:
                return word
        tries = 0  # or a long prompt would look as often for each of its words
        return rng.choice(WORDS)

    return pick


def plain_words(seed: int) -> Callable[[int, str], str]:
    """Writes texts of plain words, always the same for a seed, for a model whose tokenizer is not here."""
    rng = random.Random(seed)
    words: list[str] = []

    def write(pieces: int, pad: str) -> str:
        while len(words) <= pieces:
            words.append(rng.choice(WORDS))
        return _joined(words[: pieces + 1]) + pad

    return write


def mark(rng: random.Random) -> str:
    """Three plain words that set a prompt apart from every other, so that no cache knows it."""
    return " ".join(rng.choices(WORDS, k=3))
