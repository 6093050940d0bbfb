"""Keeps an answer to a schema, token by token: llguidance says which tokens may come next, and the rest are masked."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import GenerationError, OptionError
from ..schema import Schema
from .digits import MOST, Digits
from .lead import Lead
from .panics import Panic, panics_as_errors
from .steering import Guide, only

if TYPE_CHECKING:
    from ..request import Request
    from .tokenizer import Prompt, Tokenizer

# JSON as Python's json writes it on one line: a model may otherwise write white space for ever.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

# Grammars that are kept for each vocabulary: rows of a batch have the same one.
KEPT = 8

# Tokens at the end of a prompt in which the end of a block of thinking is looked for.
TAIL = 12


class Structure(Guide):
    """See Guide. It begins after the thinking: the block that the prompt opened, or one that the answer opens first."""

    def __init__(self, grammar: Any, tokenizer: Tokenizer, lead: Lead, digits: Digits | None = None) -> None:
        self._digits = digits
        self._matcher, self._ends, self._lead = grammar, tokenizer.end_ids, lead
        self._but_ends = ~only(sorted(self._ends), tokenizer.vocabulary.size)
        self._restart()

    def _restart(self) -> None:
        self._matcher.reset()
        self._lead.restart()
        self._seen: list[int] = []
        # Whether what came so far can be the structure itself: a word that may open the thinking can be both.
        self._fits = self._lead.optional
        self._in_a_row = 0  # digits that the answer ends with
        self._due: list[int] = []  # what comes next in any case, as far as it was asked for
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
        self._check()
        if self._digits is not None and self._in_a_row >= MOST:
            words = self._digits.ended(words)
        return words | only(opening, words.size * 32) if opening else words

    def forced(self, made: Sequence[int]) -> list[int]:
        """See Guide."""
        self._follow(made)
        if self._over or self._lead.thinking:
            return []
        if self._lead.next():
            return [] if self._fits else self._lead.rest()
        self._due = self._due or list(self._matcher.compute_ff_tokens())
        return list(self._due)

    def drew(self, made: Sequence[int], logits: Any) -> None:
        """See Guide."""
        self._follow(made)

    def _follow(self, made: Sequence[int]) -> None:
        """Go to the end of `made`, from the last place that was asked for where it goes on from there."""
        known = len(self._seen)
        # Whoever takes tokens back asks about the shorter answer first, so that the last one tells.
        if known > len(made) or (known and self._seen[-1] != made[known - 1]):
            self._restart()
        for token in made[len(self._seen) :]:
            self._take(token)

    def _take(self, token: int) -> None:
        self._seen.append(token)
        if not self._lead.over:
            before = self._lead.take(token)
            if before:
                self._matcher.reset()  # of a beginning that turned out to be none
                self._in_a_row, self._due = 0, []
                self._fits = self._lead.over
                return
            if before is None and not (self._fits and self._matcher.validate_tokens([token])):
                self._fits = False
                return
        self._due = self._due[1:] if self._due[:1] == [token] else []
        self._matcher.consume_token(token)
        self._check()
        if self._digits is not None:
            self._in_a_row = self._digits.in_a_row(self._in_a_row, token)
        self._over = token in self._ends or self._matcher.is_stopped()

    def _check(self) -> None:
        """llguidance ends an answer where it cannot go on, and does not say so by itself."""
        if self._matcher.is_error():
            reason = _reason(self._matcher.get_error())
            raise GenerationError(f"The answer cannot be kept to its schema any further: {reason}.", SIMPLER)


def structure_for(tokenizer: Tokenizer, request: Request, prompt: Prompt) -> Structure | None:
    """What keeps the answer of a request to its schema; None where it has none.

    Raises:
        OptionError: llguidance is not installed, cannot take the schema, or knows no tokenizer like this one.
    """
    if request.schema is None:
        return None
    vocabulary = _vocabulary(tokenizer, request.model)
    grammar = vocabulary.grammar(request.schema)
    digits = vocabulary.digits if request.schema.kind == "json" else None
    markers = tokenizer.markers
    closed = markers is not None and tokenizer.decode(prompt.ids[-TAIL:]).rstrip().endswith(markers[1])
    may_open, may_think = not request.raw and not closed, request.think not in ("off", 0)
    return Structure(grammar, tokenizer, Lead(tokenizer, prompt.thinking, may_open, may_think), digits)


class _Vocabulary:
    """A tokenizer as llguidance knows it, with the grammars that were made for it last."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._grammars: OrderedDict[tuple[Schema, bool], Any] = OrderedDict()

    @cached_property
    def digits(self) -> Digits:
        """What it has of digits. Takes a tenth of a second for a large one."""
        return Digits(self._tokenizer)

    def grammar(self, schema: Schema) -> Any:
        """A matcher of one's own, at the beginning."""
        asked = schema, schema.type is not None  # which its layout depends on
        found = self._grammars.pop(asked, None) or _compiled(schema, self._tokenizer)
        self._grammars[asked] = found
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
            with panics_as_errors():
                _known[tokenizer] = _Vocabulary(tokenizer.for_grammars())
        except Exception as err:  # llguidance reads it in ways of its own, which fail in many
            reason = " ".join(str(err).split())[:200]
            raise OptionError(
                f"llguidance cannot read the tokenizer of {model}, which a schema takes: {reason}.",
                "Take another model, or ask for the form in the prompt.",
            ) from err
    return _known[tokenizer]


def _compiled(schema: Schema, tokenizer: Any) -> Any:
    try:
        with panics_as_errors():
            return _matcher(schema, tokenizer)
    except Panic as err:
        raise OptionError(f"The schema cannot be enforced: llguidance broke down over it: {err}.", REMEDY) from err


def _matcher(schema: Schema, tokenizer: Any) -> Any:
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
SIMPLER = "Take a simpler schema: fewer alternatives, shorter patterns."


def _layout(schema: Schema) -> Any:
    """A union that a class is has members that exclude one another, or the class takes the first that fits."""
    return {**LAYOUT, "coerce_one_of": schema.type is not None}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _reason(said: str) -> str:
    """llguidance's reason on one line, without the grammar that it made of the schema, or where in that it is."""
    kept = said.split("\n   1 |")[0].split("<state>")[0].rpartition("\nerror: ")[2]
    return " ".join(kept.split()).rstrip(".")[:300]
