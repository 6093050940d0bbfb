"""Token ids that a person gives, held against the model's vocabulary: a wrong one would end a CUDA process."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from ..errors import PromptError


def as_ids(values: Iterable[Any], what: str = "The prompt") -> list[int]:
    """Whole numbers, numpy's among them, as ints.

    Raises:
        PromptError: one is no whole number; `what` says whose it is.
    """
    return [_as_id(value, what) for value in values]


def _as_id(value: Any, what: str) -> int:
    try:
        if type(value).__name__ in ("bool", "bool_"):
            raise TypeError
        return operator.index(value)
    except TypeError:
        problem = f"{what} has {str(value)[:40]!r} among its token ids."
        raise PromptError(problem, "It takes whole numbers in a row.") from None


def check_ids(ids: Iterable[int], vocabulary: object, model: str, what: str = "The prompt") -> None:
    """Refuse an id that `model`, with `vocabulary` tokens where that is known, has no token for.

    Raises:
        PromptError: naming the id.
    """
    wrong = next((i for i in ids if i < 0 or (isinstance(vocabulary, int) and i >= vocabulary)), None)
    if wrong is not None:
        raise PromptError(
            f"{what} has the token {wrong}, and {model} has {vocabulary} tokens.",
            "Encode it with the model's own tokenizer.",
        )
