"""Makes the requests of a round: the prompts of a scenario at their exact lengths, with the options of a case."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ..backends.base import LoadedModel
from ..backends.local import LocalModel
from ..request import Message, Request
from ..runtime import Engine
from .lengths import drawn, fitted, mark, plain_words
from .plan import BESIDE, Plan
from .report import Case
from .scenarios import Scenario, Text

# How often a model is asked how many tokens a prompt has, where its tokenizer is not here.
ASKS = 8

# Times that a prompt is tokenised to know how long it takes.
TIMES = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A loaded model as requests name it. `local` tells that its tokenizer is here; `context` in tokens."""

    asked: str
    backend: str
    dtype: str | None
    quantize: str | None
    local: bool
    context: int | None

    def on(self, engine: Engine, function: Callable[[LoadedModel], Any]) -> Any:
        """`function` of the model, on the engine's thread."""
        return engine.call_with(self.asked, function, self.backend, self.dtype, self.quantize)


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
        self._options = options(plan, case)
        self._rng = random.Random(secrets.randbits(64))
        self._made: dict[int, str] = {}
        self._conversation = ""  # its mark
        self.notes: list[str] = []

    def together(self, number: int) -> list[Request]:
        """The requests of a round, warm-ups counting from −1 downwards: as many as are asked at once."""
        many = self._case.concurrency
        return [self._request(self._prompt(number * many + place)) for place in range(many)]

    def turn(self, number: int, messages: list[Message], place: int) -> Request:
        """The next request of a conversation: what was said so far, and the person's turn at `place`."""
        if place == 0:
            self._conversation = mark(self._rng)
        turns = self._scenario.prompts[number % len(self._scenario.prompts)]
        text = turns[place] if place else _marked(turns[0], self._conversation)
        asked = self._fitted(text, place, lambda content: [*messages, Message("user", content)])
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
        scenario = self._scenario
        place = number if scenario.random else number % len(scenario.prompts)
        if self._marks == "" and place in self._made:
            return self._made[place]
        if scenario.random:
            made = self._random(place)
        else:
            text = scenario.prompts[place][0]
            made = self._fitted(_marked(text, mark(self._rng), self._marks), 0, lambda content: content)
        self._made[place] = made
        return made

    @property
    def _marks(self) -> str:
        """Where prompts are marked: "before", "after", or not at all."""
        if not self._target.local:
            return "before"
        return "" if self._options["cache"] == "off" else "after"

    def _request(self, prompt: Any) -> Request:
        return Request.of(prompt, raw=self._scenario.random, **self._options)

    def _fitted(self, text: Text, place: int, prompt: Callable[[str], Any]) -> str:
        """A text at the length that the scenario has for this turn."""
        if not self._scenario.lengths or not text.material:
            return text.of(0)
        return self._to(self._length(place), text.of, prompt)

    def _to(self, length: int, write: Callable[[int, str], str], prompt: Callable[[str], Any]) -> str:
        """A text of `length` tokens, counted here or by whoever answers."""
        if self._target.local:
            return str(self._target.on(self._engine, lambda model: fitted(length, write, self._counter(model, prompt))))
        return fitted(length, write, lambda content: self._counted_there(prompt(content)), ASKS)

    def _counter(self, model: LoadedModel, prompt: Callable[[str], Any]) -> Callable[[str], int]:
        assert isinstance(model, LocalModel)
        return lambda content: len(model.tokenizer.prompt(self._request(prompt(content))).ids)

    def _counted_there(self, prompt: Any) -> int:
        """Tokens of a prompt as the one who answered it counted them."""
        asked = replace(self._request(prompt), max_tokens=1)
        return self._engine.submit(asked).result().timings.prompt_tokens

    def _random(self, seed: int) -> str:
        length = self._length(0)
        if not self._target.local:
            seed = secrets.randbits(32)  # its server may keep what it was asked before
            return self._to(length, plain_words(seed), lambda content: content)

        def draw(model: LoadedModel) -> str:
            assert isinstance(model, LocalModel)
            return drawn(model.tokenizer, length, seed, self._counter(model, lambda content: content))

        return str(self._target.on(self._engine, draw))

    def _length(self, place: int) -> int:
        """The length that is intended, or what the model's context leaves of it."""
        wanted, context = self._scenario.lengths[place], self._target.context
        room = wanted if context is None else max(1, context - self._case.max_tokens)
        if room < wanted:
            note = f"prompts of {room} instead of {wanted} tokens: the context holds {context}"
            if note not in self.notes:
                self.notes.append(note)
        return min(room, wanted)


def _marked(text: Text, words: str, where: str = "before") -> Text:
    if where == "before":
        return replace(text, before=f"Note: {words}.\n{text.before}")
    return replace(text, after=f"{text.after}\nNote: {words}.") if where == "after" else text
