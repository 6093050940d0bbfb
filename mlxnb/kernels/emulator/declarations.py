"""Declarations at namespace and class scope: functions that only address spaces told apart, and their bodies."""

from __future__ import annotations

from dataclasses import dataclass

from .mutable import refuse_global, refuse_statics
from .threadgroup_memory import place_variables
from .tokens import Tokens

_ACCESS = ("public", "private", "protected")


@dataclass(slots=True)
class _Declaration:
    """Positions of one declaration; None or False where it has no such part."""

    start: int
    stop: int
    head: int  # behind the template list
    function: bool = False
    initialisers: int | None = None  # the `:` of a constructor
    body: int | None = None  # the `{` of a function, class or namespace


class Declarations:
    """A walk through a text's declarations that makes C++ of what only Metal's compiler takes."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def rewrite(self) -> None:
        self._scope(0, len(self._tokens), in_class=False)

    def _scope(self, start: int, stop: int, in_class: bool) -> None:
        seen: set[str] = set()
        while start < stop:
            found = self._declaration(start, stop, in_class)
            if found.body is None and not found.function and not in_class:
                refuse_global(self._tokens, found.head, found.stop)
            self._handle(found, seen)
            start = max(found.stop, start + 1)

    def _handle(self, found: _Declaration, seen: set[str]) -> None:
        tokens, body = self._tokens, found.body
        if body is None:
            return
        head = tokens.words(found.head, body)
        if found.function:
            key = " ".join(tokens.words(found.start, found.initialisers or body))
            if key in seen:  # the same function once for each address space: one is enough
                tokens.blank(found.start, found.stop)
            else:
                refuse_statics(tokens, body, tokens.partner[body])
                place_variables(tokens, body, tokens.partner[body])
        elif "namespace" in head or head[:1] == ["extern"]:
            return self._scope(body + 1, tokens.partner[body], in_class=False)
        else:
            key = " ".join(tokens.words(found.start, body))
            if key in seen and found.head > found.start:  # specialisations for device T*, thread T*, …
                tokens.blank(found.start, found.stop)
            else:
                self._scope(body + 1, tokens.partner[body], in_class=True)
                if head[0] == "union" and len(head) == 2:
                    self._make_copyable(body, head[1])
        seen.add(key)

    def _declaration(self, start: int, stop: int, in_class: bool) -> _Declaration:
        """The declaration that begins at `start`, found by its brackets, `;` and `=`."""
        tokens, assigned = self._tokens, False
        found = _Declaration(start, stop, start)
        at = start
        while at < stop:
            word = tokens.word(at)
            if word == "template" and tokens.word(at + 1) == "<":
                at = found.head = self._template(at, in_class)
            elif word == ";":
                found.stop = at + 1
                return found
            elif word == ":" and tokens.word(at - 1) in _ACCESS:
                at += 1
                found.start = found.head = at
            elif word == "{":
                if self._ends_at_brace(found, at, assigned):
                    return found
                at = tokens.after(at)
            else:
                if word == ":" and found.function and found.initialisers is None:
                    found.initialisers = at
                elif word == "=" and not found.function and tokens.word(at - 1) != "operator":
                    assigned = True
                elif (
                    word == "(" and not assigned and tokens.word(at - 1) not in ("__attribute__", "alignas", "decltype")
                ):
                    found.function = True
                at = tokens.after(at)
        return found

    def _template(self, at: int, in_class: bool) -> int:
        """The position behind a template list; `template <>` inside a class is Clang's alone and says nothing."""
        end = self._tokens.after_angles(at + 1)
        if in_class and end == at + 3:
            self._tokens.blank(at, end)
        return end

    def _ends_at_brace(self, found: _Declaration, at: int, assigned: bool) -> bool:
        """Whether the brace at `at` is the declaration's body and ends it; its parts are filled in then."""
        tokens = self._tokens
        head = tokens.words(found.head, at)
        if found.function and not assigned:
            name_before = tokens[at - 1].kind == "name" and bool(tokens.word(at - 1))
            if found.initialisers is not None and name_before and tokens.word(at - 1) not in ("const", "noexcept"):
                return False  # `member{…}` among a constructor's initialisers
            found.body, found.stop = at, tokens.after(at)
            found.stop += tokens.word(found.stop) == ";"
            return True
        if "namespace" in head or head[:1] == ["extern"]:
            found.body, found.stop = at, tokens.after(at)
            return True
        if {"struct", "class", "union"} & set(head) and not assigned and "enum" not in head and found.body is None:
            found.body = at  # a class goes on to its `;`
        return False

    def _make_copyable(self, body: int, name: str) -> None:
        """Give a union its copies back, which members that have copies of their own (vectors) would take away."""
        copy = "__builtin_memcpy((void*)this, (const void*)&other, sizeof other);"
        self._tokens[body].text += (
            f" {name}() {{}} {name}(const {name}& other) {{ {copy} }}"
            f" {name}& operator=(const {name}& other) {{ {copy} return *this; }}"
        )
