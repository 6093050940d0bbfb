"""Cuts streamed text exactly at stop strings and at thinking markers, also where one of them straddles tokens."""

from __future__ import annotations

from collections.abc import Sequence


def held_length(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` that could be the beginning of a marker, so it must wait for more text."""
    longest = min(len(text), max((len(marker) for marker in markers), default=1) - 1)
    for length in range(longest, 0, -1):
        if any(marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0


class StopCutter:
    """Passes text on up to the first stop string, which it swallows together with everything after it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that can be shown now; `stopped` turns true at a stop string."""
        if not self._stops:
            return text
        self._held += text
        at = min((i for i in (self._held.find(stop) for stop in self._stops) if i >= 0), default=-1)
        if at >= 0:
            self.stopped = True
            return self._take(at, drop=True)
        return self._take(len(self._held) - held_length(self._held, self._stops))

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        return self._take(len(self._held))

    def _take(self, length: int, drop: bool = False) -> str:
        out, self._held = self._held[:length], "" if drop else self._held[length:]
        return out


class ThinkingSplitter:
    """Splits text into thinking and answer at a pair of markers such as `<think>` and `</think>`.

    `inside` tells that the prompt already opened the thinking block. White space around the markers goes with them, and
    so do the texts in `dropped`, wherever they stand.
    """

    def __init__(self, markers: tuple[str, str] | None, inside: bool = False, dropped: Sequence[str] = ()) -> None:
        self._markers = markers
        self._dropped = tuple(dropped)
        self.inside = inside and markers is not None
        self._held = ""
        self._trim = self.inside

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that `text` adds."""
        if self._markers is None:
            return "", text
        self._held += text
        parts = {True: "", False: ""}
        while True:
            turning = self._markers[1 if self.inside else 0]
            met = (turning, *self._dropped)
            found = [(at, marker) for marker in met if (at := self._held.find(marker)) >= 0]
            if not found:
                break
            at, marker = min(found)
            parts[self.inside] += self._take(at)
            self._held = self._held[len(marker) :]
            self.inside, self._trim = self.inside != (marker == turning), True
        parts[self.inside] += self._take(len(self._held) - held_length(self._held, met))
        return parts[True], parts[False]

    def finish(self) -> tuple[str, str]:
        """(thinking, answer) that was held back."""
        rest = self._take(len(self._held))
        return (rest, "") if self.inside else ("", rest)

    def _take(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        if self._trim:
            out = out.lstrip()
            self._trim = not out
        return out
