"""An error is one line, red by name, whatever its message holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.errors import MlxnbError, ModelNotFoundError
from mlxnb.render import one_line

from .hostile import ALL

NAME = "\x1b[1;31mModelNotFoundError\x1b[0m: "


def test_name_message_remedy() -> None:
    error = ModelNotFoundError("No model goes by 'x'.", "See %models.")
    assert one_line(error) == [f"{NAME}No model goes by 'x'. See %models."]


def test_without_remedy() -> None:
    assert one_line(ModelNotFoundError("No model.")) == [f"{NAME}No model."]


def test_a_long_value_leaves_the_remedy_in_sight() -> None:
    (line,) = one_line(ModelNotFoundError("x" * 100_000, "See %models."))
    assert len(line) < 1100
    assert line.endswith("… See %models.")


@pytest.mark.parametrize("text", ALL.values())
def test_hostile_messages(text: str) -> None:
    check(text)


@given(st.text())
def test_any_message(text: str) -> None:
    check(text)


def check(text: str) -> None:
    (line,) = one_line(MlxnbError(text, text))
    assert line.startswith("\x1b[1;31mMlxnbError\x1b[0m:")
    rest = line.removeprefix("\x1b[1;31mMlxnbError\x1b[0m:")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", rest)
    rest.encode()
