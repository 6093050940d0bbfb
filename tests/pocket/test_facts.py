"""What the model is taught is true of the running Python, and the held-out questions stay out of it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from itertools import takewhile

import pytest

pytest.importorskip("tomllib", reason="the builder needs Python 3.11")

from mlxnb.pocket.build import answers, introspect
from mlxnb.pocket.build.facts import Fact, importing, library
from mlxnb.pocket.build.grammar import everyday, fillers, held_out, normal
from mlxnb.pocket.build.heldout import LISTS, questions
from mlxnb.pocket.build.lessons import epoch

FACTS = library().facts


def shown_parameters(signature: str) -> list[str]:
    """Split a rendered signature at its top-level commas, up to where it was cut."""
    parts, depth = [""], 0
    quote = ""
    for c in signature[1:-1]:
        quote = "" if c == quote else quote or (c if c in "'\"" else "")
        depth += 0 if quote else (c in "([{") - (c in ")]}")
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return list(takewhile(lambda p: p != "...", (p.strip() for p in parts if p.strip() not in ("", "*"))))


def test_there_is_much_to_learn_and_each_name_once() -> None:
    names = [f.name for f in FACTS]
    assert len(names) > 1200
    assert len(names) == len(set(names))
    assert len(library().modules) > 125


def test_signatures_agree_with_inspect() -> None:
    compared = 0
    for fact in FACTS:
        thing = introspect.find(fact.module, fact.short)
        if fact.kind in ("exception", "attribute"):
            continue
        try:
            real = list(inspect.signature(thing).parameters.values())
        except (ValueError, TypeError):
            continue
        real = real[1:] if real and real[0].name in ("self", "cls") else real
        if len(real) <= 2 and any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in real):
            continue  # says too little, the table may know better
        shown = shown_parameters(fact.signature)
        complete = not fact.signature.endswith("...)")
        assert len(shown) == len(real) if complete else shown, fact
        for text, p in zip(shown, real):  # noqa: B905
            name, _, default = text.partition("=")
            assert name.strip("*") == p.name, fact
            assert bool(default) == (p.default is not p.empty), fact
            if default not in ("", "..."):
                assert same_default(default, p.default), (fact, p)
        compared += 1
    assert compared > 700


def same_default(shown: str, real: object) -> bool:
    """Compare a default as it is shown with the real one."""
    try:
        return bool(ast.literal_eval(shown) == real)
    except (ValueError, SyntaxError):
        return shown == repr(real)


def test_examples_give_the_value_they_show() -> None:
    ran = [fact for fact in FACTS if fact.example]
    assert len(ran) > 300
    for fact in ran:
        assert check(fact), fact.example


def check(fact: Fact) -> bool:
    """Execute an example anew and compare the value of its last line."""
    *before, last = (fact.example or "").split("\n")
    statement = importing(fact.module)
    assert statement is None or before[0] == statement
    names: dict[str, object] = {}
    exec("\n".join(before), names)
    code, _, shown = last.partition("  # ")
    value = eval(code, names)
    return repr(value) == shown if shown else value is None


def test_questions_by_description_have_one_answer() -> None:
    by_wish: dict[str, set[str]] = {}
    for fact in FACTS:
        for wish in fact.wishes:
            by_wish.setdefault(wish, set()).add(fact.name)
    assert not {wish: names for wish, names in by_wish.items() if len(names) > 1}
    tasks = {f.task: f.name for f in FACTS if f.predicate_is_unique}
    clashes = {(w, f.name, tasks[w]) for f in FACTS for w in f.wishes if w in tasks and tasks[w] != f.name}
    assert not clashes


def test_the_answers_are_markdown_with_one_block() -> None:
    for fact in FACTS:
        for kind in answers.ABOUT_FACT.values():
            said = kind(fact)
            assert said.count("```") == 2
            assert re.match(r"[^`\n]*`[^`]+`[^\n]*[.:]\n\n```python\n[^`]+\n```$", said), said


def test_an_epoch_is_the_same_for_the_same_seed_only() -> None:
    assert epoch(5) == epoch(5)
    assert epoch(5).chats[:20] != epoch(6).chats[:20]


def test_held_out_phrasings_are_not_trained() -> None:
    asked = {normal(turn[0]) for seed in (1, 2) for chat in epoch(seed).chats for turn in chat.turns}
    for part in LISTS:
        unseen = {normal(q.messages[-1]["content"]) for q in questions(part, 10_000) if len(q.messages) == 1}
        assert not asked & unseen
    assert len(held_out()) > 250


def test_words_around_a_question_are_no_names() -> None:
    names = {f.short for f in FACTS} | {m.name for m in library().modules}
    assert not names & set(fillers())
    assert not names & set(everyday())


def test_the_held_out_lists_are_drawn_the_same_each_time() -> None:
    first, second = questions("unseen", 10), questions("unseen", 10)
    assert json.dumps(first) == json.dumps(second)
    assert {q.kind for q in first} >= {"what", "signature", "own words", "small talk", "off-domain", "made-up name"}
