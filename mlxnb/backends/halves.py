"""Puts characters together that a server sent in halves: two escapes of UTF-16 in two pieces of text."""

from __future__ import annotations

import re

LONE = re.compile("[\ud800-\udfff]")


class Halves:
    """Holds a first half back until the second comes; one that stays alone becomes U+FFFD, as everywhere."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The whole characters of `text` and of what was held back."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        if LONE.search(text) is None:
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def finish(self) -> str:
        """U+FFFD where half a character is left."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""
