"""`engine.map` on real models: the answers of one by one, kept across engines, whatever ends the first run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxnb.errors import OptionError, PromptTooLongError
from mlxnb.result import Result
from mlxnb.runtime import Engine, kept_rows
from tests.echo import EchoBackend

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
