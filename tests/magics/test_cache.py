"""The caches from a cell: what the footer says, and `%mlxnb cache`, `pin` and `unpin`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import MlxnbError
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
