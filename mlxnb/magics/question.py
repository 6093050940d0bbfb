"""Lets a prompt on a `%generate` line end in a question mark, which IPython reads as a request for help, and lets
`%%generate` stand alone where it needs no body, which IPython takes for a mistake.
"""

from __future__ import annotations

import re
import tokenize
from typing import TYPE_CHECKING

from IPython.core.inputtransformer2 import EscapedCommand, MagicAssign, TokenTransformBase

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Line = list[tokenize.TokenInfo]
ALONE = re.compile(r"\s*%(%generate\s(?:.*\s)?(?:@[^\s@]|--last\b).*)", re.DOTALL)
INDENTS = (tokenize.INDENT, tokenize.DEDENT)


class Question(TokenTransformBase):
    """Turns `%generate What is x?` and `answer = %generate What is x?` into the magic's call, ahead of HelpEnd.

    `%generate?` stays a request for help.
    """

    priority = 1

    def __init__(self, start: tuple[int, int], magic: TokenTransformBase) -> None:
        super().__init__(start)
        self._magic = magic

    @classmethod
    def find(cls, tokens_by_line: list[Line]) -> Question | None:
        """The first such line of a cell."""
        for tokens in tokens_by_line:
            line = [token for token in tokens if token.type not in INDENTS]
            if len(line) > 3 and line[-2].string == "?" and (magic := _generate(line)):
                return cls(line[0].start, magic)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """The lines with this one made into Python, by IPython's own transform for a magic."""
        return self._magic.transform(lines)


def _generate(line: Line) -> TokenTransformBase | None:
    """IPython's transform for a line that calls `%generate` with something before the question mark."""
    words = [token.string for token in line]
    at = words.index("%") if "%" in words else -1
    if at < 0 or words[at + 1] != "generate" or words[at + 2] == "?":
        return None
    if at == 0:
        return EscapedCommand(line[at].start)
    return MagicAssign(line[at].start) if words[at - 1] == "=" else None


def alone(lines: list[str]) -> list[str]:
    """A cell of one line, `%%generate @file.md` or `%%generate --last`, as the line magic that does the same."""
    rest = "".join(lines[1:])
    found = ALONE.fullmatch(lines[0]) if lines and not rest.strip() else None
    return [found[1]] if found else lines


def install(shell: InteractiveShell) -> None:
    """Have the shell read such lines."""
    shell.input_transformer_manager.token_transformers.append(Question)
    shell.input_transformer_manager.cleanup_transforms.insert(0, alone)


def uninstall(shell: InteractiveShell) -> None:
    """Have it read them as before."""
    shell.input_transformer_manager.token_transformers.remove(Question)
    shell.input_transformer_manager.cleanup_transforms.remove(alone)
