"""The calls in a server's answer: in pieces, as OpenAI's API has them, or in its text as the model wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tools import Tool, ToolCall
from .tool_text import STYLES, ToolText, arguments_of, broken

HERMES = STYLES[0]  # what a server leaves in the text where it does not read its model's calls itself
MOST = 64  # calls of one answer


class Calls:
    """Collects the pieces of calls. Where tools were offered it looks for calls in the text too."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._text = ToolText(HERMES, tools) if tools else None
        self._parts: dict[int, dict[str, str]] = {}

    @property
    def name(self) -> str:
        """The name of the first function that is called; empty without a call."""
        return next((part["name"] for part in self._parts.values() if part["name"]), "")

    def add(self, pieces: Any) -> bool:
        """Take the `tool_calls` of a delta; whether there were any."""
        found = [piece for piece in pieces if isinstance(piece, dict)] if isinstance(pieces, list) else []
        for piece in found:
            index, function = piece.get("index", len(self._parts)), piece.get("function")
            if not isinstance(index, int) or (index not in self._parts and len(self._parts) >= MOST):
                continue
            part = self._parts.setdefault(index, {"id": "", "name": "", "arguments": ""})
            _join(part, {"id": piece.get("id")})
            _join(part, function if isinstance(function, dict) else {})
        return bool(found)

    def feed(self, text: str) -> str:
        """The text that is none of a call, as far as that can be told by now."""
        return self._text.feed(text) if self._text else text

    def finish(self, text: str) -> tuple[str, list[ToolCall]]:
        """The rest of the text, and the calls; none where no tool was offered."""
        if self._text is None:
            return text, []
        early = self._text.feed(text)
        late, written = self._text.finish()
        told = [_call(part) for _, part in sorted(self._parts.items())]
        return early + late, told or written


def _join(part: dict[str, str], piece: dict[str, Any]) -> None:
    """A name or an id comes whole, the arguments come in pieces."""
    for name in part:
        value = piece.get(name)
        if isinstance(value, str):
            part[name] = part[name] + value if name == "arguments" else part[name] or value


def _call(part: dict[str, str]) -> ToolCall:
    arguments = arguments_of(part["arguments"])
    if arguments is None or not part["name"]:
        return ToolCall(part["name"], id=part["id"], error=broken(part["name"], part["arguments"]).error)
    return ToolCall(part["name"], arguments, part["id"])
