"""What a summary of the oldest turns is made with, and that every option of a Request has its place there."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mlxnb.conversation import Conversation
from mlxnb.errors import GenerationError, PromptTooLongError
from mlxnb.request import Message, Request, Sampling
from mlxnb.result import Result
from mlxnb.runtime import Engine, overflow
from mlxnb.runtime.overflow import DROP, OF_THE_MODEL, SUMMARISE, fitted
from mlxnb.schema import Schema
from mlxnb.tools import Tool
from tests.adapters import draw_updates, write_peft
from tests.tiny import Maker, make_thinker

BACKENDS = {"torch": "torch", "mlx": "mlx.core"}
LONG = "Tell me of everything that there is between heaven and earth, and leave nothing out. " * 4

# Options about an answer, with a value that would spoil a summary; and those that a summary has of its own.
SPOILING: dict[str, Any] = {
    "stop": ("a",), "schema": Schema.of(["yes", "no"]), "tools": (Tool("weather"),), "logprobs": 3,
}  # fmt: skip
OWN = {"messages", "sampling", "max_tokens", "think"}
SAME: dict[str, Any] = {
    "prefill_step": 64,
    "backend": "torch", "dtype": "float32", "quantize": "int8", "kv_bits": 8, "kv_group_size": 64, "draft": "lookup",
    "draft_tokens": 3, "strict": True, "cache": "always", "keep_alive": 60.0,
}  # fmt: skip


def talk(turns: int = 6) -> Conversation:
    said = (Message("user", LONG), Message("assistant", "Well."))
    return Conversation(said * turns).asked("And now?")


def test_every_option_has_its_place() -> None:
    """One that is added to Request belongs to the model, and is listed there, or to the answer, and is listed here."""
    places = [OF_THE_MODEL, SPOILING.keys(), OWN, {"prompt"}]
    assert set().union(*places) == {f.name for f in fields(Request)}
    assert sum(map(len, places)) == len(fields(Request))
    assert {"model", "adapter", *SAME} == OF_THE_MODEL


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model whose template opens a block of thinking, which it would never close."""
    return make_thinker(tmp_path_factory.mktemp("thinker"))


@pytest.mark.parametrize("name", SPOILING)
def test_a_summary_runs_on_what_the_answer_runs_on_and_has_nothing_else_of_it(name: str) -> None:
    more = {"schema": {}, "tools": {}}.get(name, {"temperature": 1.0, "think": "on"})
    request = replace(Request.of("Hi", adapter="tuned", model="base", **more), **SAME, **{name: SPOILING[name]})
    asked = overflow._asking(request, "", ["User: Hi"], 16, 0)
    assert {each: getattr(asked, each) for each in OF_THE_MODEL} == {
        each: getattr(request, each) for each in OF_THE_MODEL
    }
    assert all(getattr(asked, f.name) == f.default for f in fields(Request) if f.name in SPOILING)
    assert (asked.sampling, asked.max_tokens, asked.think, asked.raw) == (Sampling(), 16, 0, False)


def test_tokens_are_counted_by_the_model_with_its_adapter(engine: Engine, checkpoint: Maker, tmp_path: Path) -> None:
    """And not by another one, which would be loaded for nothing but that."""
    pytest.importorskip("torch")
    base, before = checkpoint("llama"), engine.models()
    adapter = write_peft(tmp_path / "tuned", draw_updates(base, ["model.layers.0.mlp.up_proj"]), 4.0)
    request = Request.of(talk().given(), model=str(base), adapter=adapter, backend="torch", max_tokens=16)
    assert fitted(engine, talk(), request, DROP, refuse).conversation.left_out
    assert [info.adapter for info in engine.models() if info not in before] == ["tuned"]


def refuse(request: Request) -> Result:
    raise AssertionError("nothing is to be summarised")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("think", [None, "on", 40])
def test_a_thinking_model_does_not_think_its_summary_away(
    engine: Engine, thinker: str, backend: str, think: str | int | None
) -> None:
    pytest.importorskip(BACKENDS[backend])
    chat = engine.chats.open(f"{backend} {think}")
    chat.become(Conversation(talk().messages[:-1]))
    options = {"model": thinker, "backend": backend, "dtype": "float32", "max_tokens": 48}
    with pytest.raises(PromptTooLongError):
        chat.ask("Hi", think=think, **options)
    result = chat.ask("Hi", think=think, overflow="summarise", **options)
    assert result.before
    assert chat.conversation.summary or len(chat) == 6  # what has no answer after its thoughts is no turn
    for summary in result.before:
        assert summary.text.strip()
        assert not summary.timings.thinking_tokens
    if think != "on":
        return
    assert result.timings.thinking_tokens  # of the answer it still may


def test_a_summary_that_was_cut_says_so_and_one_that_was_interrupted_is_none(engine: Engine) -> None:
    pytest.importorskip("torch")
    request = Request.of(talk().given(), backend="torch", max_tokens=8)
    whole = replace(engine.generate("Hi", backend="torch", max_tokens=3), text="In short.", finish_reason="stop")
    long = talk(20)
    note = fitted(engine, long, request, SUMMARISE, lambda _: whole).note
    assert note.endswith("a summary stands for them")
    note = fitted(engine, long, request, SUMMARISE, lambda _: replace(whole, finish_reason="length")).note
    assert note.endswith("a summary stands for them, which was cut at its token limit")
    with pytest.raises(GenerationError, match="The summary of the oldest turns was interrupted"):
        fitted(engine, long, request, SUMMARISE, lambda _: replace(whole, finish_reason="interrupted"))
