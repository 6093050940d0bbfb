"""`engine.map` on real models: the answers of one by one, kept across engines, whatever ends the first run."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxnb.errors import OptionError, PromptTooLongError
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine, kept_rows
from mlxnb.runtime.caches import OF_THE_RUN
from mlxnb.runtime.map_job import MapJob
from tests.adapters import draw_updates, write_mlx
from tests.echo import EchoBackend
from tests.scripted import ScriptedBackend
from tests.tiny import Maker, make_thinker

BACKENDS = ("torch", "mlx")
ASKED = ["Hello", "What is a list in Python?", "Bye", "Hello", "How do I read a file?", "Count to three."]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Engine]]:
    """Makes engines that share one cache folder, as kernels do that follow one another."""
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engines: list[Engine] = []

    def make(backends: Any = None) -> Engine:
        engines.append(Engine(backends))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_answers_are_those_of_one_by_one(made: Callable[..., Engine], backend: str) -> None:
    pytest.importorskip("mlx.core" if backend == "mlx" else "torch")
    engine = made()
    options: dict[str, Any] = {"backend": backend, "max_tokens": 12}
    together = list(engine.map("Tell me: {{ row }}", ASKED, **options))
    alone = [engine.generate(f"Tell me: {row}", cache="off", **options) for row in ASKED]
    assert [(one.text, one.tokens) for one in together] == [(one.text, one.tokens) for one in alone]


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_engine_has_what_was_drawn(made: Callable[..., Engine], backend: str) -> None:
    pytest.importorskip("mlx.core" if backend == "mlx" else "torch")
    options: dict[str, Any] = {"backend": backend, "max_tokens": 12, "temperature": 1.0}
    first = list(made().map("{{ row }}", ASKED, **options))
    again = made().map("{{ row }}", ASKED, **options)
    assert again.kept == len(ASKED)
    for one, other in zip(first, again, strict=True):
        assert isinstance(other, Result)
        changed = {"timings": one.timings, "cached": False, "original": None, "peak_memory": one.peak_memory}
        assert dataclasses.replace(other, **changed) == one


def test_a_prompt_that_is_too_long_is_the_error_of_its_row(made: Callable[..., Engine]) -> None:
    pytest.importorskip("torch")
    rows = ["Hello", "word " * 20_000, "Bye"]
    answers = list(made().map("{{ row }}", rows, backend="torch", max_tokens=3))
    assert [type(one) for one in answers] == [Result, PromptTooLongError, Result]


def test_kept_answers_are_parsed_anew(made: Callable[..., Engine]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("llguidance")
    options: dict[str, Any] = {"backend": "torch", "schema": ["yes", "no"], "temperature": 1.0}
    first = [one.parsed for one in made().map("Is {{ row }} a word?", ASKED[:3], **options)]
    again = made().map("Is {{ row }} a word?", ASKED[:3], **options)
    assert again.kept == 3
    assert [one.parsed for one in again] == first
    assert set(first) <= {"yes", "no"}


@dataclasses.dataclass
class Named:
    name: str
    fine: bool


HOWS: dict[str, dict[str, Any]] = {
    "schema": {"schema": Named},
    "schema and log-probabilities": {"schema": ["yes", "no"], "logprobs": 3},
    "drawn, with log-probabilities": {"logprobs": 2, "temperature": 1.0, "seed": 3},
    "thinking": {"think": 5},
    "thinking, then a choice": {"think": 5, "schema": ["yes", "no"], "logprobs": 2},
    "a draft": {"draft": "lookup", "schema": Named},
}


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model whose template opens a block of thinking."""
    return make_thinker(tmp_path_factory.mktemp("thinker"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", HOWS)
def test_all_that_an_answer_can_have_is_the_same_in_a_table_and_comes_back(
    made: Callable[..., Engine], thinker: str, how: str, backend: str
) -> None:
    pytest.importorskip("mlx.core" if backend == "mlx" else "torch")
    pytest.importorskip("llguidance")
    options: dict[str, Any] = {"backend": backend, "max_tokens": 40, "dtype": "float32", **HOWS[how]}
    if "think" in options:
        options["model"] = thinker
    rows = ["a list", "a tuple"]
    together = list(made().map("What is {{ row }}?", rows, **options))
    for row, one in zip(rows, together, strict=True):
        alone = made().generate(f"What is {row}?", cache="off", **options)
        assert isinstance(one, Result)
        assert said(one) == said(alone)
        assert bool(one.thinking) == ("think" in options)
        assert one.parsed is not None or "schema" not in options
        assert (one.logprobs is None) == (alone.logprobs is None) == ("logprobs" not in options)
        for here, there in zip(one.logprobs or (), alone.logprobs or (), strict=True):
            assert here.logprob == pytest.approx(there.logprob, abs=1e-3)
    again = made().map("What is {{ row }}?", rows, **options)
    assert again.kept == 2
    for one, kept in zip(together, again, strict=True):
        assert isinstance(one, Result)
        assert isinstance(kept, Result)
        assert (said(kept), kept.logprobs) == (said(one), one.logprobs)


def said(result: Result) -> tuple[Any, ...]:
    return result.text, result.thinking, result.tokens, result.parsed, result.finish_reason


def test_leaving_the_loop_keeps_what_is_finished(made: Callable[..., Engine]) -> None:
    echo = EchoBackend(delay=0.02)
    job = made({"scripted": echo}).map("{{ row }}", range(200), temperature=1.0)
    for number, _ in enumerate(job):
        if number == 4:
            break
    assert job.wait(60)
    whole = [one for one in job.so_far() if isinstance(one, Result) and one.finish_reason == "stop"]
    assert 5 <= len(whole) < 200
    assert [one.text for one in whole] == [f"<{row}>" for row in range(len(whole))]
    assert job.progress().done == 200
    later = EchoBackend()
    again = made({"scripted": later}).map("{{ row }}", range(200), temperature=1.0)
    assert again.kept == len(whole)
    assert [str(one) for one in again] == [f"<{row}>" for row in range(200)]
    assert len(later.requests) == 200 - len(whole)


def test_rows_that_ask_the_same_are_each_kept(made: Callable[..., Engine]) -> None:
    echo = EchoBackend()
    engine = made({"scripted": echo})
    assert len(list(engine.map("{{ row }}", ["a", "a", "b"], temperature=1.0))) == 3
    assert engine.map("{{ row }}", ["b", "a"], temperature=1.0).kept == 2
    four = engine.map("{{ row }}", ["a"] * 4, temperature=1.0)
    assert four.kept == 2
    assert four.wait(60)
    assert engine.map("{{ row }}", ["a"] * 4, temperature=1.0).kept == 4


def test_a_model_that_comes_to_this_machine_meanwhile_is_known_again(
    made: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that the first row downloads: its rows are kept by what it is, not by its name."""
    real, away = kept_rows.resolve, [True]

    def resolve(name: str, **options: Any) -> Any:
        if away:
            away.pop()
            raise PromptTooLongError("Any MlxnbError.")
        return real(name, **options)

    monkeypatch.setattr(kept_rows, "resolve", resolve)
    engine = made({"scripted": EchoBackend()})
    assert len(list(engine.map("{{ row }}", ["a", "b"], temperature=1.0))) == 2
    assert engine.map("{{ row }}", ["a", "b"], temperature=1.0).kept == 2


def test_a_changed_model_is_another_run(made: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made({"scripted": EchoBackend()})
    list(engine.map("{{ row }}", ["a"], temperature=1.0))
    monkeypatch.setattr(kept_rows, "model_identity", lambda path, revision: "files:other")
    assert engine.map("{{ row }}", ["a"], temperature=1.0).kept == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_adapter_that_was_trained_on_is_another_run(
    made: Callable[..., Engine], checkpoint: Maker, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip("mlx.core" if backend == "mlx" else "torch")
    base, names = checkpoint("llama"), [f"model.layers.{i}.mlp.up_proj" for i in (0, 2)]
    adapter = write_mlx(tmp_path / "growing", draw_updates(base, names), 4.0)
    options: dict[str, Any] = {"model": str(base), "backend": backend, "max_tokens": 12}

    def answers(**more: Any) -> tuple[int, list[Any]]:
        job = made().map("{{ row }}", ASKED[:3], **options, **more)
        return job.kept, [one.tokens for one in job]

    _, plain = answers()
    first = answers(adapter=adapter)
    assert first[0] == 0
    assert first[1] != plain
    assert answers(adapter=adapter) == (3, first[1])
    shutil.rmtree(adapter)
    write_mlx(adapter, draw_updates(base, names, seed=9), 4.0)
    later = answers(adapter=adapter)
    assert later[0] == 0
    assert later[1] not in (first[1], plain)


def test_rows_that_differ_in_what_decides_nothing_are_each_kept(made: Callable[..., Engine]) -> None:
    """Two that ask the same with another keep_alive are two rows, and not one that is found twice."""
    echo = EchoBackend()
    asked = [Request.of("a", temperature=1.0, keep_alive=seconds) for seconds in (5, 9)]
    engine = made({"scripted": echo})
    assert len(list(engine.map(lambda row: row, asked[:1]))) == 1
    again = engine.map(lambda row: row, asked)
    assert again.kept == 1
    assert len(list(again)) == len(echo.requests) == 2


def test_no_note_of_an_earlier_run_comes_with_its_rows(made: Callable[..., Engine]) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"backend": "torch", "max_tokens": 3, "draft": "lookup"}
    [first] = made().map("{{ row }}", ["Hello"], **options)
    assert any(note.startswith("not batched: ") for note in first.provenance.notes)
    [again] = made().map("{{ row }}", ["Hello"], **options)
    assert again.cached
    assert not any(note.startswith(OF_THE_RUN) for note in again.provenance.notes)


def test_the_timings_of_the_run_that_computed_a_row_stay(made: Callable[..., Engine]) -> None:
    """Also where the row had its answer from the cache of answers when it was kept."""
    pytest.importorskip("torch")
    options: dict[str, Any] = {"backend": "torch", "max_tokens": 8}
    computed = made().generate("Hello", **options)
    [found] = made().map("{{ row }}", ["Hello"], **options)
    [again] = made().map("{{ row }}", ["Hello"], **options)
    assert found.cached
    assert again.cached
    assert again.original == found.original == computed.timings


def test_calls_come_back_too_and_options_may_be_generators(made: Callable[..., Engine]) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return "fine"

    call = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'

    def asked() -> MapJob:
        options: dict[str, Any] = {"tools": iter([weather]), "stop": iter(["never"]), "temperature": 1.0}
        return made({"scripted": ScriptedBackend([call])}).map("{{ row }}", ["a", "b"], **options)

    first = [one.tool_calls for one in asked()]
    assert [[each.written() for each in calls] for calls in first] == [['weather(city="Rome")']] * 2
    again = asked()
    assert again.kept == 2
    assert [one.tool_calls for one in again] == first


def test_fresh_rows_are_computed_also_where_their_answers_are_kept(made: Callable[..., Engine]) -> None:
    """Answers that repeat are kept twice: as rows, and in the cache of answers."""
    pytest.importorskip("torch")
    options: dict[str, Any] = {"backend": "torch", "max_tokens": 8}
    first = list(made().map("{{ row }}", ASKED[:3], **options))
    anew = list(made().map("{{ row }}", ASKED[:3], fresh=True, **options))
    assert [one.cached for one in anew] == [False] * 3
    assert [one.tokens for one in anew] == [one.tokens for one in first]
    again = made().map("{{ row }}", ASKED[:3], **options)
    assert again.kept == 3
    assert [one.original for one in again] == [one.timings for one in anew]
    assert made().generate(ASKED[0], **options).original == anew[0].timings  # and the cache has the later one


def test_rows_that_cannot_be_forgotten_are_said(made: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made({"scripted": EchoBackend()})
    assert [str(one) for one in engine.map("{{ row }}", ["a"], fresh=True)] == ["<a>"]

    def refuse(*places: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OptionError, match=r"fresh: the rows of earlier runs cannot be forgotten .*Permission denied"):
        engine.map("{{ row }}", ["a"], fresh=True)
    assert engine.map("{{ row }}", ["a"]).kept == 1


def test_without_caches_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine({"scripted": EchoBackend()}, caching=False)
    assert [str(one) for one in engine.map("{{ row }}", ["a"], fresh=True)] == ["<a>"]
    assert engine.map("{{ row }}", ["a"]).kept == 0
    engine.close()
    assert not (tmp_path / "cache" / "rows").exists()


@pytest.mark.parametrize("ask", ["map", "batch"])
def test_a_schema_is_made_once_for_all_rows(
    made: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    from mlxnb import schema

    typed, seen = schema._typed, []
    monkeypatch.setattr(schema, "_typed", lambda kind: seen.append(kind) or typed(kind))
    engine = made({"scripted": EchoBackend()})
    if ask == "map":
        answers = list(engine.map("{{ row }}", range(9), schema=list[int], progress=False))
    else:
        answers = engine.batch([str(row) for row in range(9)], schema=list[int], progress=False)
    assert len(answers) == 9
    assert len(seen) <= 2
