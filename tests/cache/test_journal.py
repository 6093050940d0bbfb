"""The journal of a table's rows: whatever becomes of the file, a row that is read is one that was written."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache import Journal, Journals, Usage, WarnOnce, as_asked, row_key, run_key
from mlxnb.decision import Rejected
from mlxnb.request import Request
from mlxnb.result import Result
from tests.cache import strategies
from tests.cache.strategies import result

ASKED = b'"What?"'
KEYS = [f"{number:064x}" for number in range(6)]


def journal_in(folder: Path, said: list[str] | None = None) -> Journal:
    return Journal(folder / "run.rows", WarnOnce((said if said is not None else []).append))


def fill(journal: Journal, count: int = 4) -> dict[str, Result]:
    rows = {key: result(f"answer {number} é\n") for number, key in enumerate(KEYS[:count])}
    for key, answer in rows.items():
        assert journal.put(key, answer, ASKED)
    return rows


@given(answers=st.lists(strategies.results, max_size=4))
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, answers: list[Result]) -> None:
    journal = journal_in(tmp_path_factory.mktemp("rows"))
    put = {key: one for key, one in zip(KEYS, answers, strict=False) if journal.put(key, one, ASKED)}
    assert journal.read() == put


@given(data=st.data())
def test_any_truncation_gives_a_prefix_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    said: list[str] = []
    journal = journal_in(tmp_path_factory.mktemp("rows"), said)
    rows = fill(journal)
    whole = journal.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)), "cut")
    journal.path.write_bytes(whole[:cut])
    read = journal.read()
    assert list(read.items()) == list(rows.items())[: len(read)]
    assert len(read) >= whole[:cut].count(b"\n") - 1  # nothing but the last one is lost
    assert said == []  # a line that a crash cut in two is no damage
    assert journal.put(KEYS[5], result("after"), ASKED)
    assert journal.read() == {**read, KEYS[5]: result("after")}


@given(data=st.data())
def test_no_damage_makes_a_wrong_row(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    journal = journal_in(tmp_path_factory.mktemp("rows"))
    rows = fill(journal)
    raw = bytearray(journal.path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=5), "places"):
        raw[place] = data.draw(st.integers(0, 255), "byte")
    journal.path.write_bytes(bytes(raw))
    assert journal.read().items() <= rows.items()


def test_a_damaged_row_is_told_of_and_the_others_stay(tmp_path: Path) -> None:
    said: list[str] = []
    journal = journal_in(tmp_path, said)
    rows = fill(journal)
    journal.path.write_bytes(journal.path.read_bytes().replace(b"answer 1", b"answer 7"))
    assert journal.read() == {key: one for key, one in rows.items() if key != KEYS[1]}
    assert len(said) == 1
    assert "A row in" in said[0]
    assert "generated again" in said[0]


def test_the_later_of_two_counts_and_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    rows = fill(journal)
    journal.put(KEYS[0], result("again"), ASKED)
    assert journal.read()[KEYS[0]].text == "again"
    journal.forget({KEYS[0], KEYS[2], KEYS[5]})
    assert journal.read() == {KEYS[1]: rows[KEYS[1]], KEYS[3]: rows[KEYS[3]]}
    assert b"again" not in journal.path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["run.rows"]
    Journal(tmp_path / "none.rows").forget({KEYS[0]})
    assert not (tmp_path / "none.rows").exists()


@pytest.mark.parametrize("where", ["asked", "answer"])
def test_a_secret_leaves_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-välue\n")
    asked = Request.of(f"Use s3cr3t-välue\n{where}" if where == "asked" else "Hi")
    answer = result("It is s3cr3t-välue\n." if where == "answer" else "Fine.")
    verdict = journal_in(tmp_path / "rows").put(KEYS[0], answer, as_asked(asked))
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "it holds the value of SOME_API_KEY"
    assert not (tmp_path / "rows").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs permissions as POSIX has them")
def test_only_its_owner_reads_a_journal(tmp_path: Path) -> None:
    journal = journal_in(tmp_path / "rows")
    fill(journal, 1)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_file_that_cannot_be_used_is_told_of_once(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "run.rows").mkdir()
    journal = journal_in(tmp_path, said)
    assert [bool(journal.put(key, result(), ASKED)) for key in KEYS] == [False] * 6
    assert journal.read() == {}
    assert len(said) == 1


def test_rows_are_synced_once_for_all_that_were_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append("x"), real(file))[1])
    journal = journal_in(tmp_path)
    journal.sync()
    fill(journal)
    assert synced == []
    journal.sync()
    once = len(synced)
    assert once > 0
    journal.sync()
    assert len(synced) == once


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    first, second = journal_in(tmp_path), journal_in(tmp_path)
    for number, key in enumerate(KEYS):
        assert (first, second)[number % 2].put(key, result(key), ASKED)
    assert {key: one.text for key, one in first.read().items()} == {key: key for key in KEYS}


def test_journals_stay_within_their_bounds(tmp_path: Path) -> None:
    roomy = Journals(tmp_path, limit=10**9)
    for number, run in enumerate("abc"):
        fill(roomy.open(run))
        os.utime(tmp_path / f"{run}.rows", (time.time() - 100 + number,) * 2)
    Journals(tmp_path, limit=1).open("a")  # which is the oldest, but is about to be used
    assert [file.name for file in tmp_path.iterdir()] == ["a.rows"]
    fill(roomy.open("b"))
    Journals(tmp_path, limit=10**9, lifetime=50).open("b")
    assert [file.name for file in tmp_path.iterdir()] == ["b.rows"]
    assert roomy.clear() == 4
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_limit_counts_at_once(tmp_path: Path) -> None:
    journals = Journals(tmp_path, limit=10**9)
    for number, run in enumerate("abc"):
        fill(journals.open(run))
        os.utime(tmp_path / f"{run}.rows", (time.time() - 100 + number,) * 2)
    size = (tmp_path / "a.rows").stat().st_size
    journals.resize(2 * size, None)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.rows", "c.rows"]
    journals.resize(10**9, 50.0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_is_told_by_model(tmp_path: Path) -> None:
    journals = Journals(tmp_path, limit=10**9)
    assert journals.usage() == {}
    fill(journals.open("a"))
    fill(journals.open("a"), 1)  # the later of two is one row
    fill(journals.open("b"), 2)
    sizes = sum(file.stat().st_size for file in tmp_path.iterdir())
    model = result().provenance.model
    assert journals.usage() == {model: Usage(6, sizes)}
    with (tmp_path / "b.rows").open("ab") as file:
        file.write(b"\nhalf a row")
    (tmp_path / "c.rows").write_bytes(b"\nnothing whole")
    assert journals.usage()[model].entries == 6
    assert journals.usage()[""].entries == 0


def test_the_keys_take_in_what_decides_an_answer_and_nothing_else() -> None:
    base = Request.of("Hi")
    assert row_key(base, "m", 0) == row_key(Request.of("Hi", cache="always", keep_alive=3), "m", 0)
    others = [
        Request.of("Ho"),
        Request.of("Hi", temperature=0.5),
        Request.of("Hi", system="S"),
        Request.of("Hi", seed=1),
    ]
    keys = {row_key(base, "m", 0), row_key(base, "m", 1), row_key(base, "other", 0)}
    keys |= {row_key(other, "m", 0) for other in others}
    assert len(keys) == 7
    assert run_key(base, "m") == run_key(Request.of("Ho", system="S"), "m")
    assert len({run_key(base, "m"), run_key(base, "other"), run_key(Request.of("Hi", max_tokens=5), "m")}) == 3
