"""Training questions with their answers: about facts and modules, small talk, and what must be refused."""

from random import Random
from typing import Any

from . import answers
from .facts import Fact, Module, library
from .grammar import Slots, draw, everyday, fillers, productions, salad
from .speech import category, dress, mention, mention_module, mention_short, reword

Turn = tuple[str, str]  # question, answer
SALAD = 0.22  # share of the questions that are key words among common words


def ask(kind: str, rng: Random, slots: Slots) -> str:
    """Say a question of a kind, from its grammar or as a salad."""
    if rng.random() < SALAD:
        return dress(salad(kind, rng, slots), rng)
    return dress(draw(productions("phrasings")["asks"][kind], rng, slots), rng)


def about_fact(kind: str, fact: Fact, rng: Random) -> Turn:
    """Ask what a name does, its signature, where it lives, for an example, or which name does a job."""
    if kind == "which":
        return which(fact, rng)
    slots: Slots = {"n": lambda: mention(fact, rng), "s": lambda: mention_short(fact, rng)}
    return ask(kind, rng, slots), answers.ABOUT_FACT[kind](fact)


def which(fact: Fact, rng: Random) -> Turn:
    """Ask for a name by what it does."""
    if fact.task and fact.predicate_is_unique and rng.random() < 0.5:
        return wish(fact, fact.task, rng)
    with_module = not fact.predicate_is_unique or rng.random() < 0.5
    slots: Slots = {"w": lambda: category(fact, with_module=with_module), "t": lambda: reword(fact.predicate, rng)}
    return ask("which_third", rng, slots), answers.which(fact)


def wish(fact: Fact, text: str, rng: Random) -> Turn:
    """Ask how to do a job."""
    return ask("which_task", rng, {"v": lambda: reword(text, rng)}), answers.which(fact)


def about_module(kind: str, found: Module, rng: Random) -> Turn:
    """Ask what a module is for or what is in it; `copy` alone is a function, so its module is called a module."""
    bare = kind == "list" or all(found.name not in (f.short, f.name) for f in library().facts)
    slots: Slots = {"m": lambda: found.name, "M": lambda: mention_module(found.name, rng, bare=bare)}
    return ask(kind, rng, slots), answers.ABOUT_MODULE[kind](found)


def follow_up(kind: str, fact: Fact, rng: Random) -> Turn:
    """Ask on about the name that the chat is about."""
    return dress(draw(productions("phrasings")["follow"][kind], rng), rng), answers.ABOUT_FACT[kind](fact)


def follow_module(found: Module, rng: Random) -> Turn:
    """Ask on what is in the module that the chat is about."""
    return dress(draw(productions("phrasings")["follow"]["list"], rng), rng), answers.members(found)


def small_talk(intent: str, rng: Random) -> Turn:
    """Greet, thank, ask who is there and so on."""
    entry = productions("chat")[intent]
    return dress(draw(entry["phrasings"], rng), rng), entry["answer"]


def refusal() -> str:
    """Return the one answer to all that is not a fact of the domain."""
    return str(productions("offdomain")["answer"])


def off_domain(rng: Random) -> Turn:
    """Ask something that has nothing to do with the standard library."""
    table: dict[str, Any] = productions("offdomain")
    slots: Slots = {"i": lambda: str(rng.randint(1, 999)), "j": lambda: str(rng.randint(1, 99))}
    for name, words in table["slots"].items():
        choices = words.split("|") if "|" in words else words.split()
        slots[name] = lambda choices=choices: rng.choice(choices).replace("_", " ")  # type: ignore[misc]
    if rng.random() < 0.35:  # any everyday word may stand for any topic
        slots |= {name: lambda: rng.choice(everyday()) for name in ("topic", "being", "gadget", "food")}
    return dress(draw(table["phrasings"]["questions"], rng, slots), rng), refusal()


def nonsense(rng: Random) -> Turn:
    """Say words among which no name occurs."""
    pool = fillers() if rng.random() < 0.4 else everyday()
    words = [rng.choice(pool if rng.random() < 0.6 else fillers()) for _ in range(rng.randint(1, 9))]
    asking = "what|explain|how|tell me|why|show me|example|code|write|use|which|who|where|how do I|what is|name|||||"
    words.insert(rng.choice([0, rng.randrange(len(words) + 1)]), rng.choice(asking.split("|")))
    text = " ".join(w for w in words if w)
    return dress(text[:1].upper() + text[1:] + rng.choice(["?", ".", "!", ""]), rng), refusal()


def other_library(name: str, rng: Random) -> Turn:
    """Ask about a library that one has to install."""
    shown = name if rng.random() < 0.75 else f"`{name}`"
    return dress(draw(productions("phrasings")["libraries"]["questions"], rng, {"b": lambda: shown}), rng), refusal()


def no_library(rng: Random) -> str:
    """Return a word that could be the name of a library."""
    if rng.random() < 0.5:
        return rng.choice(everyday())
    return "".join(rng.choice(productions("words")["unknown"]["syllables"].split()) for _ in range(rng.randint(2, 3)))


def made_up(rng: Random) -> Turn:
    """Ask about a name that does not exist."""
    name = invent(rng)
    if rng.random() < 0.2:
        name = name.rpartition(".")[2]
    shown = rng.choice([name, name, name, f"`{name}`", f"{name}()", f"the {name} function"])
    return ask(rng.choice(["what", "signature", "example"]), rng, {"n": lambda: shown}), refusal()


def invent(rng: Random) -> str:
    """Make up a name that looks like one of the library's."""
    words = productions("words")["unknown"]
    known = {f.name for f in library().facts} | {f.short for f in library().facts}
    while True:
        r = rng.random()
        if r < 0.45:
            short = "".join(rng.choice(words["syllables"].split()) for _ in range(rng.randint(2, 3)))
        elif r < 0.75:
            short = rng.choice(words["parts"].split()) + rng.choice(["_", ""]) + rng.choice(words["parts"].split())
        else:
            short = rng.choice(library().facts).short + rng.choice(words["endings"].split())
        module = rng.choice(library().modules).name
        name = short if module == "builtins" else f"{module}.{short}"
        if name not in known and short not in known:
            return name
