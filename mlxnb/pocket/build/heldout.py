"""Questions of the two held-out lists, with the answers that count as right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from jinja2.sandbox import ImmutableSandboxedEnvironment

from .. import CONVERSATIONS
from . import answers
from .facts import Fact, library, table
from .layout import TEMPLATE, write_json
from .questions import invent, refusal
from .speech import category
from .tokenizer import END

LISTS = ("tuning", "unseen")
SEED = 7
FIRST = {  # how a chat begins that is then followed up
    "what": "What does {} do?",
    "signature": "What is the signature of {}?",
    "example": "Show me an example of {}.",
    "where": "Where is {} defined?",
}
Message = dict[str, str]


class Question(NamedTuple):
    """What is asked, in a chat, and every answer that counts as right."""

    kind: str
    messages: list[Message]
    accepted: tuple[str, ...]


def write_conversations(folder: Path, each: int = 8) -> None:
    """Write questions of the list that was not tuned on, up to `each` of every kind, with their first right answers, as
    the model reads and writes them. They lie beside the model, since another Python may have another library.
    """
    template = ImmutableSandboxedEnvironment(keep_trailing_newline=True).from_string(TEMPLATE)
    asked = questions("unseen", each)
    told = [[template.render(messages=q.messages, add_generation_prompt=True), q.accepted[0] + END] for q in asked]
    write_json(folder / CONVERSATIONS, told)


def user(text: str) -> Message:
    """Make a user's message."""
    return {"role": "user", "content": text}


def questions(part: str, each: int) -> list[Question]:
    """Draw up to `each` questions of every kind from a held-out list, the same ones each time."""
    phrasings, rng = table(f"heldout_{part}"), Random(f"{SEED} {part}")
    kinds: list[list[Question]] = [
        list(group) for group in (*fact_groups(phrasings, rng), *other_groups(phrasings, part, rng))
    ]
    return [q for group in kinds for q in (rng.sample(group, each) if len(group) > each else group)]


def fact_groups(phrasings: dict[str, Any], rng: Random) -> Iterator[list[Question]]:
    """Ask about each fact and module in each way."""
    facts, asks = library().facts, phrasings["asks"]

    def ask(kind: str, fact: Fact, name: str, label: str = "") -> Question:
        text = rng.choice(asks[kind]).replace("{n}", name).replace("{s}", name)
        return Question(label or kind, [user(text)], (answers.ABOUT_FACT[kind](fact),))

    yield [ask("what", f, f.name) for f in facts]
    yield [ask("signature", f, f.name) for f in facts]
    yield [ask("where", f, f.short) for f in facts if f.short_is_unique]
    yield [which(asks, f, rng) for f in facts]
    yield [ask("example", f, f.name) for f in facts if f.example]
    for kind in ("module", "list"):
        texts = [(m, rng.choice(asks[kind]).replace("{m}", m.name)) for m in library().modules]
        yield [Question(kind, [user(text)], (answers.ABOUT_MODULE[kind](m),)) for m, text in texts]
    yield [ask("what", f, f.short, "short name") for f in facts if f.short_is_unique]
    yield [follow_up(phrasings, f, rng) for f in facts]


def which(asks: dict[str, list[str]], fact: Fact, rng: Random) -> Question:
    """Ask for a name by what it does."""
    if fact.task and fact.predicate_is_unique and rng.random() < 0.5:
        text = rng.choice(asks["which_task"]).replace("{v}", fact.task)
    else:
        sort = category(fact, with_module=not fact.predicate_is_unique or rng.random() < 0.5)
        text = rng.choice(asks["which_third"]).replace("{w}", sort).replace("{t}", fact.predicate)
    return Question("which", [user(text)], (answers.which(fact),))


def follow_up(phrasings: dict[str, Any], fact: Fact, rng: Random) -> Question:
    """Ask one thing about a name, then another without naming it."""
    first, second = rng.sample(["what", "signature", "example", "where"], 2)
    said = {"role": "assistant", "content": answers.ABOUT_FACT[first](fact)}
    after = user(rng.choice(phrasings["follow"][second]))
    return Question(
        "follow-up", [user(FIRST[first].format(fact.name)), said, after], (answers.ABOUT_FACT[second](fact),)
    )


def other_groups(phrasings: dict[str, Any], part: str, rng: Random) -> Iterator[list[Question]]:
    """Ask in a user's own words, make small talk, and ask what must be refused."""
    by_name = {f.name: f for f in library().facts}
    tasks = [(q, [by_name[n] for n in names if n in by_name]) for q, *names in phrasings["free"]["tasks"]]
    yield [Question("own words", [user(q)], tuple(map(answers.which, facts))) for q, facts in tasks]
    chat = table("chat")
    yield [
        Question("small talk", [user(q)], (chat[i]["answer"],)) for i, texts in phrasings["chat"].items() for q in texts
    ]
    refuse, words = phrasings["refuse"], table("words")["unknown"]
    yield [Question("off-domain", [user(q)], (refusal(),)) for q in refuse["questions"]]
    known, unknown = words["libraries"].split()[:20], words["libraries_heldout"].split()
    names = (known if part == "tuning" else []) + unknown
    yield [refused("other library", rng.choice(refuse["libraries"]).replace("{b}", b)) for b in names]
    yield [refused("made-up name", rng.choice(refuse["made_up"]).replace("{n}", invent(rng))) for _ in range(80)]


def refused(kind: str, text: str) -> Question:
    """Make a question that has only the refusal for an answer."""
    return Question(kind, [user(text)], (refusal(),))


def long_chats(part: str, tokens: int, each: int, count: Callable[[list[Message]], int]) -> list[Question]:
    """Put answered questions before a question until the chat has about `tokens` tokens; `count` counts them."""
    pool = [q for q in questions(part, 200) if q.kind in ("what", "signature", "where", "which", "follow-up")]
    rng = Random(f"{SEED} {part} {tokens}")
    found: list[Question] = []
    for last in rng.sample(pool, each):
        before: list[Message] = []
        while True:
            q = rng.choice(pool)
            more = [*before, *q.messages, {"role": "assistant", "content": q.accepted[0]}]
            if count([*more, *last.messages]) > tokens:
                break
            before = more
        found.append(Question(f"{tokens} tokens", [*before, *last.messages], last.accepted))
    return found
