"""Pointers and references without an address space, which C++ takes and Metal's compiler does not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from .report import Finding
from .rewrite import ADDRESS_SPACES
from .signature import HEADER, SOURCE, plain_lines
from .tokens import RefusedError, Tokens

_SCALARS = ("bool", "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "float", "half", "bfloat")
_FIXED = tuple(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64))
_TYPES = {
    *_SCALARS,
    *_FIXED,
    "float16_t",
    "bfloat16_t",
    "complex64_t",
    *(f"{t}{n}" for t in _SCALARS for n in (2, 3, 4)),
}


@lru_cache
def without_address_space(source: str, header: str) -> tuple[Finding, ...]:
    """A warning for each line of the two that declares such a pointer or reference to one of Metal's own types."""
    return tuple(
        Finding(
            "address-space",
            f"Metal's compiler wants an address space (device, constant, threadgroup or thread) on '{words}'.",
            line,
            part,
            1,
            "warning",
        )
        for part, file, text in (("source", SOURCE, source), ("header", HEADER, header))
        for line, words in dict.fromkeys(_bare(file, text))
    )


def _bare(file: str, text: str) -> Iterator[tuple[int, str]]:
    try:
        tokens = Tokens(f'# 1 "{file}"\n{plain_lines(text)}')
    except RefusedError:  # brackets that only the preprocessor brings into balance
        return
    for at in range(len(tokens)):
        if tokens.word(at) not in _TYPES or tokens.word(at + 1) not in ("*", "&") or tokens[at + 2].kind != "name":
            continue
        start = at
        while tokens.word(start - 1) in ADDRESS_SPACES | {"const", "volatile", "static", "constexpr", "::", "metal"}:
            start -= 1
        opens = tokens.word(start - 1) in ("(", ",", ";", "{", "}", "")
        if opens and not ADDRESS_SPACES & set(tokens.words(start, at + 3)):
            yield tokens.place(at)[1], " ".join(tokens.words(start, at + 3))
