"""Keeps an answer to a schema, token by token: llguidance says which tokens may come next, and the rest are masked."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import GenerationError, OptionError
from ..schema import Schema
from .lead import Lead
from .steering import Guide, only

if TYPE_CHECKING:
    from ..request import Request
    from .tokenizer import Prompt, Tokenizer

# JSON as Python's json writes it on one line: a model may otherwise write white space for ever.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

# Grammars that are kept for each vocabulary: rows of a batch have the same one.
KEPT = 8

# What llguidance raises where an assertion of its own does not hold.
PANIC = "PanicException"

# Tokens at the end of a prompt in which the end of a block of thinking is looked for.
TAIL = 12


class Structure(Guide):
    """See Guide. It begins after the thinking: the block that the prompt opened, or one that the answer opens first."""

    def __init__(self, grammar: Any, tokenizer: Tokenizer, lead: Lead) -> None:
        self._matcher, self._ends, self._lead = grammar, tokenizer.end_ids, lead
        self._but_ends = ~only(sorted(self._ends), tokenizer.vocabulary.size)
        self._restart()

    def _restart(self) -> None:
        self._matcher.reset()
        self._lead.restart()
        self._seen: list[int] = []
        # Whether what came so far can be the structure itself: a word that may open the thinking can be both.
        self._fits = self._lead.optional
        self._over = False

    @property
    def over(self) -> bool:
        """See Guide."""
        return self._over

    def allowed(self, made: Sequence[int]) -> np.ndarray | None:
        """See Guide."""
        self._follow(made)
        if self._lead.thinking:
            return self._but_ends
        opening = self._lead.next()
        if not self._fits:
            return only(opening, max(opening) + 1)
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        return words | only(opening, words.size * 32) if opening else words

    def forced(self, made: Sequence[int]) -> list[int]:
        """See Guide."""
        self._follow(made)
        if self._over or self._lead.thinking:
            return []
        if self._lead.next():
            return [] if self._fits else self._lead.rest()
        return list(self._matcher.compute_ff_tokens())

    def drew(self, made: Sequence[int], logits: Any) -> None:
        """See Guide."""
        self._follow(made)

    def _follow(self, made: Sequence[int]) -> None:
        """Go to the end of `made`, from the last place that was asked for where it goes on from there."""
        if self._seen != made[: len(self._seen)]:
            self._restart()
        for token in made[len(self._seen) :]:
            self._take(token)

    def _take(self, token: int) -> None:
        self._seen.append(token)
        if not self._lead.over:
            before = self._lead.take(token)
            if before:
                self._matcher.reset()  # of a beginning that turned out to be none
                self._fits = self._lead.over
                return
            if before is None and not (self._fits and self._matcher.validate_tokens([token])):
                self._fits = False
                return
        if not self._matcher.consume_token(token):
            reason = " ".join(self._matcher.get_error().split())[:200]
            raise GenerationError(f"The answer cannot be kept to its schema any further: {reason}.")
        self._over = token in self._ends or self._matcher.is_stopped()


def structure_for(tokenizer: Tokenizer, request: Request, prompt: Prompt) -> Structure | None:
    """What keeps the answer of a request to its schema; None where it has none.

    Raises:
        OptionError: llguidance is not installed, cannot take the schema, or knows no tokenizer like this one.
    """
    if request.schema is None:
        return None
    grammar = _vocabulary(tokenizer, request.model).grammar(request.schema)
    markers = tokenizer.markers
    closed = markers is not None and tokenizer.decode(prompt.ids[-TAIL:]).rstrip().endswith(markers[1])
    return Structure(grammar, tokenizer, Lead(tokenizer, prompt.thinking, not request.raw and not closed))


class _Vocabulary:
    """A tokenizer as llguidance knows it, with the grammars that were made for it last."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._grammars: OrderedDict[Schema, Any] = OrderedDict()

    def grammar(self, schema: Schema) -> Any:
        """A matcher of one's own, at the beginning."""
        found = self._grammars.pop(schema, None) or _compiled(schema, self._tokenizer)
        self._grammars[schema] = found
        while len(self._grammars) > KEPT:
            self._grammars.popitem(last=False)
        return found.deep_copy()


_known: WeakKeyDictionary[Tokenizer, _Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer, model: str) -> _Vocabulary:
    if find_spec("llguidance") is None:
        raise OptionError("A schema takes llguidance, which is not installed.", "pip install 'mlxnb[structured]'")
    if tokenizer not in _known:
        if not tokenizer.end_ids:
            raise OptionError(f"{model} has no token that ends an answer, which a schema takes.", "Take another model.")
        try:
            _known[tokenizer] = _Vocabulary(tokenizer.for_grammars())
        except BaseException as err:  # Rust's panics are no Exception
            if not (isinstance(err, Exception) or type(err).__name__ == PANIC):
                raise
            reason = " ".join(str(err).split())[:200]
            raise OptionError(
                f"llguidance cannot read the tokenizer of {model}, which a schema takes: {reason}.",
                "Take another model, or ask for the form in the prompt.",
            ) from err
    return _known[tokenizer]


def _compiled(schema: Schema, tokenizer: Any) -> Any:
    from llguidance import LLMatcher

    if schema.kind == "json":
        grammar = LLMatcher.grammar_from_json_schema(schema.source, overrides=_layout(schema))
    elif schema.kind == "regex":
        grammar = LLMatcher.grammar_from_regex(schema.source)
    else:
        grammar = LLMatcher.grammar_from_lark(f"start: {' | '.join(map(_quoted, schema.choices))}")
    wrong, said = LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
    made = LLMatcher(tokenizer, grammar, log_level=0)
    if not wrong and not made.is_error():
        made.compute_bitmask()  # a schema that nothing keeps to shows here
    if wrong or made.is_error():
        raise OptionError(f"The schema cannot be enforced: {_reason(said[0] if wrong else made.get_error())}.", REMEDY)
    return made


REMEDY = "Leave out what llguidance does not know, and check it yourself on the answer."


def _layout(schema: Schema) -> Any:
    """A union that a class is has members that exclude one another, or the class takes the first that fits."""
    return {**LAYOUT, "coerce_one_of": schema.type is not None}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _reason(said: str) -> str:
    """llguidance's reason on one line, without the grammar that it made of the schema, or where in that it is."""
    kept = said.split("\n   1 |")[0].split("<state>")[0].rpartition("\nerror: ")[2]
    return " ".join(kept.split()).rstrip(".")[:300]
