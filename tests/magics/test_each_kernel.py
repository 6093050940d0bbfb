"""A table of 200 rows in a real kernel: interrupted, killed, and gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.magics.kernel import TIMEOUT, Kernel

pytest.importorskip("pandas")

ROWS = 200
TABLE = """
import pandas, mlxnb
from tests.echo import EchoBackend
echo = mlxnb.engine().backends["scripted"] = EchoBackend(delay={delay})
asked = [f"{name} {{i % 190}}" for i in range({rows})]
df = pandas.DataFrame({{"question": asked}}, index=[i // 2 for i in range({rows})])
"""
CELL = "%%generate --each df.question --into df.answer --temperature 1\nSay {{ row }}"
CHECK = (
    "print(sum(a == f'<Say {q}>' for a, q in zip(df.answer, df.question)), df.answer.notna().sum(), len(echo.requests))"
)


def table(name: str, delay: float) -> str:
    return TABLE.format(name=name, delay=delay, rows=ROWS)


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel of this test keeps its rows."""
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def kept(journals: Path) -> int:
    """Rows that are on disk whole: each but the first line break ends one, and so does the end of the file."""
    return sum(file.read_bytes().count(b"\n") for file in journals.glob("*.rows"))


def test_an_interrupted_table_goes_on_where_it_stopped(journals: Path) -> None:
    with Kernel() as kernel:
        kernel.run(table("stop", 0.02))
        sent = kernel.send(CELL)
        wait_until(lambda: kept(journals) >= 50)
        kernel.interrupt()
        ran = kernel.collect(sent)
        assert ran.reply["ename"] == "KeyboardInterrupt"
        assert "of 200 rows; the answers so far are in `df.answer`" in ran.reply["traceback"][0]
        right, there, asked = map(int, kernel.run(CHECK).printed.split())
        assert right == there == kept(journals)
        assert 50 <= there < ROWS
        assert asked <= there + 1
        ran = kernel.run(CELL)
        assert ran.reply["status"] == "ok"
        assert f"{ROWS} rows · {ROWS} answered · {there} kept from before · 50 of them here" in ran.answers[-1]
        right, there, in_all = map(int, kernel.run(CHECK).printed.split())
        assert (right, there) == (ROWS, ROWS)
        assert in_all <= ROWS + 1  # the row that was under way is asked twice
        assert kernel.run("print(list(df.index[:3]), len(df))").printed == f"[0, 0, 1] {ROWS}\n"


def test_an_interrupted_generator_has_to_be_made_anew(journals: Path) -> None:
    cell = "%%generate --each rows --into got --temperature 1\nSay {{ row }}"
    with Kernel() as kernel:
        kernel.run(table("once", 0.02))
        kernel.run("rows = iter(list(df.question))")
        sent = kernel.send(cell)
        wait_until(lambda: kept(journals) >= 20)
        kernel.interrupt()
        [line] = kernel.collect(sent).reply["traceback"]
        assert "Make rows anew, and run the cell again to go on from there." in line
        there = int(kernel.run("print(sum(one is not None for one in got.texts))").printed)
        assert there == kept(journals) >= 20
        assert kernel.run(cell).reply["ename"] == "OptionError"
        assert int(kernel.run("print(sum(one is not None for one in got.texts))").printed) == there
        kernel.run("rows = iter(list(df.question))")
        assert kernel.run(cell).reply["status"] == "ok"
        check = "print(got.kept, got.texts == [f'<Say {q}>' for q in df.question])"
        assert kernel.run(check).printed == f"{there} True\n"


def test_without_the_cache_an_interrupt_promises_nothing(journals: Path) -> None:
    with Kernel() as kernel:
        kernel.run(table("off", 0.02))
        sent = kernel.send(CELL.replace("--temp", "--cache off --temp"))
        kernel.wait_for(sent, "update_display_data", " of 200 prompts")
        kernel.interrupt()
        [line] = kernel.collect(sent).reply["traceback"]
        assert "of 200 rows" in line
        assert "Run the cell again" not in line
        assert not journals.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_kernel_costs_the_row_that_was_under_way(journals: Path) -> None:
    with Kernel() as kernel:
        kernel.run(table("kill", 0.02))
        kernel.send(CELL)
        wait_until(lambda: kept(journals) >= 60)
        kernel.restart()
        before = kept(journals)
        assert 60 <= before < ROWS
        kernel.run(table("kill", 0.0))
        ran = kernel.run(CELL)
        right, there, asked = map(int, kernel.run(CHECK).printed.split())
        assert (right, there) == (ROWS, ROWS)
        assert ROWS - before <= asked <= ROWS - before + 1
        assert "kept from before" in ran.answers[-1]


def test_the_pocket_model_on_torch_goes_on_with_what_it_drew(journals: Path) -> None:
    pytest.importorskip("torch")
    cell = CELL.replace("--temp", "--backend torch --max-tokens 8 --temp")
    with Kernel() as kernel:
        kernel.run(table("pocket", 0.0))
        sent = kernel.send(cell)
        wait_until(lambda: kept(journals) >= 20)
        kernel.interrupt()
        assert kernel.collect(sent).reply["ename"] == "KeyboardInterrupt"
        there = int(kernel.run("first = df.answer.copy(); print(first.notna().sum())").printed)
        assert there == kept(journals) >= 20
        assert kernel.run(cell).reply["status"] == "ok"
        same = "print((df.answer[first.notna()] == first[first.notna()]).all(), df.answer.notna().sum(), kept)"
        assert kernel.run(f"kept = Out[max(Out)].kept\n{same}").printed == f"True {ROWS} {there}\n"
        greedy = "%%generate --each df.question[:20] --into got --backend torch --max-tokens 8\nSay {{ row }}"
        kernel.run(greedy)
        alone = (
            "one = [mlxnb.engine().generate(f'Say {q}', backend='torch', max_tokens=8, cache='off')"
            " for q in df.question[:20]]\nprint([a.text for a in one] == got.texts)"
        )
        assert kernel.run(alone).printed == "True\n"
