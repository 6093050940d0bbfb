"""Makes the requests of a round: the prompts of a scenario at their exact lengths, with the options of a case."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ...backends.base import LoadedModel
from ...backends.local import LocalModel
from ...request import Message, Request
from ...runtime import Engine
from ..report import Case
from .lengths import drawn, fitted, mark, plain_words
from .plan import BESIDE, Plan
from .scenarios import Scenario, Text

# How often a model is asked how many tokens a prompt has, where its tokenizer is not here.
ASKS = 8

# Letters of a token, where a server does not count them.
LETTERS = 4

# Times that a prompt is tokenised to know how long it takes.
TIMES = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A loaded model as requests name it. `local` tells that its tokenizer is here; `context` in tokens. `note` is what
    to know of how it was found.
    """

    asked: str
    backend: str
    dtype: str | None
    quantize: str | None
    adapter: str | None
    local: bool
    context: int | None
    note: str = ""

    def on(self, engine: Engine, function: Callable[[LoadedModel], Any]) -> Any:
        """`function` of the model, on the engine's thread."""
        return engine.call_with(self.asked, function, self.backend, self.dtype, self.quantize, self.adapter)


def options(plan: Plan, case: Case) -> dict[str, Any]:
    """What the requests of a case are asked with: no caches, unless the plan or the scenario is about them."""
    given: dict[str, Any] = {"cache": "auto" if case.scenario == "multi-turn" else "off", **plan.base, **case.varied}
    kept = {name: value for name, value in given.items() if name not in (*BESIDE, "model")}
    return {**kept, "model": case.asked, "max_tokens": case.max_tokens}


class Asking:
    """The requests of one case of a model. Prompts that may repeat are made once.

    Where something keeps what was asked before, which a server may do whatever it is told, every prompt carries a mark
    that no other has: at its beginning, so that nothing of it is reused, or at its end, where reusing is the point.
    """

    def __init__(self, engine: Engine, plan: Plan, case: Case, scenario: Scenario, target: Target) -> None:
        self._engine, self._case, self._scenario, self._target = engine, case, scenario, target
        # Of the backend that was loaded: another one that took a request over would be measured under its name.
        self._options = {**options(plan, case), "backend": target.backend}
        self._rng = random.Random(secrets.randbits(64))
        self._made: dict[tuple[int, int], tuple[str, str]] = {}  # with the mark that is in each
        self._conversation = ""  # its mark
        self.notes: list[str] = [target.note] if target.note else []

    def together(self, number: int) -> list[Request]:
        """The requests of a round, warm-ups counting from −1 downwards: as many as are asked at once."""
        many = self._case.concurrency
        return [self._request(self._prompt(number * many + place)) for place in range(many)]

    def turn(self, number: int, messages: list[Message], place: int) -> Request:
        """The next request of a conversation: what was said so far, and the person's turn at `place`."""
        if place == 0:
            self._conversation = mark(self._rng)
        which = number % len(self._scenario.prompts)
        text = self._scenario.prompts[which][place]
        words = self._conversation if place == 0 else ""
        asked = self._fitted((which, place), text, words, "before", lambda said: [*messages, Message("user", said)])
        return self._request([*messages, Message("user", asked)])

    def tokenising(self) -> float | None:
        """Seconds in which one of its prompts becomes tokens; None where that happens elsewhere."""
        if not self._target.local:
            return None
        request = self.turn(0, [], 0) if self._scenario.turns > 1 else self.together(0)[0]

        def timed(model: LoadedModel) -> float:
            assert isinstance(model, LocalModel)
            took = []
            for _ in range(TIMES):
                began = time.perf_counter()
                model.tokenizer.prompt(request)
                took.append(time.perf_counter() - began)
            return median(took)

        return float(self._target.on(self._engine, timed))

    def _prompt(self, number: int) -> str:
        """The text of the request with this number in the case."""
        if self._scenario.random:
            return self._random(number)
        which = number % len(self._scenario.prompts)
        text, words = self._scenario.prompts[which][0], mark(self._rng) if self._marks else ""
        return self._fitted((which, 0), text, words, self._marks, lambda said: said)

    @property
    def _marks(self) -> str:
        """Where prompts are marked: "before", "after", or not at all."""
        if not self._target.local:
            return "before"
        return "" if self._options["cache"] == "off" else "after"

    def _request(self, prompt: Any) -> Request:
        return Request.of(prompt, raw=self._scenario.random, **self._options)

    def _fitted(self, key: tuple[int, int], text: Text, words: str, where: str, prompt: Callable[[str], Any]) -> str:
        """A text with its mark at the length that the scenario has for this turn. One that was made before is taken
        again, with another mark, where it is the same or where counting means asking.
        """
        if key in self._made and (key[1] == 0 or not self._target.local):
            made, before = self._made[key]
            if words == before:
                return made
            if not self._target.local:
                return made.replace(before, words, 1)
        marked = _marked(text, words, where)
        if not self._scenario.lengths or not text.material:
            if words:
                self._say(f"three words of ours stand {where} the prompt, so that nothing kept of earlier ones is used")
            return marked.of(0)
        made = self._to(self._length(key[1]), marked.of, prompt)
        self._made[key] = made, words
        return made

    def _to(self, length: int, write: Callable[[int, str], str], prompt: Callable[[str], Any]) -> str:
        """A text of `length` tokens, counted here or by whoever answers."""
        if self._target.local:
            return str(self._target.on(self._engine, lambda model: fitted(length, write, self._counter(model, prompt))))
        if not self._counted_there(prompt(write(0, ""))):
            self._say(f"{self._case.asked} counts no tokens: its prompts have {LETTERS} letters for each that is meant")
            return fitted(length, write, lambda said: len(said) // LETTERS)
        return fitted(length, write, lambda said: self._counted_there(prompt(said)), ASKS)

    def _counter(self, model: LoadedModel, prompt: Callable[[str], Any]) -> Callable[[str], int]:
        assert isinstance(model, LocalModel)
        return lambda said: len(model.tokenizer.prompt(self._request(prompt(said))).ids)

    def _counted_there(self, prompt: Any) -> int:
        """Tokens of a prompt as the one who answered it counted them."""
        asked = replace(self._request(prompt), max_tokens=1)
        return self._engine.submit(asked).result().timings.prompt_tokens

    def _random(self, number: int) -> str:
        length = self._length(0)
        if not self._target.local:  # its server may keep what it was asked before: each is drawn anew
            words = plain_words(secrets.randbits(32))
            if (0, 0) in self._made:
                return words(len(self._made[0, 0][0].split()) - 1, "")
            self._made[0, 0] = self._to(length, words, lambda said: said), ""
            return self._made[0, 0][0]

        seed = (
            secrets.randbits(32) if self._marks else number
        )  # unless a cache is to be used, the same in every profile

        def draw(model: LoadedModel) -> str:
            assert isinstance(model, LocalModel)
            return drawn(model.tokenizer, length, seed, self._counter(model, lambda said: said))

        return str(self._target.on(self._engine, draw))

    def _length(self, place: int) -> int:
        """The length that is intended, or what the model's context leaves of it."""
        wanted, context = self._scenario.lengths[place], self._target.context
        room = wanted if context is None else max(1, context - self._case.max_tokens)
        if room < wanted:
            self._say(f"prompts of {room} instead of {wanted} tokens: the context holds {context}")
        return min(room, wanted)

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _marked(text: Text, words: str, where: str) -> Text:
    if not words:
        return text
    if where == "before":
        return replace(text, before=f"Note: {words}.\n{text.before}")
    return replace(text, after=f"{text.after}\nNote: {words}.")
