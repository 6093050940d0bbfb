"""Numbers without a bound end, whatever the model would write; what its schema gives more digits keeps them."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends import structure
from mlxnb.backends.digits import MOST, Digits
from mlxnb.backends.lead import Lead
from mlxnb.backends.steering import only
from mlxnb.runtime import Engine
from mlxnb.schema import Schema
from tests.backends.test_local import TOKENIZER

pytest.importorskip("llguidance")
MADE = structure._vocabulary(TOKENIZER, "pocket")


def ids(text: str) -> list[int]:
    return list(TOKENIZER.inner.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_number_without_a_bound_ends(engine: Engine, backend: str, kind: str) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx_lm"}[backend])
    schema = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": kind}}
    asked: dict[str, Any] = {"schema": schema, "backend": backend, "temperature": 1.5, "max_tokens": 400}
    for seed in range(4):
        result = engine.generate("Say a number.", seed=seed, **asked)
        assert result.finish_reason == "stop"
        assert json.loads(result.text) == result.parsed
        assert max(map(len, re.findall("[0-9]+", result.text))) < MOST + 10  # the last token may bring several


@given(st.text("0123456789.ea-, ", max_size=60))
def test_the_digits_at_the_end_are_counted(text: str) -> None:
    counted = 0
    for token in ids(text):
        counted = MADE.digits.in_a_row(counted, token)
    assert counted == len(text) - len(text.rstrip("0123456789"))


def allows_digits(value: Any, text: str) -> bool:
    """Whether another digit may come behind a beginning of an answer."""
    guide = structure.Structure(MADE.grammar(Schema.of(value)), TOKENIZER, Lead(TOKENIZER, False, False), MADE.digits)
    words = guide.allowed(ids(text))
    assert words is not None
    one, size = ids("1")[0], words.size * 32
    return bool((words & only([one], size)).any())


@pytest.mark.parametrize(
    ("value", "text", "goes_on"),
    [
        ({"type": "integer"}, "1" * (MOST - 1), True),
        ({"type": "integer"}, "1" * MOST, False),
        ({"type": "number"}, "0." + "3" * MOST, False),
        ({"items": {"type": "integer"}, "type": "array"}, "[" + "1" * MOST, False),
        ({"items": {"type": "integer"}, "type": "array"}, "[" + "1" * MOST + ", 1", True),
        ({"type": "integer", "minimum": 0}, "1" * MOST, False),
        ({"type": "string", "format": "duration"}, '"P' + "1" * MOST, False),
        ({"type": "string", "format": "date-time"}, '"2026-11-22T00:10:28.' + "1" * MOST, False),
        ({"type": "string"}, '"' + "1" * MOST, True),
        ({"type": "string", "pattern": "^[0-9]{60}$"}, '"' + "1" * MOST, True),
        ("regex:[0-9]{60}", "1" * MOST, True),
    ],
)
def test_what_ends_is_a_number_that_may(value: Any, text: str, goes_on: bool) -> None:
    assert allows_digits(value, text) == goes_on


def test_tokens_that_are_unknown_to_it_are_left_alone() -> None:
    words = np.full(200, 0xFFFFFFFF, np.uint32)
    assert MADE.digits.ended(words) is words
    assert MADE.digits.in_a_row(7, 10**6) == 0
    assert isinstance(MADE.digits, Digits)
