"""Preprocessed Metal text into C++: attributes, literals and address spaces go, threadgroup variables are placed."""

from __future__ import annotations

import re

from .declarations import Declarations
from .sites import number_calls
from .tokens import RefusedError, Tokens

ADDRESS_SPACES = frozenset({"device", "constant", "thread", "threadgroup"})
_SPECIFIERS = frozenset({"static", "constexpr", "inline", "const", "volatile", "constant"})
_DECIMAL = re.compile(r"(?:\d[\d']*\.[\d']*|\.\d[\d']*|\d[\d']*(?=[eE]))(?:[eE][+-]?\d+)?")


def to_cpp(text: str) -> str:
    """C++ that the native headers turn into the same program, with every line where it was.

    Raises:
        RefusedError: a bracket without a partner, a threadgroup variable where none may be declared, or a double.
    """
    # Metal's `coherent(device)` says where writes are seen; here everybody sees every write.
    tokens = Tokens(re.sub(r"\bcoherent\s*\(\s*\w+\s*\)", "", text))
    refuse_doubles(tokens)
    drop_attributes(tokens)
    type_literals(tokens)
    drop_address_spaces(tokens)
    Declarations(tokens).rewrite()
    number_calls(tokens)
    return tokens.text()


def refuse_doubles(tokens: Tokens) -> None:
    """C++ would take them; Metal has none."""
    for position in range(len(tokens)):
        if tokens.word(position) == "double":
            raise RefusedError("Metal has no double", *tokens.place(position))


def drop_attributes(tokens: Tokens) -> None:
    """`[[buffer(0)]]` and the like: what they say is in the entry function already."""
    for position in range(len(tokens) - 1):
        if tokens.word(position) == "[" and tokens.word(position + 1) == "[":
            inner, end = tokens.partner[position + 1], tokens.partner[position]
            if inner + 1 == end:
                tokens.blank(position, end + 1)


def type_literals(tokens: Tokens) -> None:
    """Metal's literals are float where C++'s are double, and it has suffixes for half and bfloat."""
    for position in range(len(tokens)):
        token = tokens[position]
        if token.kind != "number" or token.text.lower().startswith("0x"):
            continue
        number = _DECIMAL.match(token.text)
        if not number:
            continue
        suffix = token.text[number.end() :]
        wrapped = {"": "{}f", "h": "((half){}f)", "H": "((half){}f)", "bf": "(bfloat({}f))", "BF": "(bfloat({}f))"}
        if suffix in wrapped:
            token.text = wrapped[suffix].format(number.group())


def drop_address_spaces(tokens: Tokens) -> None:
    """Every address is one address here. `constant` also says const, where nothing else beside it does."""
    for position in range(len(tokens)):
        space = tokens.original(position)
        if space in ADDRESS_SPACES and tokens[position].kind == "name":
            tokens[position].text = "const" if space == "constant" and _says_const(tokens, position) else ""


def _says_const(tokens: Tokens, position: int) -> bool:
    if tokens.original(position - 1) in (")", "operator") or tokens.original(position + 1) in ("{", ":", ";"):
        return False  # behind a member function's parameters it is the object's address space
    for step in (-1, 1):
        beside = position + step
        while tokens.original(beside) in _SPECIFIERS:
            if tokens.original(beside) == "const":
                return False
            beside += step
    return True
