"""Plain text from strangers: what a terminal, a tooltip or a notebook file may take without harm."""

from __future__ import annotations

import re

RULE = "─" * 60

# Character by character, never a whole escape sequence: so the cleaned form of a text's beginning is always the
# beginning of the cleaned text, which streaming relies on. Without its ESC a sequence is only odd-looking text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Lone surrogates cannot be written as UTF-8; the bidirectional overrides make code read as what it is not.
_DECEIVING = re.compile(r"[\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

_BREAK = re.compile(r"[ \t\n\u2028\u2029]+")


def plain(text: str) -> str:
    """`text` with Unix line ends, without control characters, and with U+FFFD for what would reorder or break it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _DECEIVING.sub("\ufffd", _CONTROL.sub("", text))


def one_row(text: str) -> str:
    """`plain(text)` on a single line; thin and no-break spaces stay what they are."""
    return _BREAK.sub(" ", plain(text)).strip(" ")


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters; what is cut is in the middle, as both ends tell names apart."""
    if len(text) <= longest:
        return text
    half = max(0, longest - 1) // 2
    return f"{text[: max(0, longest - 1 - half)]}…{text[len(text) - half :]}"
