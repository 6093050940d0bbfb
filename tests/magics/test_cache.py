"""The caches from a cell: what the footer says, and `%mlxnb cache`, `pin` and `unpin`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.cache import Tally, Usage
from mlxnb.errors import MlxnbError
from mlxnb.magics.cache_tables import cache_tables
from mlxnb.runtime import Engine

QUESTION = "What does itertools.chain do?"


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    made = Engine()
    monkeypatch.setattr(mlxnb, "engine", lambda: made)
    yield made
    made.close()


@pytest.fixture
def run(shell: InteractiveShell, engine: Engine, capsys: pytest.CaptureFixture[str]):
    def run(cell: str) -> str:
        shell.run_cell(cell).raise_error()
        engine.call(lambda: None)  # what is kept after an answer is kept by now
        return capsys.readouterr().out

    return run


def test_a_cell_run_again_is_cached_and_says_so(run, shell):
    first = run(f"%%generate --into first\n{QUESTION}")
    again = run(f"%%generate --into again\n{QUESTION}")
    assert not first.rstrip().endswith("cached")
    assert again.rstrip().endswith("stop · cached")
    assert shell.user_ns["again"].text == shell.user_ns["first"].text
    assert "cached" not in run(f"%%generate --cache off\n{QUESTION}")
    run("%config MLXNB.cache = 'off'")
    assert "cached" not in run(f"%%generate\n{QUESTION}")


def test_the_footer_says_what_was_reused(run):
    begin = "Where is sqrt? " * 20
    run(f"%%generate --max-tokens 4\n{begin}\n{QUESTION}")
    footer = run(f"%%generate --max-tokens 4\n{begin}\nAnd deque?")
    assert re.search(r"reused \d+ of \d+", footer)


def test_cache_shows_hits_and_sizes(run):
    assert "finished answers" in run("%mlxnb cache")
    for _ in range(2):
        run(f"%%generate\n{QUESTION}")
    shown = run("%mlxnb cache stats")
    assert re.search(r"answers +pocket +1 +1 +50", shown)
    assert "Hit rate over time" in shown
    assert "A prefix is a hit from 16 reused tokens or half of the prompt on" in shown
    assert "What there is now, all of pocket" in shown


def test_rows_of_tables_are_listed_and_cleared(run, shell, tmp_path: Path):
    cell = "%%generate --each asked --max-tokens 3 --temperature 1\n{{ row }}"
    shell.user_ns["asked"] = ["What does deque do?", "And sqrt?"]
    run(cell)
    assert re.search(r"finished answers +0 +0 .*\n *rows of tables +2 +0\.00\d* +256 ", run("%mlxnb cache"))
    assert str(tmp_path / "cache" / "rows") in run("%mlxnb cache where")
    (tmp_path / "cache" / "rows" / "left.1.aside").write_text("an answer that a crash left")
    assert int(re.search(r"(\d+) entries dropped", run("%mlxnb cache clear"))[1]) >= 2
    assert "rows of tables" not in run("%mlxnb cache")
    assert list((tmp_path / "cache" / "rows").iterdir()) == []
    assert "kept from before" not in run(cell)


def test_time_that_is_not_known_is_no_zero(run, engine):
    run(f"%%generate\n{QUESTION}")
    stats = engine.cache.stats()
    for seconds, shown in ((0.0, "–"), (1.5, r"1\.5\d*")):
        tally = Tally(hits=1, tokens=500, tokens_saved=400, seconds_saved=seconds)
        table = cache_tables(replace(stats, results={}, prefixes={"pocket": tally}))[0].text()
        assert re.search(rf"prefixes +pocket +1 +0 +100 +500 +400 +{shown} +0", table)


def test_several_models_are_told_apart(run, engine):
    run(f"%%generate\n{QUESTION}")
    stats = engine.cache.stats()
    rows = Usage(2, 1_000_000)
    both = {"": {"results": Usage(), "rows": rows, "memory": Usage(), "disk": Usage(3, 7_000_000)}, **stats.models}
    stats = replace(stats, models=both, held={**stats.held, "rows": rows})
    shown = [table.text() for table in cache_tables(stats)]
    (table,) = [text for text in shown if text.startswith("The same by model")]
    assert re.search(r"not known +0 +0 +2 +1 +0 +0 +3 +7\b", table)
    # answers, rows, states in memory, states on disk
    assert re.search(r"pocket +1 +\S+ +0 +0 +[1-9]\d* +\S+ +0 +0", table)


def test_answers_that_cannot_be_counted_are_not_shown_as_none(run, engine, monkeypatch):
    run(f"%%generate\n{QUESTION}")
    monkeypatch.setattr(engine.cache._results, "usage", lambda: None)
    assert re.search(r"finished answers +– +– +\d", run("%mlxnb cache"))


def test_a_pin_is_listed_before_its_model_is_loaded_and_can_be_let_go(shell, run, engine, monkeypatch, capsys):
    run(f"%%generate\n{QUESTION}")
    run("%mlxnb pin question")
    engine.close()
    after = Engine()
    monkeypatch.setattr(mlxnb, "engine", lambda: after)
    said = []
    for line in ("%mlxnb cache", "%mlxnb unpin question", "%mlxnb cache"):
        shell.run_cell(line).raise_error()
        said.append(capsys.readouterr().out)
    assert re.search(r"question +pocket +17 +0 +● on disk, read when its model is used", said[0])
    assert "unpinned" in said[1]
    assert "question" not in said[2]
    assert after.models() == []
    after.close()


def test_pin_keeps_through_clear_and_unpin_lets_go(run):
    assert "nothing was asked yet" in run("%mlxnb pin early")
    run(f"%%generate\n{QUESTION}")
    assert "tokens kept" in run("%mlxnb pin question")
    assert "dropped" in run("%mlxnb cache clear")
    assert re.search(r"question +pocket +17 +\S+ +● kept", run("%mlxnb cache"))
    assert "unpinned" in run("%mlxnb cache unpin question")
    assert "nothing is pinned" in run("%mlxnb unpin question")


def test_where_names_the_folder(run, tmp_path: Path):
    assert str(tmp_path / "cache" / "results.sqlite") in run("%mlxnb cache where")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%mlxnb cache statz", "Unknown cache command statz. Did you mean stats?"),
        ("%mlxnb cache pin", "%mlxnb cache pin needs a name."),
        ("%mlxnb cache clear now", "%mlxnb cache clear takes no name."),
        ("%mlxnb pin", "%mlxnb pin needs a name."),
        ("%generate --cache maybe hi", "cache is 'maybe'. It takes auto, always, off."),
    ],
)
def test_bad_input_is_one_line(shell: InteractiveShell, line: str, message: str):
    with pytest.raises(MlxnbError) as caught:
        shell.run_cell(line).raise_error()
    assert message in str(caught.value)
