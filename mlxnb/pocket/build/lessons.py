"""One pass over everything that the model is taught, drawn afresh for each epoch."""

from dataclasses import dataclass
from random import Random

from .facts import Fact, Module, library
from .grammar import productions
from .questions import (
    Turn,
    about_fact,
    about_module,
    follow_module,
    follow_up,
    made_up,
    no_library,
    nonsense,
    off_domain,
    other_library,
    small_talk,
    wish,
)

FOLLOWED = 0.22  # share of the questions about a fact that are followed up
SYSTEM = 0.12  # share of the chats that begin with a system prompt
LONGEST_TEXT = 700  # characters of one piece of reference text
PER_INTENT, OFF_DOMAIN, NONSENSE, MADE_UP, NO_LIBRARY = 48, 620, 160, 240, 50


@dataclass(frozen=True)
class Chat:
    """A conversation: an optional system prompt and its turns."""

    system: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Lessons:
    """An epoch: chats, and pieces of plain reference text."""

    chats: tuple[Chat, ...]
    texts: tuple[str, ...]


def epoch(seed: int) -> Lessons:
    """Draw one pass over the facts with fresh phrasings."""
    rng = Random(seed)
    talks = [talk for fact in library().facts for talk in fact_talks(fact, rng)]
    talks += [talk for module in library().modules for talk in module_talks(module, rng)]
    talks += [(small_talk(intent, rng),) for intent in productions("chat") for _ in range(PER_INTENT)]
    talks += [(off_domain(rng),) for _ in range(OFF_DOMAIN)]
    talks += [(nonsense(rng),) for _ in range(NONSENSE)]
    talks += [(made_up(rng),) for _ in range(MADE_UP)]
    talks += [(other_library(b, rng),) for b in productions("words")["unknown"]["libraries"].split()]
    talks += [(other_library(no_library(rng), rng),) for _ in range(NO_LIBRARY)]
    systems = productions("words")["dress"]["systems"]
    chats = [Chat(rng.choice(systems) if rng.random() < SYSTEM else None, talk) for talk in talks]
    rng.shuffle(chats)
    return Lessons(tuple(chats), tuple(reference_texts(rng)))


def fact_talks(fact: Fact, rng: Random) -> list[tuple[Turn, ...]]:
    """Draw the chats about one fact: every kind of question once or twice."""
    kinds = ["what", "what", "signature", "which", "which"]
    kinds += ["where"] if fact.short_is_unique else []
    kinds += ["example"] * (2 if fact.example else rng.random() < 0.35)
    talks = [(turn, *continuation(kind, fact, rng)) for kind in kinds for turn in [about_fact(kind, fact, rng)]]
    for text in rng.sample(fact.wishes, min(3, len(fact.wishes))):
        talks.append((wish(fact, text, rng), *continuation("which", fact, rng)))
    return talks


def module_talks(module: Module, rng: Random) -> list[tuple[Turn, ...]]:
    """Draw the chats about one module, some of which go on to what is in it."""
    talks: list[tuple[Turn, ...]] = [(about_module("list", module, rng),) for _ in range(3)]
    for _ in range(3):
        more = (follow_module(module, rng),) if rng.random() < FOLLOWED else ()
        talks.append((about_module("module", module, rng), *more))
    return talks


def continuation(kind: str, fact: Fact, rng: Random) -> list[Turn]:
    """Draw what may follow in the same chat: one to three more questions about the name, then perhaps thanks."""
    if rng.random() >= FOLLOWED:
        return []
    others = [k for k in ("signature", "what", "example", "where") if k != kind]
    turns = [follow_up(k, fact, rng) for k in rng.sample(others, rng.choice([1, 1, 1, 2, 3]))]
    if rng.random() < 0.15:
        turns.append(small_talk(rng.choice(["thanks", "thanks", "bye"]), rng))
    return turns


def reference_texts(rng: Random) -> list[str]:
    """Write a reference page for half of the modules, cut into pieces."""
    modules = library().modules
    texts: list[str] = []
    for module in rng.sample(modules, len(modules) // 2):
        facts = [f for f in library().facts if f.module == module.name]
        rng.shuffle(facts)
        text = f"# {module.name}\n\nThe `{module.name}` module {module.about}.\n"
        for fact in facts:
            part = f"\n## {fact.call}\n\n{fact.predicate[0].upper()}{fact.predicate[1:]}.\n"
            if len(text) + len(part) > LONGEST_TEXT:
                texts.append(text)
                text = ""
            text += part
        texts.append(text)
    rng.shuffle(texts)
    return texts
