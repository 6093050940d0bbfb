"""Variables that outlive a thread: Metal has them as constants only, where C++ would take them."""

from __future__ import annotations

from .signature import HEADER, SOURCE
from .tokens import RefusedError, Tokens

_CONSTANT = frozenset({"const", "constexpr", "constant"})
_NO_VARIABLE = frozenset(
    {"using", "typedef", "static_assert", "struct", "class", "union", "enum", "namespace", "template", "extern", "asm"}
)
_ENDS = frozenset({"=", ";", "{", "[", "(", ","})


def refuse_global(tokens: Tokens, start: int, stop: int) -> None:
    """Refuse the declaration at namespace scope between two positions if it is of a variable that is not constant.

    Raises:
        RefusedError: it is.
    """
    words = _words(tokens, start, stop)
    if len(words) < 2 or words[0] in _NO_VARIABLE or _CONSTANT & set(words):
        return
    if all(word.isidentifier() or word in ("::", "<", ">", "*", "&") for word in words):
        _refuse(tokens, start, f"'{words[-1]}' is a variable outside all functions: Metal wants it to be constant")


def refuse_statics(tokens: Tokens, start: int, stop: int) -> None:
    """Refuse a `static` variable that is not constant in the function's body between two positions.

    Raises:
        RefusedError: there is one.
    """
    for at in range(start, stop):
        if tokens.original(at) == "static" and tokens[at].kind == "name":
            words = [*_words(tokens, at, stop), tokens.original(at - 1)]
            if not {*_CONSTANT, "threadgroup"} & set(words):
                _refuse(tokens, at, f"'{words[-2]}' is a static variable: Metal wants it to be constant")


def _words(tokens: Tokens, start: int, stop: int) -> list[str]:
    """A declaration's words up to the name that it declares."""
    words = []
    for at in range(start, stop):
        if tokens.original(at) in _ENDS:
            break
        words.append(tokens.original(at))
    return words


def _refuse(tokens: Tokens, at: int, words: str) -> None:
    file, line = tokens.place(at)
    if file in (SOURCE, HEADER):
        raise RefusedError(words, file, line)
