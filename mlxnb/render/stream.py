"""Growing Markdown at a cost that does not grow with it: finished blocks are kept, only the tail is rendered again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .markdown import finish, parse, render
from .partial import mend
from .text import plain

if TYPE_CHECKING:
    from markdown_it.token import Token


class Growing:
    """HTML for a text that only grows; any other text is taken as a fresh start."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._done = ""
        self._done_html = ""
        self._references: dict[str, Any] = {}

    def html(self, text: str) -> str:
        """The same HTML as `unfinished(text)`, for the price of its last block."""
        text = plain(text)
        if not text.startswith(self._done):
            self._start()
        tail = text[len(self._done) :]
        env = _env()
        tokens = parse(tail, env)
        if not env["references"]:
            tail, tokens = self._keep_finished(tail, tokens)
        mended = mend(tail, ends_in_fence(tail, tokens))
        if mended != tail:
            env = _env()
            tokens = parse(mended, env)
        self._resolve(env["references"])
        return self._done_html + finish(tokens, env)

    def _keep_finished(self, tail: str, tokens: list[Token]) -> tuple[str, list[Token]]:
        """Move the blocks that no later text can change from the tail to the finished part."""
        cut = _last_block(tail, tokens)
        if not cut:
            return tail, tokens
        index, offset = cut
        self._done += tail[:offset]
        self._done_html += finish(tokens[:index], _env() | {"references": self._references})
        return tail[offset:], parse(tail[offset:], _env())

    def _resolve(self, references: dict[str, Any]) -> None:
        """A link's address may be defined after its use: then the finished part has to be rendered again."""
        if references != self._references:
            self._references = references
            self._done_html = render(self._done, _env() | {"references": dict(references)})


def unfinished(text: str) -> str:
    """HTML for a text that is still being written, rendered whole: what `Growing` has to equal."""
    text = plain(text)
    return render(mend(text, ends_in_fence(text, parse(text, _env()))), _env())


def ends_in_fence(source: str, tokens: list[Token]) -> bool:
    """Whether the end of `source` lies inside a fence that is still open."""
    fence = next((token for token in reversed(tokens) if token.map and token.nesting >= 0), None)
    if fence is None or fence.type != "fence" or fence.map is None:
        return False
    lines = source.split("\n")
    if fence.map[1] < len(lines) - 1:
        return False
    last = lines[fence.map[1] - 1].strip(" \t>")
    mark = fence.markup[0]
    closed = fence.map[1] - fence.map[0] > 1 and len(last) >= len(fence.markup) and not last.strip(mark)
    # The opening line itself counts as open only once it is complete: its language may still grow.
    return not closed and fence.map[0] < len(lines) - 1


def _env() -> dict[str, Any]:
    return {"references": {}, "growing": True}


def _last_block(source: str, tokens: list[Token]) -> tuple[int, int] | None:
    """Where the last block starts, as (token index, character offset), if what precedes it can change no more.

    That takes a blank line before the block and the end of its first line: until then it may turn out to continue
    a list, or to belong to a definition.
    """
    starts = [(i, token.map[0]) for i, token in enumerate(tokens) if token.level == 0 and token.map]
    if len(starts) < 2:
        return None
    index, line = starts[-1]
    offsets = [match.end() for match in re.finditer("\n", source)]
    lines = source.split("\n")
    if line < 1 or lines[line - 1].strip() or line >= len(offsets):
        return None
    return index, offsets[line - 1]
