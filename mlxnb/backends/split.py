"""Cuts streamed text exactly at stop strings and at thinking markers, also where one of them straddles tokens."""

from __future__ import annotations

from collections.abc import Sequence

# Characters of white space at the beginning of an answer that wait for what follows: a stop string may be made of it.
SPACE = 4


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
    so do the texts in `dropped`, wherever they stand. Once the answer has begun a block opens only with `again`: before
    that, what looks like one is what the answer is about.
    """

    def __init__(
        self,
        markers: tuple[str, str] | None,
        inside: bool = False,
        dropped: Sequence[str] = (),
        again: bool = False,
    ) -> None:
        self._markers = markers
        self._dropped = tuple(dropped)
        self.inside = inside and markers is not None
        self._again = again
        self._began = False  # whether the answer has
        self._held = ""
        self._trim = self.inside

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that `text` adds."""
        if self._markers is None:
            return "", text
        self._held += text
        parts = {True: "", False: ""}
        while True:
            turning = self._turning()
            met = (*turning, *self._dropped)
            found = [(at, marker) for marker in met if (at := self._held.find(marker)) >= 0]
            at, marker = min(found, default=(len(self._held) - held_length(self._held, met), ""))
            beginning = not self.inside and not self._began
            self._began = self._began or (beginning and bool(self._held[:at].strip()))
            waits = min(at, SPACE) if beginning and not self._began else 0  # goes with a marker that may follow
            parts[self.inside] += self._take(at - waits)
            if beginning and self._began:
                continue  # what opens a block now is text, if it is not `again`
            if not marker:
                return parts[True], parts[False]
            self._take(waits)
            self._held = self._held[len(marker) :]
            self.inside, self._trim = self.inside != (marker in turning), True

    def finish(self) -> tuple[str, str]:
        """(thinking, answer) that was held back."""
        rest = self._take(len(self._held))
        return (rest, "") if self.inside else ("", rest)

    def _turning(self) -> tuple[str, ...]:
        """What ends the block, or begins one."""
        assert self._markers is not None
        if self.inside:
            return self._markers[1:]
        return self._markers[:1] if self._again or not self._began else ()

    def _take(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        if self._trim:
            out = out.lstrip()
            self._trim = not out
        return out


class Unwrapper:
    """Takes the tags off an answer that is between a pair of them: the first at its beginning, the second at its end,
    with the white space beside them. Anywhere else a tag is part of the answer.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)
        self._closing: str | None = None  # the second tag, once the first was there
        self._began = False  # whether text came after it
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that can be shown now."""
        if not self._pairs:
            return text
        self._held += text
        if self._closing is None:
            begin = self._held.lstrip()
            if any(first.startswith(begin) and first != begin for first, _ in self._pairs):
                return ""
            pair = next((pair for pair in self._pairs if begin.startswith(pair[0])), None)
            if pair is None:
                self._pairs = ()
                return self._rest()
            self._closing, self._held = pair[1], begin[len(pair[0]) :]
        return self._inside(self._closing)

    def _inside(self, closing: str) -> str:
        """All but an end that may be the last of the answer."""
        if not self._began:
            self._held = self._held.lstrip()
        shown = self._held.rstrip()
        if shown.endswith(closing):
            shown = shown.removesuffix(closing)
        else:
            shown = shown[: len(shown) - held_length(shown, (closing,))]
        length = len(shown.rstrip())
        out, self._held = self._held[:length], self._held[length:]
        self._began = self._began or bool(out)
        return out

    def finish(self) -> str:
        """What was held back and turned out to be no tag."""
        if self._closing is not None and self._held.strip() == self._closing:
            return ""
        return self._rest()

    def _rest(self) -> str:
        out, self._held = self._held, ""
        return out
