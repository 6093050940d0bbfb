"""Metal text as tokens that passes can change in place, with line breaks kept so that lines still mean the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<marker>\#[^\n]*)
      | (?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>\.?\d(?:[eEpP][+-]|[\w.'])*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>::|->|&&|\|\||<<=|>>=|[-+*/%&|^=!<>]=|\+\+|--|.)""",
    re.S | re.X,
)
_MARKER = re.compile(r'#\s*(?:line\s+)?(\d+)\s+"([^"]*)"')
_OPENING = {"(": ")", "{": "}", "[": "]"}
_CLOSING = set(")}]")


@dataclass(slots=True)
class Token:
    kind: str
    text: str
    original: str


class RefusedError(Exception):
    """The text cannot be Metal; `file` and `line` are where, by the text's own line markers."""

    def __init__(self, words: str, file: str, line: int) -> None:
        super().__init__(words)
        self.file, self.line = file, line


class Tokens:
    """The tokens of a text. Positions count only those that mean something: no white space, comments or `#` lines."""

    def __init__(self, text: str) -> None:
        self.all = [Token(m.lastgroup or "", m.group(), m.group()) for m in _TOKEN.finditer(text)]
        self._index = [i for i, token in enumerate(self.all) if token.kind not in ("space", "marker")]
        self.partner = self._partners()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: int) -> Token:
        return self.all[self._index[position]]

    def word(self, position: int) -> str:
        """The text at a position as it is now; "" outside the text and where it was taken out."""
        return self[position].text if 0 <= position < len(self) else ""

    def original(self, position: int) -> str:
        """The text at a position as it was written."""
        return self[position].original if 0 <= position < len(self) else ""

    def words(self, start: int, stop: int) -> list[str]:
        """The words of a range, without those that were taken out."""
        return [word for word in map(self.word, range(start, stop)) if word]

    def blank(self, start: int, stop: int) -> None:
        """Take a range out, line breaks excepted."""
        for token in self.all[self._index[start] : self._index[stop - 1] + 1]:
            if token.kind != "marker":
                token.text = "\n" * token.text.count("\n")

    def after(self, position: int) -> int:
        """The position behind the bracket's partner, or the next one where there is no bracket."""
        return self.partner.get(position, position) + 1 if self.original(position) in _OPENING else position + 1

    def after_angles(self, position: int) -> int:
        """The position behind the `>` that closes the `<` at `position`; `sizeof(T) < 8` opens nothing."""
        depth = 0
        while position < len(self):
            depth += self.angle(position)
            position = self.after(position)
            if depth <= 0:
                break
        return position

    def angle(self, position: int) -> int:
        """+1 where a template list opens, −1 where one closes, else 0."""
        word = self.original(position)
        if word == "<":
            return 0 if self.original(position - 1) == ")" else 1
        return -1 if word == ">" else 0

    def place(self, position: int) -> tuple[str, int]:
        """The file and line of a position, by the text's line markers."""
        file, line = "", 1
        for token in self.all[: self._index[position]]:
            marker = _MARKER.match(token.text) if token.kind == "marker" else None
            if marker:
                file, line = marker.group(2), int(marker.group(1)) - 1
            else:
                line += token.original.count("\n")
        return file, line

    def places(self) -> list[tuple[str, int]]:
        """`place` of every position."""
        found, file, line = [], "", 1
        for token in self.all:
            if marker := _MARKER.match(token.text) if token.kind == "marker" else None:
                file, line = marker.group(2), int(marker.group(1)) - 1
            elif token.kind not in ("space", "marker"):
                found.append((file, line))
            line += 0 if marker else token.original.count("\n")
        return found

    def text(self) -> str:
        return "".join(token.text for token in self.all)

    def _partners(self) -> dict[int, int]:
        partners, open_brackets = {}, []
        for position in range(len(self)):
            word = self.word(position)
            if word in _OPENING:
                open_brackets.append(position)
            elif word in _CLOSING:
                if not open_brackets or _OPENING[self.word(open_brackets[-1])] != word:
                    raise RefusedError(f"'{word}' has no partner", *self.place(position))
                partners[open_brackets.pop()] = position
        if open_brackets:
            last = open_brackets[-1]
            raise RefusedError(f"'{self.word(last)}' has no partner", *self.place(last))
        return partners
