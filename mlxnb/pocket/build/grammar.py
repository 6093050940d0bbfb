"""Draw a training phrasing from the grammars; a held-out phrasing is never drawn."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

from .facts import library, table

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
CODE = ("help(", "dir(", "import ", "pip ", "inspect.", "{")
ARTICLE = re.compile(r"\b([Aa]) (?=(attribute|exception|example|illustration|overview|elegant|index|apple|engineer)\b)")
QUESTION = re.compile(r"(Can|Could|Do|Would|Which|What|Is|Are|Does|How|Who|Where|When|Why|May)\b")
Slots = dict[str, Callable[[], str]]

# An intent lies in its key words and the name, whatever else is said around them.
KEYS = {
    "what": "what {n}|{n}|explain {n}|describe {n}|about {n}|what {n} does|purpose {n}|meaning {n}|what is {n}|"
    "what's {n}|understand {n}|why {n}|when {n}|summary {n}|overview {n}|{n} for|{n} mean|idea {n}|job {n}|role {n}",
    "signature": "signature {n}|arguments {n}|parameters {n}|{n} arguments|{n} signature|{n} parameters|inputs {n}|"
    "call {n}|pass to {n}|how {n} called|give to {n}|hand to {n}|argument {n}|{n} argument|parameter {n}|"
    "values into {n}",
    "example": "example {n}|sample {n}|demo {n}|code {n}|use {n}|how use {n}|{n} in action|{n} example|{n} code|"
    "{n} used|snippet {n}|examples {n}|demonstrate {n}|demonstration {n}|illustrate {n}|{n} in practice|"
    "{n} in code|script {n}|try {n}|usage {n}|one-liner {n}|show using {n}|{n} look like|program {n}|lines {n}",
    "where": "module {s}|where {s}|import {s}|{s} module|{s} import|{s} come from|library {s}|which module {s}|"
    "{s} from|find {s}|{s} defined|package {s}",
    "which_third": "{w} that {t}|which {w} {t}|what {t}|a {w} {t}|the {w} {t}|{w} which {t}|something that {t}",
    "which_task": "how {v}|to {v}|way to {v}|{v}|need to {v}|want to {v}|function to {v}|possible to {v}",
    "module": "what {M}|{M}|explain {M}|describe {M}|about {M}|purpose {M}|why {M}|when {M}|what is {M}|"
    "understand {M}|use {M}|idea {M}|problem {M}|{M} for|summary {M}|import {M}|who {M}",
    "list": "functions {M}|names {M}|list {M}|things {M}|which functions {M}|what in {M}|contents {M}|"
    "{M} contains|{M} functions|inside {M}|tools {M}|helpers {M}|{M} offer|{M} provides|enumerate {M}|members {M}|"
    "{M} include|classes {M}|names from {M}|name some {M}|some of {M}|{M} come with|important {M}|a few {M}",
}


def normal(text: str) -> str:
    """Reduce a phrasing to its words, so that case and punctuation do not hide a held-out one."""
    return re.sub(r"[^a-z{}]+", " ", text.lower().replace("{M}", "the {m} module")).strip()


@cache
def held_out() -> frozenset[str]:
    """Return every phrasing of both held-out lists."""
    lists = [table(f"heldout_{part}") for part in ("tuning", "unseen")]
    free = [question for part in lists for question, *_ in part.pop("free")["tasks"]]
    return frozenset(normal(text) for text in [*strings(lists), *free])


def strings(tree: Any) -> Iterator[str]:
    """Yield the strings of nested tables and lists."""
    if isinstance(tree, str):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from strings(branch)


@cache
def productions(name: str) -> dict[str, Any]:
    """Return one of the tables of phrasings and words."""
    return table(name)


@cache
def macros() -> dict[str, str]:
    """Return the pieces that many productions share."""
    found: dict[str, str] = productions("phrasings")["macros"]
    return found


def choose(template: str, rng: Random) -> str:
    """Replace every macro, then every choice, from the inside out."""
    while "<" in template and any(f"<{name}>" in template for name in macros()):
        template = re.sub(r"<(\w+)>", lambda m: macros()[m[1]], template)
    while match := CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    return template.strip()


def draw(templates: list[str], rng: Random, slots: Slots | None = None) -> str:
    """Draw a sentence of the grammar and fill its slots; retry while it is a held-out one."""
    while True:
        template = finish(choose(rng.choice(templates), rng))
        text = ARTICLE.sub(r"\1n ", fill(template, slots or {}))
        if not {normal(template), normal(template.replace("{M}", "{m}")), normal(text)} & held_out():
            return text


def finish(template: str) -> str:
    """Start a sentence with a capital and end a question with its mark."""
    if template and not template.startswith(CODE):
        template = template[0].upper() + template[1:]
    if template.endswith(".") and QUESTION.match(template):
        template = template[:-1] + "?"
    return template


def fill(template: str, slots: Slots) -> str:
    """Put a drawn value into each slot."""
    return SLOT.sub(lambda m: slots[m[1]]() if m[1] in slots else m[0], template)


@cache
def fillers() -> tuple[str, ...]:
    """Return common words that are neither a key word of an intent nor a name the model knows."""
    taken = {w for keys in KEYS.values() for w in re.findall(r"\w+", keys)}
    taken |= {f.short for f in library().facts} | {m.name for m in library().modules}
    return tuple(w for w in table("words")["common"].split() if w not in taken)


@cache
def everyday() -> tuple[str, ...]:
    """Return plain words of everyday life that are no names of the library."""
    taken = {f.short for f in library().facts} | {m.name for m in library().modules}
    return tuple(w for w in table("words")["everyday"].split() if w not in taken)


def salad(kind: str, rng: Random, slots: Slots) -> str:
    """Scatter common words around the key words of an intent."""

    def some(counts: list[int]) -> list[str]:
        return [rng.choice(fillers()) for _ in range(rng.choice(counts))]

    while True:
        key = re.split(r" (?=\{)|(?<=\}) ", rng.choice(KEYS[kind].split("|")))
        words = some([0, 1, 2, 3, 4, 5])
        for i, part in enumerate(key):
            words += (some([0, 0, 1, 1, 2, 3]) if i else []) + [part]
        template = finish(" ".join(words + some([0, 0, 0, 1, 2, 3]))) + rng.choice(["?", "?", ".", "", "!"])
        if normal(template) not in held_out():
            return fill(template, slots)
