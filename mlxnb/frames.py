"""Which table of pandas or polars a value is, without importing either."""

from __future__ import annotations

from typing import Any


def kind_of(value: Any) -> str:
    """`pandas.Series`, `polars.DataFrame` and the like for what is one, or is made from one; else an empty string.

    By name: whoever has such a value has imported its library, and nobody else should.
    """
    known = ("pandas.DataFrame", "pandas.Series", "polars.DataFrame", "polars.LazyFrame", "polars.Series")
    names = (f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(value).__mro__)
    return next((name for name in names if name in known), "")
