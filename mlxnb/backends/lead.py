"""What comes before the part of an answer that a schema is about: a block of thinking, the header of a message."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from .detokenize import Detokenizer
from .thinking import leads, splitter

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

# The tokens of a text, and whether it opens a block of thinking.
Way = tuple[list[int], bool]


class Lead:
    """Follows an answer token by token until the part that counts begins, which is then `over` for it.

    `thinking` where the prompt opened a block; `may_open` where the answer may open one, or a header, and `may_think`
    whether it shall think at all. It ends as the text says that it does, in whatever tokens. With `optional` the part
    that counts may also come at once.
    """

    def __init__(self, tokenizer: Tokenizer, thinking: bool, may_open: bool, may_think: bool = True) -> None:
        self._tokenizer, self._inside = tokenizer, thinking
        self._first: list[Way] = []
        self._after: list[Way] = []
        self.optional = not thinking
        if tokenizer.markers is not None:
            first, after = leads(tokenizer.markers)
            self._after = self._encoded(after)
            if may_open and not thinking:
                first = {text: thinks for text, thinks in first.items() if may_think or not thinks}
                self._first, self.optional = self._encoded(first), all(first.values())
        self.restart()

    def _encoded(self, texts: dict[str, bool]) -> list[Way]:
        encode = self._tokenizer.inner.encode
        return [(encode(text, add_special_tokens=False), thinks) for text, thinks in texts.items()]

    def restart(self) -> None:
        """Go back to the beginning of the answer."""
        self._ways, self._at, self.thinking = self._first, 0, False
        if self._inside:
            self._think()

    def _think(self) -> None:
        self.thinking, self._ways = True, []
        self._text = Detokenizer(self._tokenizer.decode)
        self._split = splitter(self._tokenizer.markers, True)

    @property
    def over(self) -> bool:
        """Whether nothing more can come before the part that counts."""
        return not (self.thinking or self._ways)

    def next(self) -> list[int]:
        """The tokens that begin a block or a header, or go on with one."""
        return [ids[self._at] for ids, _ in self._ways]

    def rest(self) -> list[int]:
        """The tokens that come next in any case, where the part that counts cannot come at once."""
        places = zip(*(ids[self._at :] for ids, _ in self._ways), strict=False)
        return [place[0] for place in takewhile(lambda place: len(set(place)) == 1, places)]

    def take(self, token: int) -> bool | None:
        """Whether a token comes before the part that counts; None where only later ones tell."""
        if self.thinking:
            self._split.feed(self._text.feed(token))
            if not self._split.inside:
                self.thinking, self._ways, self._at = False, self._after, 0
            return True
        self._ways = [way for way in self._ways if way[0][self._at] == token]
        self._at += 1
        done = next((way for way in self._ways if len(way[0]) == self._at), None)
        if done is None:
            return None if self._ways else False
        self._ways = []
        if done[1]:
            self._think()
        return True
