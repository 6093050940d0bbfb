"""Train the byte-level BPE tokenizer on the lessons."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .grammar import productions
from .lessons import epoch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, END = SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 4096
EPOCHS = 3  # drawn only to count pairs
SEED = 1000


def corpus() -> Iterator[str]:
    """Yield questions, answers and reference texts, then every plain English word once."""
    for seed in range(SEED, SEED + EPOCHS):
        lessons = epoch(seed)
        for chat in lessons.chats:
            for turn in chat.turns:
                yield from turn
        yield from lessons.texts
    words = productions("words")
    for word in (words["common"] + " " + words["everyday"]).split():
        yield from [f" {word}"] * 6  # often enough to become one token


def train_tokenizer(size: int = VOCABULARY) -> "Tokenizer":
    """Return a tokenizer of `size` tokens, the special ones first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=3,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def read_tokenizer(folder: Path) -> "Tokenizer":
    """Load the tokenizer of a model folder."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))
