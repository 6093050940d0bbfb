"""Perplexity of a loaded model over token sequences: one figure for what a dtype or a quantisation costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OptionError, PromptError
from ..request import Request
from .tokenizer import check_context, check_text
from .vocabulary import as_ids, check_ids

if TYPE_CHECKING:
    from .local import LocalModel

# A text, or a prompt and what is answered to it.
Text = str | tuple[str, str]
GIVE = "Give a string, or a pair of strings: a prompt and its answer."


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-likelihood in nats, over `tokens` tokens. Lower is better."""

    value: float
    tokens: int


def perplexity(model: LocalModel, texts: Iterable[tuple[Iterable[int], Iterable[int]]]) -> Perplexity:
    """The perplexity of each text's tokens after what is given before it, both as token ids.

    The first token of a text with nothing before it is not counted, as nothing predicts it. To be called on the
    engine's thread.

    Raises:
        OptionError: there is no token to predict.
        PromptError: an id is no token of the model, or a text is longer than its context.
    """
    total, tokens = 0.0, 0
    for given, text in texts:
        before, after = as_ids(given, "A text"), as_ids(text, "A text")
        _check(model, [*before, *after])
        losses = model.losses([*before, *after])[max(0, len(before) - 1) :]
        total, tokens = total + math.fsum(losses), tokens + len(losses)
    if not tokens:
        raise OptionError("There is no token to predict.", "Give texts of at least two tokens.")
    return Perplexity(math.exp(total / tokens), tokens)


def _check(model: LocalModel, ids: list[int]) -> None:
    vocabulary = model.checkpoint.config.get("vocab_size") if model.checkpoint is not None else None
    check_ids(ids, vocabulary, model.info.name, "A text")
    check_context(len(ids) - 1, model.info.context_length, model.info.name)


def as_texts(texts: Text | Iterable[Text]) -> list[Text]:
    """One text, or those of any iterable, as a list.

    Raises:
        PromptError: it is neither.
    """
    if isinstance(texts, str | tuple):
        return [texts]
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise PromptError(f"texts is a {type(texts).__name__}.", f"{GIVE} Or a list of those.")
    return list(texts)


def in_pieces(model: LocalModel, text: Text) -> list[tuple[list[int], list[int]]]:
    """`in_tokens` of a text; one that is longer than the context in pieces that are each predicted by themselves.

    Raises:
        PromptError: it is no text, or a pair that is longer than the model's context.
    """
    if not isinstance(text, str):
        return [in_tokens(model, text)]
    if not text.strip():
        raise PromptError("The text is empty.", "Leave it out.")
    ids = model.tokenizer.prompt(Request.of(text, raw=True)).ids
    room = model.info.context_length or max(1, len(ids))
    pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
    # A last piece of one token has nothing before it that would predict it.
    return [([], piece) for piece in pieces if len(piece) > 1 or len(pieces) == 1]


def in_tokens(model: LocalModel, text: Text) -> tuple[list[int], list[int]]:
    """What is given and what is to be predicted after it: of a text all; of a prompt and its answer the answer and the
    token that ends it, after the prompt in the model's chat template.

    Raises:
        PromptError: it is neither, or longer than the model's context.
    """
    if isinstance(text, str):
        given, ids = [], model.tokenizer.prompt(Request.of(text, raw=True)).ids
    elif isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text):
        check_text(text[1], "The answer")
        given = model.tokenizer.prompt(Request.of(text[0])).ids
        ids = model.tokenizer.inner.encode(text[1], add_special_tokens=False)
        ids += [end] if (end := model.tokenizer.inner.eos_token_id) is not None else []
    else:
        raise PromptError(f"A text is {repr(text)[:80]}.", GIVE)
    check_context(len(given) + len(ids) - 1, model.info.context_length, model.info.name)
    return given, ids
