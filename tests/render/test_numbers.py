"""Numbers read as LOOK.md says: three significant figures, thin spaces, units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.render import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (212.34, "212"),
        (38.04, "38"),
        (38.44, "38.4"),
        (999.6, "1\u202f000"),
        (12345.6, "12\u202f300"),
        (0.01234, "0.0123"),
        (-5.678, "−5.68"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0000412, "41.2 µs"),
        (0.00099949, "999 µs"),
        (0.0009996, "1 ms"),
        (0.038, "38 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (3.104, "3.1 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (4800, "1 h 20 min"),
        (math.inf, "–"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (999.7, "1 kB"), (7_600_000, "7.6 MB"), (1.6e9, "1.6 GB"), (3e15, "3\u202f000 TB")],
)
def test_size(size: float, text: str) -> None:
    assert numbers.size(size) == text


def test_counts_are_exact() -> None:
    assert numbers.count(1234567) == "1\u202f234\u202f567"
    assert numbers.plural(1, "token") == "1 token"
    assert numbers.plural(0, "token") == "0 tokens"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_has_a_form(value: float) -> None:
    for form in (numbers.significant, numbers.duration, numbers.size, numbers.rate):
        assert form(value)
