"""The tables of models: a state that a person can act on, and whatever a file says as text only."""

from __future__ import annotations

import pytest

from mlxnb.backends import ModelInfo
from mlxnb.models.entry import Entry
from mlxnb.models.recommended import recommend
from mlxnb.models.room import room
from mlxnb.models.shape import Shape
from mlxnb.render.models import here_tables, memory_table
from mlxnb.render.recommended import recommended_tables
from mlxnb.runtime.residency import Resident

GB = 10**9
SHAPE = Shape(32, 32, 8, 128, 2048, 32, 0, 0, 0)
INFO = ModelInfo("m", "local", None, "torch", "1", "cpu", "bfloat16", None, 8 * GB, 16 * GB, 4096, "sdpa")


def entry(free: int, **more: object) -> Entry:
    has = room(4 * GB, SHAPE, free, context=32_768)
    return Entry("m", "LOCAL_MODELS_DIR", "safetensors", room=has, context=32_768, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (20 * GB, "● fits "),
        (int(4.8 * GB), "● tight: 1\u202f525 tokens fit"),
        (int(5.3 * GB), "● tight "),
        (3 * GB, "● no: needs 5.14 GB"),
    ],
)
def test_a_state_in_words(free: int, words: str) -> None:
    table = here_tables([entry(free)])[0]
    assert words in table.text()
    assert "held against 4\u202f096 tokens" in table.caption


def test_what_is_in_memory_is_said_before_whether_it_fits() -> None:
    table = here_tables([entry(3 * GB)], [INFO])[0]
    assert "● loaded: torch cpu bfloat16" in table.text()
    assert "needs" not in table.text()


def test_what_is_in_memory_and_in_no_list_has_a_row() -> None:
    here, what = here_tables([], [INFO])
    assert [row[0] for row in here.rows] == [row[0] for row in what.rows] == ["m"]
    assert here.caption == ""


def test_what_cannot_be_used_has_its_reason_in_a_table_of_its_own() -> None:
    bad = Entry("b", "LOCAL_MODELS_DIR", "", problem="config.json is <b>cut</b>.", remedy="Copy it again.")
    here, what, broken = here_tables([entry(20 * GB), bad])
    assert "● cannot be used" in here.text()
    assert [row[0] for row in what.rows] == ["m"]
    assert "Copy it again." in broken.text()
    assert "&lt;b&gt;cut" in broken.html()


def test_how_long_models_stay() -> None:
    assert "%mlxnb load pocket" in memory_table([]).text()
    residents = [
        Resident(INFO, 0.0, None, False, True),
        Resident(INFO, 75.0, 525.0, False, False),
        Resident(INFO, 5.0, None, True, False),
    ]
    text = memory_table(residents).text()
    assert "In memory: 48 GB of weights" in text
    for words in ("in use", "1 min 15 s", "in 8 min 45 s", "stays", "● pinned"):
        assert words in text


def test_recommendations_say_where_their_figures_come_from() -> None:
    take, about = recommended_tables(recommend("chat", 20 * GB), "chat")
    assert "no rate without a measured bandwidth" in take.caption
    assert "%mlxnb load mlx-community/" in take.text()
    assert "--quantize int8" in take.text()
    assert "Apache-2.0" in about.text()
    assert [row[0] for row in take.rows] == [row[0] for row in about.rows]
    measured = recommended_tables(recommend("chat", 20 * GB, bandwidth=100e9), "chat")[0]
    assert "rates estimated from measured bandwidth" in measured.caption
    drafting = recommended_tables(recommend("drafting", 20 * GB), "drafting")[1]
    assert "drafting for Qwen3 dense models" in drafting.text()
    [nothing] = recommended_tables(recommend("chat", 10**6), "chat")
    assert "%mlxnb load pocket" in nothing.text()


def test_a_column_of_notes_is_there_where_there_are_some() -> None:
    assert "note" not in here_tables([entry(20 * GB)])[1].text()
    assert "lab/tiny at v1" in here_tables([entry(20 * GB, note="lab/tiny at v1")])[1].text()
