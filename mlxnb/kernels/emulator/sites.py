"""Tells apart calls on one line that threads may wait in: each has a line number of its own, a million apart."""

from __future__ import annotations

import re
from collections import defaultdict

from .tokens import Tokens

STEP, MOST = 1_000_000, 2000  # as native/runtime.h; a line number has 31 bits
_WAITS = re.compile(r"(?:simd|quad)_[a-z]\w*|(?:threadgroup|simdgroup)_barrier|simdgroup_multiply\w*")
_NO_FUNCTION = frozenset({"if", "for", "while", "switch"})


def own_line(line: int) -> int:
    """The line of the text that a line number stands for."""
    return line % STEP


def number_calls(tokens: Tokens) -> None:
    """Give line markers to calls of simd functions, of barriers and of functions that have them inside.

    A line with one such call stays as it is: its line number tells it from all others.
    """
    places = tokens.places()
    on_line: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for name, bracket in _waiting_calls(tokens):
        on_line[places[name]].append((name, bracket))
    for (file, line), calls in on_line.items():
        for number, (name, bracket) in enumerate(calls[:MOST] if len(calls) > 1 else (), 1):
            first = tokens[_qualified(tokens, name)]
            first.text = f'\n# {line + number * STEP} "{file}"\n{first.text}'
            tokens[bracket].text += '\n# {1} "{0}"\n'.format(*places[bracket])


def _waiting_calls(tokens: Tokens) -> list[tuple[int, int]]:
    calls = [(at, bracket) for at in range(len(tokens)) if (bracket := _bracket(tokens, at)) is not None]
    waiting = {tokens.word(name) for name, _ in calls if _WAITS.fullmatch(tokens.word(name))}
    inside = [(name, {tokens.word(at) for at, _ in calls if body < at < end}) for name, body, end in _functions(tokens)]
    while more := {name for name, called in inside if called & waiting} - waiting:
        waiting |= more
    return [(name, bracket) for name, bracket in calls if tokens.word(name) in waiting]


def _bracket(tokens: Tokens, at: int) -> int | None:
    """The `(` of a call `name(` or `name<…>(`."""
    if tokens[at].kind != "name" or tokens.word(at + 1) not in ("(", "<"):
        return None
    bracket = at + 1 if tokens.word(at + 1) == "(" else tokens.after_angles(at + 1)
    return bracket if tokens.word(bracket) == "(" else None


def _functions(tokens: Tokens) -> list[tuple[str, int, int]]:
    """Name, `{` and `}` of every function; a constructor with initialisers is left out."""
    opening = {end: start for start, end in tokens.partner.items()}
    found = []
    for at in range(len(tokens)):
        before = at - 1
        while before > 0 and tokens.word(before) in ("", "const"):
            before -= 1
        if tokens.word(at) == "{" and tokens.word(before) == ")":
            name = tokens.word(opening[before] - 1)
            if name not in _NO_FUNCTION:
                found.append((name, at, tokens.partner[at]))
    return found


def _qualified(tokens: Tokens, name: int) -> int:
    """Where `metal::name` begins."""
    while tokens.word(name - 1) == "::":
        name -= 2 if tokens[name - 2].kind == "name" else 1
    return name
