"""`--each` in a real shell, over a backend that answers with what it was asked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import (
    EmptyPromptError,
    MlxnbError,
    ModelNotFoundError,
    OptionError,
    PromptError,
    PromptTooLongError,
    TemplateError,
)
from mlxnb.magics.each import Answers
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine
from mlxnb.runtime import rows as rows_module
from tests.echo import EchoBackend

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EchoBackend]:
    """What answers every cell of this test, in a cache folder of its own."""
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MLXNB_BACKEND", "scripted")
    backend = EchoBackend()
    engine = Engine({"scripted": backend})
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    yield backend
    engine.close()


def run(shell: InteractiveShell, cell: str, **names: Any) -> Any:
    """What a cell gives back; a cell that fails raises."""
    shell.user_ns.update(names)
    ran = shell.run_cell(cell, store_history=True)
    ran.raise_error()
    return ran.result


def frame(**columns: Any) -> Any:
    index = columns.pop("index", None)
    return pandas.DataFrame(columns, index=index)


def texts(column: Any) -> list[Any]:
    return [None if one is None or one != one else one for one in column]


def test_a_column_in_a_column_out(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(question=["one", "two", "three"])
    answers = run(shell, "%%generate --each df.question --into df.answer\n", df=df)
    assert texts(df.answer) == ["<one>", "<two>", "<three>"]
    assert isinstance(answers, Answers)
    assert [one.text for one in answers] == texts(df.answer)
    assert shell.user_ns["_"] is answers


@pytest.mark.parametrize(
    "cell",
    [
        "%%generate --each df.question --into df.answer",
        "%%generate --each df['question'] --into df[answer]\n\n",
        "%generate --each df.question --into df.answer",
        "%generate --each df.question df.answer <<",
        "%%generate --each df.question --into df.answer\n{{ row }}",
        "%%generate --each df --into df.answer\n{{ row.question }}",
        "%generate --each df --into df.answer {{ row['question'] }}",
    ],
)
def test_the_ways_to_write_it(shell: InteractiveShell, echo: EchoBackend, cell: str) -> None:
    df = frame(question=["one", "two"])
    run(shell, cell, df=df)
    assert texts(df.answer) == ["<one>", "<two>"]


def test_a_prompt_takes_several_columns_and_variables(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(a=[1, 2], items=["x", "y"], **{"a name": ["p", "q"]})
    body = '{{ greeting }} {{ row.a }} {{ row.items }} {{ row["a name"].upper() }}'
    run(shell, f"%%generate --each df --into got --system 'Be {{{{ greeting }}}}'\n{body}", df=df, greeting="hi")
    assert [one.text for one in shell.user_ns["got"]] == ["<hi 1 x P>", "<hi 2 y Q>"]
    assert {request.messages[0].content for request in echo.requests} == {"Be hi"}


@pytest.mark.parametrize("index", [[3, 3, 3], ["b", "a", "b"], [2, 0, 1], [None, 1.5, None]])
def test_rows_of_the_frame_itself_go_by_position(shell: InteractiveShell, echo: EchoBackend, index: list[Any]) -> None:
    df = frame(q=["one", "two", "three"], index=index)
    answers = run(shell, "%%generate --each df.q --into df.answer\n", df=df)
    assert texts(df.answer) == ["<one>", "<two>", "<three>"]
    assert str(list(answers.labels)) == str(list(df.index))  # NaN is not NaN


def test_other_rows_are_aligned_by_index(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=["one", "two", "three", "four"], answer="old", index=["a", "b", "c", "b"])
    some = df.q[["c", "a"]]
    run(shell, "%%generate --each some --into df.answer\n", df=df, some=some)
    assert texts(df.answer) == ["<one>", None, "<three>", None]
    once = pandas.Series(["x"], index=["b"])
    run(shell, "%%generate --each once --into df.answer\n", once=once)
    assert texts(df.answer) == [None, "<x>", None, "<x>"]


def test_a_list_goes_by_position(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=[0, 0], index=[7, 7])
    run(shell, "%%generate --each rows --into df.answer\n", df=df, rows=("x", "y"))
    assert texts(df.answer) == ["<x>", "<y>"]


def test_a_polars_frame_is_bound_anew(shell: InteractiveShell, echo: EchoBackend) -> None:
    before = polars.DataFrame({"q": ["one", None, "three"], "n": [1, 2, 3]})
    run(shell, "%%generate --each df.q --into df.answer\n", df=before)
    after = shell.user_ns["df"]
    assert after["answer"].to_list() == ["<one>", None, "<three>"]
    assert before.columns == ["q", "n"]
    run(shell, "%%generate --each df --into df.answer\n{{ row.n }} {{ row.q or 'nothing' }}")
    assert shell.user_ns["df"]["answer"].to_list() == ["<1 one>", "<2 nothing>", "<3 three>"]
    assert shell.user_ns["df"].columns == ["q", "n", "answer"]


def test_a_generator_is_gone_through_once(shell: InteractiveShell, echo: EchoBackend) -> None:
    taken = []

    def rows() -> Iterator[str]:
        for number in range(5):
            taken.append(number)
            yield f"row {number}"

    run(shell, "%%generate --each rows --into got\n", rows=rows())
    assert taken == [0, 1, 2, 3, 4]
    assert [one.text for one in shell.user_ns["got"]] == [f"<row {number}>" for number in range(5)]
    # The same cell again has no rows left to ask for, and must not put nothing in the answers' place.
    with pytest.raises(OptionError, match=r"--each rows gave no row\. It was gone through before: make it anew"):
        run(shell, "%%generate --each rows --into got\n")
    assert len(shell.user_ns["got"]) == 5
    assert run(shell, "%%generate --each rows --into got\n", rows=rows()).kept == 5


def test_a_generator_that_fails_or_never_ends_is_one_clear_line(
    shell: InteractiveShell, echo: EchoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise LookupError("the file is gone")

    with pytest.raises(OptionError, match="--each rows failed after 1 row: LookupError: the file is gone") as raised:
        run(shell, "%%generate --each rows\n", rows=broken())
    assert isinstance(raised.value.__cause__, LookupError)
    monkeypatch.setattr(rows_module, "MOST", 1000)
    for endless in (itertools.count(), iter(lambda: "x", None)):
        with pytest.raises(OptionError, match="--each rows has more than 1,000 rows, if it ends at all"):
            run(shell, "%%generate --each rows\n", rows=endless)
        with pytest.raises(OptionError, match="rows has more than 1,000 rows"):
            mlxnb.engine().map("{{ row }}", endless)
    assert echo.requests == []
    assert list(mlxnb.engine().map("{{ row }}", iter(()))) == []


@pytest.mark.parametrize(
    "rows", [numpy.array([1, 2]), pandas.Series([1, 2], dtype="Int64"), polars.Series([1, 2]), range(1, 3)]
)
def test_numbers_are_asked_as_they_are_written(shell: InteractiveShell, echo: EchoBackend, rows: Any) -> None:
    assert run(shell, "%%generate --each rows\n", rows=rows).texts == ["<1>", "<2>"]
    assert run(shell, "%%generate --each rows\n{{ row + 1 }}").texts == ["<2>", "<3>"]


def test_a_long_table_says_how_many_of_its_rows_it_shows(shell: InteractiveShell, echo: EchoBackend) -> None:
    shown = run(shell, "%%generate --each rows\n", rows=[f"row {n}" for n in range(51)]).table().text()
    assert "51 rows · 51 answered · 50 of them here" in shown
    assert "<row 49>" in shown
    assert "<row 50>" not in shown


def test_a_mapping_gives_a_mapping(shell: InteractiveShell, echo: EchoBackend) -> None:
    run(shell, "%%generate --each asked --into got\n", asked={"a": "one", "b": "two"})
    assert {key: one.text for key, one in shell.user_ns["got"].items()} == {"a": "<one>", "b": "<two>"}
    table = {"q": ["one", "two"]}
    run(shell, "%%generate --each table.q --into table.answer\n", table=table)
    assert table["answer"] == ["<one>", "<two>"]


def test_rows_that_fail_are_empty_and_their_errors_are_kept(shell: InteractiveShell, echo: EchoBackend) -> None:
    echo.errors["long"] = lambda: PromptTooLongError("It has 9 tokens.", "Shorten it.")
    cells = ["one", None, float("nan"), pandas.NaT, " ", "long", 7, 1.5, ["a", "list"], {"a": 1}]
    df = frame(q=pandas.Series(cells, list("abcdefghij"), dtype=object))
    answers = run(shell, "%%generate --each df.q --into df.answer\n", df=df)
    assert texts(df.answer) == ["<one>", None, None, None, None, None, "<7>", "<1.5>", None, None]
    errors = dict(answers.errors)
    assert {label: type(error) for label, error in errors.items()} == {
        **dict.fromkeys("bcde", EmptyPromptError), "f": PromptTooLongError, "i": PromptError, "j": PromptError,
    }  # fmt: skip
    assert "list" in str(errors["i"])
    assert "10 rows · 3 answered · 7 failed" in answers.table().text()
    assert "● PromptTooLongError" in answers.table().text()
    assert "of them here" not in answers.table().text()
    assert "It has 9 tokens." in answers.table().html()


def test_nan_is_never_asked_about(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=["one", None, "three"], n=[1.0, 2.0, float("nan")])
    answers = run(shell, "%%generate --each df\n{{ row.q }} {{ row.n }}", df=df)
    assert answers.texts == ["<one 1.0>", None, None]
    assert {type(error) for _, error in answers.errors} == {EmptyPromptError}
    assert "row.x or 'nothing'" in str(answers.errors[0][1])


def test_what_is_finished_is_not_asked_again(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=["one", "two", "one"])
    cell = "%%generate --each df.q --into df.answer --temperature 1\n"
    first = run(shell, cell, df=df)
    assert len(echo.requests) == 3
    again = run(shell, cell)
    assert len(echo.requests) == 3
    assert again.kept == 3
    assert [one.cached for one in again] == [True] * 3
    assert [one.original for one in again] == [one.timings for one in first]
    assert texts(df.answer) == ["<one>", "<two>", "<one>"]
    run(shell, "%%generate --each df.q --into df.answer --temperature 1\nAgain: {{ row }}")
    run(shell, cell.replace("--temperature 1", "--temperature 0.5"))
    assert len(echo.requests) == 9
    run(shell, cell, df=frame(q=["new", "one", "two"]))
    assert len(echo.requests) == 10
    run(shell, cell.replace("--temp", "--fresh --temp"))
    assert len(echo.requests) == 13
    run(shell, cell.replace("--temp", "--cache off --temp"))
    assert len(echo.requests) == 16


def test_a_failed_row_is_asked_again(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=["one", "bad"])
    echo.errors["bad"] = lambda: RuntimeError("the driver fell over")
    run(shell, "%%generate --each df.q --into df.answer\n", df=df)
    assert texts(df.answer) == ["<one>", None]
    echo.errors.clear()
    answers = run(shell, "%%generate --each df.q --into df.answer\n")
    assert texts(df.answer) == ["<one>", "<bad>"]
    assert answers.kept == 1


def test_a_secret_in_a_row_is_computed_anew_and_nowhere_on_disk(
    shell: InteractiveShell, echo: EchoBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    asked = ["plain", "with hunter2hunter2"]
    for _ in range(2):
        answers = run(shell, "%%generate --each asked\n", asked=asked)
        assert answers.texts == ["<plain>", "<with hunter2hunter2>"]
    assert answers.kept == 1
    assert "1 not kept on disk: it holds the value of MY_TOKEN" in answers.summary()
    assert len(echo.requests) == 3
    files = [file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert any(b"<plain>" in content for content in files)
    assert not any(b"hunter2hunter2" in content for content in files)


def test_clearing_the_caches_takes_the_rows_too(shell: InteractiveShell, echo: EchoBackend) -> None:
    run(shell, "%%generate --each asked\n", asked=["one"])
    run(shell, "%mlxnb cache clear")
    assert run(shell, "%%generate --each asked\n").kept == 0


def test_an_empty_column_stays_empty(shell: InteractiveShell, echo: EchoBackend) -> None:
    df = frame(q=[])
    assert run(shell, "%%generate --each df.q --into df.answer\n", df=df) == []
    assert list(df.columns) == ["q", "answer"]
    assert run(shell, "%%generate --each df\n{{ row.q }}") == []


BAD = {
    "--each nope\n": "--each names 'nope', and no variable",
    "--each df.qestion\n": "df has no column 'qestion'. There are q.",
    "--each df.head(2)\n": "--each is 'df.head",
    "--each df.\n": "--each is 'df.'",
    "--each text\n": "--each text is a str, which has no rows",
    "--each number\n": "is a int, which has no rows",
    "--each lazy\n": "LazyFrame",
    "--each lazy.q\n": "--each: lazy is a LazyFrame",
    "--each df.q --into nope.x\n": "--into names 'nope'",
    "--each df.q --into number.x\n": "number is a int, which takes no column",
    "--each df.q --into df.x.y\n": "--into is 'df.x.y'",
    "--each df.q --into df.q\n": "--into df.q would put the answers over the rows that --each asks",
    "--each df.q --into df[q]\n": "--into df[q] would put the answers over the rows",
    "--each rows --into rows\n": "--into rows would put the answers over the rows",
    "--each df.q --into class\n": "'class' is no name for a variable",
    "--each rows --into df.x\n": "3 rows would go beside 2 of df",
    "--each rows --into pf.x\n": "3 rows would go beside 1 of pf",
    "--each twice --into df.x\n": "holds 0 twice",
    "--each other --into df.x\n": "no label of the rows",
    "--each df.q --chat\n": "--chat goes on with one conversation",
    "--each df.q --max-tokens 0\n": "max_tokens is 0",
    "--each df.q --format nope\n": "format is 'nope'",
    "--each df.q --no-interpolate\nHi": "--no-interpolate would ask the same",
    "--fresh\nHi": "--fresh begins a table anew",
    "--each\n\n": "--each has no value",
    "--each double\n{{ row.a }}": "two columns by the name 'a'",
}


@pytest.mark.parametrize("cell", BAD)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    shell: InteractiveShell, echo: EchoBackend, cell: str
) -> None:
    names = {
        "df": frame(q=["one", "two"]), "text": "abc", "number": 5, "rows": ["a", "b", "c"],
        "lazy": polars.LazyFrame({"q": ["a"]}), "pf": polars.DataFrame({"q": ["a"]}),
        "twice": pandas.Series(["a", "b"], index=[0, 0]), "other": pandas.Series(["a"], index=["z"]),
        "double": pandas.DataFrame([[1, 2]], columns=["a", "a"]),
    }  # fmt: skip
    with pytest.raises(OptionError) as raised:
        run(shell, f"%%generate {cell}", **names)
    assert BAD[cell] in str(raised.value)
    assert echo.requests == []
    assert list(names["df"].columns) == ["q"]


@pytest.mark.parametrize(
    ("cell", "kind", "said"),
    [
        ("--each df.q\nplain", TemplateError, "no {{ row }} in it"),
        ("--each df.q\n{{ row", TemplateError, "on line 1 of the prompt failed"),
        ("--each df\n{{ row.nope }}", TemplateError, "there is no column 'nope' among q"),
        ("--each df\n", PromptError, "The row of a frame is no prompt by itself"),
        ("--each gone\n", EmptyPromptError, "The cell is empty (nan)"),
        ("--each blank\n", EmptyPromptError, "The cell is empty (' ')"),
        ("--each never\n", EmptyPromptError, "The cell is empty (NaT)"),
        ("--each df.q\n{{ row.q }}", TemplateError, "a row is text here, and has no 'q'"),
        ("--each df.q --model nope\n", ModelNotFoundError, "No model goes by 'nope'"),
    ],
)
def test_where_no_row_can_be_answered_the_cell_fails(
    shell: InteractiveShell, echo: EchoBackend, cell: str, kind: type[MlxnbError], said: str
) -> None:
    df = frame(q=["one", "two"])
    gone = {"gone": pandas.Series([float("nan")] * 2), "blank": [" "] * 2, "never": [numpy.datetime64("NaT")] * 2}
    with pytest.raises(kind) as raised:
        run(shell, f"%%generate --into df.answer {cell}", df=df, **gone)
    assert said in str(raised.value)
    assert "answer" not in df.columns


def test_braces_of_a_row_are_no_template(shell: InteractiveShell, echo: EchoBackend) -> None:
    answers = run(shell, "%%generate --each asked\nSay {{ row }}", asked=["{{ 1 + 1 }}", "{% x %}"])
    assert answers.texts == ["<Say {{ 1 + 1 }}>", "<Say {% x %}>"]


def test_nothing_on_the_line_is_run_as_code(shell: InteractiveShell, echo: EchoBackend) -> None:
    with pytest.raises(OptionError):
        run(shell, "%%generate --each __import__('os').getcwd()\n")
    with pytest.raises(OptionError):
        run(shell, "%%generate --each {{ said }}\n", said="run_me()", run_me=lambda: pytest.fail("it was run"))


def test_quiet_shows_nothing(shell: InteractiveShell, echo: EchoBackend, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%%generate --quiet --each asked\n", asked=["one"])
    assert capsys.readouterr().out == ""
    run(shell, "%%generate --each asked\n")
    assert "1 row · 1 answered · 1 kept from before" in capsys.readouterr().out


def test_engine_map_gives_the_same(echo: EchoBackend) -> None:
    engine = mlxnb.engine()
    by_template = list(engine.map("{{ row.a }} {{ row['b'] }}", [{"a": 1, "b": 2}, {"a": 3, "b": None}]))
    assert str(by_template[0]) == "<1 2>"
    assert isinstance(by_template[1], EmptyPromptError)
    df = frame(q=["one", "two"], index=[1, 1])
    assert [str(one) for one in engine.map(lambda row: f"{row.q}{row['q']}", df)] == ["<oneone>", "<twotwo>"]
    requests = engine.map(lambda row: Request.of(row, system="S"), iter(["x"]))
    assert [type(one) for one in requests] == [Result]
    assert requests.progress().done == 1
    failed = list(engine.map(lambda row: row["x"], [{"x": "fine"}, {}]))
    assert isinstance(failed[1], PromptError)
    assert isinstance(failed[1].__cause__, KeyError)
    again = engine.map("{{ row }}!", ["a", "b"], temperature=1.0)
    assert again.kept == 0
    assert [str(one) for one in again] == ["<a!>", "<b!>"]
    assert engine.map("{{ row }}!", ["b", "c", "a"], temperature=1.0).kept == 2
    assert engine.map("{{ row }}!", ["b", "a"], temperature=1.0, fresh=True).kept == 0


@pytest.mark.parametrize("options", [{"progress": 3}, {"max_tokens": 0}, {"nope": 1}, {"backend": "nope"}])
def test_engine_map_refuses_wrong_options_at_once(echo: EchoBackend, options: dict[str, Any]) -> None:
    with pytest.raises(MlxnbError):
        mlxnb.engine().map("{{ row }}", ["a"], **options)
    assert echo.requests == []
