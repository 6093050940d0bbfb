"""Tab completion, through IPython's own completer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.magics.complete import OVERFLOWS, VALUES

pytestmark = pytest.mark.usefixtures("script")


def completions(shell: InteractiveShell, text: str) -> set[str]:
    """The lines that Tab at the end of `text` leads to."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    return {text[: each.start] + each.text for each in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%generate --te", {"%%generate --temperature"}),
        ("%generate --no-", {"%generate --no-stream", "%generate --no-interpolate"}),
        ("%generate --max-tokens 3 --se", {"%generate --max-tokens 3 --seed"}),
        ("r = %generate --see", {"r = %generate --seed"}),
        ("%%generate --format ma", {"%%generate --format markdown"}),
        ("%%generate --format=te", {"%%generate --format=text"}),
        ("%generate -m poc", {"%generate -m pocket"}),
        ("%generate --model=poc", {"%generate --model=pocket"}),
        ("%generate --backend ", {"%generate --backend auto", "%generate --backend scripted"}),
        ("%profile_model poc", {"%profile_model pocket"}),
        ("%profile_model pocket --qui", {"%profile_model pocket --quick"}),
        ("%profile_model --quick poc", {"%profile_model --quick pocket"}),
        ("%%profile_model --sweep temp", {"%%profile_model --sweep temperature="}),
        ("%profile_model --sweep backend=au", {"%profile_model --sweep backend=auto"}),
        ("%profile_model --sweep=quantize=int8,i", {"%profile_model --sweep=quantize=int8,int4"}),
        (
            "%profile_model --sweep kernels=",
            {"%profile_model --sweep kernels=on", "%profile_model --sweep kernels=off"},
        ),
        ("%profile_model --sweep top_k=3 temp", {"%profile_model --sweep top_k=3 temperature="}),
        ("%profile_model --sweep top_k=3 backend=au", {"%profile_model --sweep top_k=3 backend=auto"}),
        ("%profile_model --slo ttft=0.5,tp", {"%profile_model --slo ttft=0.5,tpot="}),
        ("%profile_model --scenario simple,si", set()),
        ("%profile_model --scenario simple,lo", {"%profile_model --scenario simple,long-context"}),
        ("%profile_model --stress s", {"%profile_model --stress settled"}),
        ("%profile_model --backend=scripted,au", {"%profile_model --backend=scripted,auto"}),
        ("%profile_model --runs poc", set()),
        ("%mlxnb lo", {"%mlxnb load"}),
        ("%mlxnb load poc", {"%mlxnb load pocket"}),
        ("%mlxnb panel mo", {"%mlxnb panel models", "%mlxnb panel monitor"}),
        ("%mlxnb panel models mo", set()),
        ("%mlxnb load pocket --ba", {"%mlxnb load pocket --backend"}),
        ("%mlxnb load pocket --backend s", {"%mlxnb load pocket --backend scripted"}),
    ],
)
def test_options_values_and_commands(shell: InteractiveShell, text: str, expected: set[str]) -> None:
    assert completions(shell, text) == expected


def test_prompt_files_are_completed(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "prompts").mkdir(parents=True)
    for name in ("ask.md", "prompts/ask again.md", "prompts/next.md"):
        (here / name).write_text("Hi")
    monkeypatch.chdir(here)
    assert completions(shell, "%generate @as") == {"%generate @ask.md"}
    assert completions(shell, "%generate --seed 3 @p") == {"%generate --seed 3 @prompts/"}
    assert completions(shell, "%%generate @prompts/") == {"%%generate @prompts/next.md"}
    (here / "prompts" / ".kept").mkdir()
    assert completions(shell, "%%generate @prompts/") == {"%%generate @prompts/next.md"}
    assert completions(shell, "%%generate @prompts/.k") == {"%%generate @prompts/.kept/"}


def test_the_folder_of_an_adapter_is_completed(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "adapters" / "mine").mkdir(parents=True)
    (here / "adapters" / "notes.md").write_text("Hi")
    monkeypatch.chdir(here)
    for line in ("%generate --adapter", "%%generate --adapter", "%mlxnb load pocket --adapter"):
        assert completions(shell, f"{line} ") == {f"{line} none", f"{line} adapters/"}
        assert completions(shell, f"{line} adapters/") == {f"{line} adapters/mine/"}
    assert completions(shell, "%generate --adapter=ad") == {"%generate --adapter=adapters/"}
    assert completions(shell, f"%generate --adapter {tmp_path}/h") == {f"%generate --adapter {here}/"}
    assert completions(shell, "%generate --think o") == {"%generate --think on", "%generate --think off"}
    assert completions(shell, "%generate --think n") == {"%generate --think none"}


def test_a_fresh_line_offers_all_options(shell: InteractiveShell) -> None:
    assert {"%%generate --seed", "%%generate -m", "%%generate --into"} <= completions(shell, "%%generate ")
    assert {"%profile_model pocket", "%profile_model --sweep"} <= completions(shell, "%profile_model ")
    assert {"%mlxnb status", "%mlxnb unload"} <= completions(shell, "%mlxnb ")


def test_names_with_slashes_and_colons_are_completed_whole(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VALUES, "model", lambda: ["mlx://org/small", "org/big-model"])
    assert completions(shell, "%generate -m mlx://or") == {"%generate -m mlx://org/small"}
    assert completions(shell, "%generate -m org/b") == {"%generate -m org/big-model"}


def test_the_magics_themselves_are_found(shell: InteractiveShell) -> None:
    assert completions(shell, "%gener") == {"%generate", "%%generate"}
    assert completions(shell, "%mlx") == {"%mlxnb"}


@pytest.mark.parametrize("text", ["%generate What is --te and lam", "%%generate\n--te", "x = 7 % generate --te"])
def test_a_prompt_and_other_code_are_left_alone(shell: InteractiveShell, text: str) -> None:
    assert not any("--temperature" in line for line in completions(shell, text))


def test_conversations_and_what_to_do_with_them(shell: InteractiveShell) -> None:
    assert completions(shell, "%mlxnb chat") == {"%mlxnb chat", "%mlxnb chats"}
    mlxnb.engine().chats.open("trip").ask("Hi", backend="scripted")
    assert completions(shell, "%mlxnb chat tr") == {"%mlxnb chat trip"}
    assert completions(shell, "%mlxnb chat trip fo") == {"%mlxnb chat trip fork"}
    assert completions(shell, "%mlxnb chat trip fork new --tu") == {"%mlxnb chat trip fork new --turn"}
    assert completions(shell, "%%generate --chat tr") == {"%%generate --chat trip"}
    assert completions(shell, "%%generate --overflow su") == {"%%generate --overflow summarise"}


def test_what_is_in_the_notebook_is_completed(shell: InteractiveShell) -> None:
    pandas = pytest.importorskip("pandas")

    def weather(city: str) -> str:
        return city

    def walk() -> Iterator[str]:
        yield "a"

    frame = pandas.DataFrame({"question": ["a"], "quality": [1], "two words": [2], 3: [4]})
    shell.user_ns.update(zframe=frame, zfacts={"a": "x"}, zfew=["a"], zfirst=walk(), zfond="text", zforecast=weather)
    assert completions(shell, "%%generate --each zf") == {
        f"%%generate --each {name}" for name in ("zframe", "zfacts", "zfew", "zfirst")
    }
    columns = {f"%%generate --each zframe.{name}" for name in ("question", "quality")}
    assert completions(shell, "%%generate --each zframe.") == columns
    assert completions(shell, "%%generate --each=zframe.que") == {"%%generate --each=zframe.question"}
    assert completions(shell, "%%generate --each zfacts.") == {"%%generate --each zfacts.a"}
    into = "%%generate --each zframe.question --into "
    assert {f"{into}{name}" for name in ("zframe", "zfond", "zfew")} <= completions(shell, into)
    assert completions(shell, f"{into}zframe.qua") == {f"{into}zframe.quality"}
    assert completions(shell, "%%generate --tool zf") == {"%%generate --tool zforecast"}
    assert completions(shell, "%%generate --tool zforecast --allow zf") == {
        "%%generate --tool zforecast --allow zforecast"
    }
    listed = completions(shell, "%%generate --each ") | completions(shell, "%%generate --tool ")
    assert not {line for line in listed if line.split()[-1].startswith(("_", "In", "Out", "exit", "get_ipython"))}


def test_a_conversation_of_several_words_is_in_quotes(shell: InteractiveShell) -> None:
    mlxnb.engine().chats.open("my trip").ask("Hi", backend="scripted")
    assert completions(shell, '%%generate --chat "my') == {'%%generate --chat "my trip"'}
    shell.run_cell('%%generate --chat "my trip" --backend scripted\nAnd then?').raise_error()
    assert len(mlxnb.chat("my trip")) == 2


def test_the_ways_of_an_overflow_are_those_of_the_engine() -> None:
    from mlxnb.runtime import overflow

    assert overflow.OVERFLOWS == OVERFLOWS
