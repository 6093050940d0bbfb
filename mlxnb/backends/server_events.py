"""Bytes of a stream to its events: server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html
has them, each with JSON, and none longer than an answer's piece can be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .server_key import scrubbed

LONGEST = 1_000_000  # bytes of one event
LINE_END = re.compile(rb"\r\n|\n|\r")
DONE = "[DONE]"


class BadStream(Exception):
    """The bytes are no such stream; the message says what they are instead."""


class Events:
    """Feeds on bytes, cut anywhere, also within a character or between the two bytes of a line's end."""

    def __init__(self, secret: str = "") -> None:
        self._secret = secret  # what no error may repeat
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._size = 0
        self.done = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events that these bytes complete. `done` turns true at the one that ends a stream.

        Raises:
            BadStream: an event is too long, no UTF-8, no JSON, or no object.
        """
        self._rest += data
        at = 0
        for match in LINE_END.finditer(self._rest, self._searched):
            if match[0] == b"\r" and match.end() == len(self._rest):
                break  # the other half of this line's end may be on its way
            event = self._line(bytes(self._rest[at : match.start()]))
            at = match.end()
            if event is not None:
                yield event
            if self.done:
                return
        del self._rest[:at]
        self._check_size(len(self._rest))
        self._searched = max(len(self._rest) - 1, 0)  # what was searched once is not searched again

    def finish(self) -> Iterator[dict[str, Any]]:
        """The event that the end of the stream completes, where the empty line after it is missing."""
        if not self.done:
            yield from self.feed(b"\n\n")

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            return self._event(data) if data else None
        name, _, value = line.partition(b":")
        if name.removeprefix(b"\xef\xbb\xbf") == b"data":
            value = value.removeprefix(b" ")
            self._size += len(value)
            self._check_size(self._size)
            self._data.append(value)
        elif name == b"error":  # llama-server wrote its errors so until late in 2025
            return {"error": value.decode(errors="replace").strip()}
        return None

    def _event(self, data: bytes) -> dict[str, Any] | None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise BadStream("an event that is no UTF-8") from None
        if text.strip() == DONE:
            self.done = True
            return None
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            raise BadStream(f"an event that is no JSON, {self._beginning(text)!r}") from None
        if not isinstance(event, dict):
            raise BadStream(f"an event that is no object, {self._beginning(text)!r}")
        return event

    def _beginning(self, text: str) -> str:
        return scrubbed(text, self._secret)[:40]  # in this order: half a key is not found any more

    def _check_size(self, size: int) -> None:
        if size > LONGEST:
            raise BadStream(f"an event of more than {LONGEST // 1_000_000} MB")
