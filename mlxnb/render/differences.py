"""Where one text differs from another, word by word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

# A word or a sign with the white space behind it, which alone makes no difference.
_WORD = re.compile(r"(?:\w+|[^\w\s])\s*|\s+")
# Words of the longer text from which on whole lines are compared: difflib's time grows with their product.
MOST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """A text in `parts`: what is in both texts, only in it ("new"), or only in the other one ("gone"). `share` of its
    words, from 0 to 1, are those of the other text, in order; of two empty texts all are.
    """

    parts: tuple[tuple[Literal["same", "new", "gone"], str], ...]
    share: float


def differences(first: str, text: str) -> Difference:
    """`text` against `first`."""
    old, new = _WORD.findall(first), _WORD.findall(text)
    if max(len(old), len(new)) > MOST_WORDS:
        old, new = first.splitlines(keepends=True), text.splitlines(keepends=True)
    matcher = SequenceMatcher(None, [word.rstrip() for word in old], [word.rstrip() for word in new], autojunk=False)
    parts: list[tuple[Literal["same", "new", "gone"], str]] = []
    same = 0
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            same += m - k
            parts.append(("same", "".join(new[k:m])))
            continue
        if i < j:
            parts.append(("gone", "".join(old[i:j])))
        if k < m:
            parts.append(("new", "".join(new[k:m])))
    return Difference(tuple(parts), same / len(new) if new else float(not old))
