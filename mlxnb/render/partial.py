"""Markdown that is still being written: what to show of its last lines, so that nothing flashes and then changes."""

from __future__ import annotations

import re

# A line that may yet become a heading underline, a list item, a rule, a table or a fence: wait for its next word.
_ONLY_MARKS = re.compile(r"[ \t>]*(?:(?:[-*+_=#|~`$: \t]|\\\[)*|\d{1,3}[.)]?[ \t]*)")
_OPENING_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)*(?:`{3,}[^`]*|~{3,}.*)")
_BLOCK_START = re.compile(r"[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+|#{1,6}[ \t]+|\|)")
_FINISHED = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)|\\[^\n]|\$[^$\n]+\$", re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\[\]]*)(?:\]|\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*)?$")
_AUTOLINK = re.compile(r"<(?:[a-z]{1,6}|(?:https?|mailto):[^<>\s]*)$", re.IGNORECASE)
_FORMULA_ENDS = {"$$": "$$", "\\[": "\\]"}
_EMPHASIS = re.compile(r"\*{1,3}|~~|(?<!\w)__?|__?(?!\w)")

MOST_ROUNDS = 8


def mend(tail: str, in_fence: bool = False) -> str:
    """`tail` with its unfinished end closed or held back; `in_fence` if that end lies inside an open fence."""
    lines = tail.split("\n")
    if in_fence:
        held = lines[-1].strip(" \t>") and not lines[-1].strip(" \t>`~")
        return "\n".join(lines[:-1]) if held else tail
    if _ONLY_MARKS.fullmatch(lines[-1]) or _OPENING_FENCE.fullmatch(lines[-1]):
        lines[-1] = ""
    return _close_formula(lines) or _mend_inline(_hold_table(lines))


def _close_formula(lines: list[str]) -> str:
    """The text with its displayed formula closed, whose lines may look like lists; nothing if none is open."""
    end = len(lines) if lines[-1].strip() else len(lines) - 1
    first = end
    while first and lines[first - 1].strip():
        first -= 1
    closing = ""
    for line in map(str.strip, lines[first:end]):
        if closing:
            closing = "" if closing in line else closing
        elif line[:2] in _FORMULA_ENDS and _FORMULA_ENDS[line[:2]] not in line[2:]:
            closing = _FORMULA_ENDS[line[:2]]
    return "\n".join([*lines[:end], closing]) if closing else ""


def _hold_table(lines: list[str]) -> list[str]:
    """Hold back a table's head until its second line is complete: before that it would show as a paragraph."""
    first = len(lines)
    while first and lines[first - 1].lstrip(" >").startswith("|"):
        first -= 1
    rows = len(lines) - first
    return [*lines[:first], ""] if rows and (rows < 3 and lines[-1] != "") else _hold_lone_head(lines)


def _hold_lone_head(lines: list[str]) -> list[str]:
    """The same when the head's line has just ended."""
    if len(lines) < 2 or lines[-1] or not lines[-2].lstrip(" >").startswith("|"):
        return lines
    alone = len(lines) < 3 or not lines[-3].lstrip(" >").startswith("|")
    return [*lines[:-2], ""] if alone else lines


def _mend_inline(lines: list[str]) -> str:
    """Close what is open in the last paragraph, list item, heading or cell."""
    first = len(lines) - 1
    while first and lines[first].strip() and lines[first - 1].strip() and not _BLOCK_START.match(lines[first]):
        first -= 1
    scope = "\n".join(lines[first:])
    start = _BLOCK_START.match(scope)
    cell = scope.rfind("|") + 1 if scope.lstrip(" >").startswith("|") else 0
    at = max(cell, start.end() if start else 0)
    return "\n".join([*lines[:first], scope[:at] + close(scope[at:])])


def close(text: str) -> str:
    """One run of inline Markdown with its open code, link and emphasis closed."""
    # A few rounds, because one mended mark can uncover another; text that needs more is no prose.
    for _ in range(MOST_ROUNDS):
        masked = _mask(text)
        tick = re.search(r"`+", masked)
        if tick:
            return _close_code(text, tick)
        shorter = _without_half_link(text, masked)
        if shorter == text:
            return _close_emphasis(text, masked)
        text = shorter
    return text


def _mask(text: str) -> str:
    """`text` with everything that is finished, and so needs no closing, made into letters."""
    return _FINISHED.sub(lambda match: "x" * len(match[0]), text)


def _close_code(text: str, tick: re.Match[str]) -> str:
    inside = text[tick.end() :].rstrip("`")
    if not inside.strip():
        return _close_emphasis(text[: tick.start()], _mask(text[: tick.start()]))
    closed = text[: tick.end()] + inside + tick[0]
    return _close_emphasis(closed, _mask(closed))


def _without_half_link(text: str, masked: str) -> str:
    """Only the words of a link whose address is still coming, and nothing yet of an image."""
    if masked.endswith("\\"):
        return text[:-1]
    auto = _AUTOLINK.search(masked)
    if auto:
        return text[: auto.start()] + text[auto.start() + 1 :]
    link = _LINK.search(masked)
    if link:
        return text[: link.start()] + ("" if link[1] else text[link.start(2) : link.end(2)])
    return text


def _close_emphasis(text: str, masked: str) -> str:
    still_open: list[str] = []
    for match in _EMPHASIS.finditer(masked):
        before, after = masked[: match.start()][-1:], masked[match.end() :][:1]
        if still_open and still_open[-1] == match[0] and before.strip():
            still_open.pop()
        elif not after:
            # A mark at the very end: an opener with nothing in it yet, or half of a closer.
            text = text[: match.start()]
        elif after.strip():
            still_open.append(match[0])
    return text.rstrip() + "".join(reversed(still_open)) if still_open else text
