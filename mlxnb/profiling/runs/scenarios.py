"""What a model is asked while it is measured: scenarios from small files, prompts of a person's own, random tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import OptionError

if TYPE_CHECKING:
    from .plan import Plan

FOLDER = Path(__file__).parent / "scenarios"
NAMES = ("simple", "medium", "complex", "long-context", "multi-turn", "code", "batch")
QUICK = ("simple", "medium")

# Scenarios whose prompts are asked at once, whatever concurrency a plan names.
TOGETHER = ("batch",)

# Tokens of an answer to a prompt of a person's own, or to random tokens, where the plan says no other number.
MAX_TOKENS = 128

PROMPTS, TURNS = re.compile(r"^====\n", re.M), re.compile(r"^----\n", re.M)
MATERIAL = re.compile(r"^<<\n(.*?)^>>\n?", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Text:
    """One message of a person. `material` in its middle is what is cut or repeated to bring it to a length."""

    before: str
    material: str = ""
    after: str = ""

    @classmethod
    def read(cls, source: str) -> Text:
        """From a file's text, where the material stands between lines with << and >>."""
        found = MATERIAL.search(source)
        if found is None:
            return cls(source.strip("\n"))
        return cls(source[: found.start()], found[1], source[found.end() :].rstrip("\n"))

    def of(self, pieces: int, pad: str = "") -> str:
        """The message with so many words of material, begun again as "part 2" and so on where it comes to its end, and
        `pad` behind them.
        """
        words = re.findall(r"\S+\s*", self.material)
        parts = []
        for part in range(-(-pieces // len(words)) if words else 0):
            begin = f"\nPart {part + 1}.\n" if part else ""
            parts.append(begin + "".join(words[: pieces - part * len(words)]))
        return f"{self.before}{''.join(parts).rstrip()}{pad}\n{self.after}" if words else self.before + self.after


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one round of a case asks: one of `prompts`, a conversation where it has several turns.

    `lengths` in tokens, of the whole prompt at each turn, or none where prompts are asked as they are. `together` are
    asked at once; `random` prompts are drawn, `lengths[0]` tokens each.
    """

    name: str
    about: str
    prompts: tuple[tuple[Text, ...], ...]
    lengths: tuple[int, ...] = ()
    max_tokens: int = MAX_TOKENS
    together: int = 1
    random: bool = False

    @property
    def turns(self) -> int:
        """Requests of one conversation."""
        return max((len(prompt) for prompt in self.prompts), default=1)


def scenario(name: str) -> Scenario:
    """A scenario from its file.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in NAMES:
        raise OptionError(f"There is no scenario {name!r}.", f"Scenarios are {', '.join(NAMES)}.")
    return _read(name)


@cache
def _read(name: str) -> Scenario:
    head, _, body = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition("\n\n")
    said = dict(line.split(": ", 1) for line in head.splitlines())
    prompts = tuple(tuple(map(Text.read, TURNS.split(prompt))) for prompt in PROMPTS.split(body))
    lengths = tuple(int(number) for number in said["prompt_tokens"].split(","))
    together = len(prompts) if name in TOGETHER else 1
    return Scenario(name, said["about"], prompts, lengths, int(said["max_tokens"]), together)


def scenarios(plan: Plan) -> tuple[Scenario, ...]:
    """What a plan asks: the scenarios that it names, its own prompts, and random ones; where it names nothing, those of
    a quick or of a full profile.
    """
    own = tuple(
        Scenario(f"prompt {place + 1}" if len(plan.prompts) > 1 else "prompt", _short(text), ((Text(text),),))
        for place, text in enumerate(plan.prompts)
    )
    drawn = tuple(
        Scenario(f"random {length}", f"{length} random tokens", (), (length,), random=True)
        for length in plan.prompt_tokens
    )
    usual = () if own or drawn else QUICK if plan.quick else NAMES
    return (*map(scenario, plan.scenarios or usual), *own, *drawn)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
