"""Vary how a question is said: how a name is mentioned, which words stand for others, greetings, case and marks."""

import re
from functools import cache
from random import Random

from .facts import TYPES, Fact
from .grammar import productions

PRONOUN = ("I ", "I'")


def mention(fact: Fact, rng: Random) -> str:
    """Write a name the ways people do: `math.sqrt`, math.sqrt(), sqrt from math, the math.sqrt function."""
    r = rng.random()
    if r < 0.52:
        return fact.name
    if r < 0.66:
        return f"`{fact.name}`"
    if r < 0.73:
        return f"{fact.name}()"
    if r < 0.82:
        return rng.choice(["the ", "the ", "Python's ", ""]) + f"{fact.name} {fact.kind}"
    if fact.short_is_unique and r < 0.93:
        return rng.choice([fact.short, fact.short, f"`{fact.short}`", f"{fact.short}()"])
    return apart(fact, rng)


def apart(fact: Fact, rng: Random) -> str:
    """Mention a name and its module as separate words."""
    if fact.module == "builtins":
        return rng.choice([f"the built-in {fact.short}", f"built-in {fact.short}()", fact.short])
    module = fact.module.rpartition(".")[2] if fact.module in TYPES else fact.module
    shapes = [
        "{s} from {m}",
        "{s} in {m}",
        "{m}'s {s}",
        "{s} of {m}",
        "the {s} {k} of {m}",
        "{m} {s}",
        "the {k} {s} in {m}",
    ]
    if fact.module not in TYPES:
        shapes.append("{s} from the {m} module")
    return rng.choice(shapes).format(s=fact.short, m=module, k=fact.kind)


def mention_short(fact: Fact, rng: Random) -> str:
    """Write a name without its module."""
    return rng.choice([fact.short, fact.short, fact.short, f"`{fact.short}`", f"{fact.short}()"])


def mention_module(name: str, rng: Random, *, bare: bool) -> str:
    """Write a module's name; `bare` allows it without the word module."""
    shown = name if rng.random() < 0.75 else f"`{name}`"
    shapes = [
        f"the {shown} module",
        f"the {shown} module",
        f"module {shown}",
        f"the module {shown}",
        f"Python's {shown} module",
    ]
    return rng.choice(shapes + [shown, shown, shown] * bare)


def category(fact: Fact, *, with_module: bool) -> str:
    """Say what sort of thing a name is: "function in math", "method of str", "built-in function"."""
    if fact.module == "builtins":
        return f"built-in {fact.kind}" if with_module or fact.kind == "exception" else fact.kind
    home = f"of {fact.module.rpartition('.')[2]}" if fact.module in TYPES else f"in {fact.module}"
    return f"{fact.kind} {home}" if with_module else fact.kind


@cache
def swaps() -> dict[str, list[str]]:
    """Return, for each word, the words that may stand for it."""
    sets = [s.split("|") for s in productions("words")["swaps"]["sets"]]
    return {word: [w for w in group if w != word] for group in sets for word in group}


def reword(text: str, rng: Random) -> str:
    """Swap some words for others and sometimes drop an article."""
    if rng.random() < 0.5:
        return text
    for word in swaps():
        if word in text and rng.random() < 0.5:
            text = re.sub(rf"\b{word}\b", rng.choice(swaps()[word]), text, count=1)
    if rng.random() < 0.2:
        text = re.sub(r"\b(a|an|the) ", "", text)
    return text


def lower(text: str) -> str:
    """Start a sentence with a small letter, but keep the pronoun I."""
    return text if text.startswith(PRONOUN) else text[:1].lower() + text[1:]


def dress(question: str, rng: Random) -> str:
    """Sometimes lower the case, drop or change the mark, or put a greeting or a remark in front."""
    words = productions("words")["dress"]
    r = rng.random()
    if r < 0.12:
        question = lower(question)
    elif r < 0.24:
        question = question.rstrip("?.!")
    elif r < 0.33:
        question = lower(question).rstrip("?.!")
    elif r < 0.41:
        question = rng.choice(words["greet"]) + lower(question)
    elif r < 0.45:
        question = question.rstrip("?.!") + rng.choice(words["ending"])
    if rng.random() < 0.05:
        question = f"{rng.choice(words['lead'])} {question}"
    return question or "?"
