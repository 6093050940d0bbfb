"""A job comes to an end whatever fails in making its Result: else whoever waits for it would wait for ever."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from mlxnb.backends import Watch
from mlxnb.errors import GenerationError
from mlxnb.request import Request
from mlxnb.result import Chunk, Result
from mlxnb.runtime import Engine, batch_run
from tests.scripted import ScriptedBackend, ScriptedModel

Scripted = tuple[Engine, ScriptedBackend]
BACKENDS = {"torch": "torch", "mlx": "mlx.core"}


@dataclasses.dataclass
class Picky:
    """A person's own class, whose code fails as no schema can tell."""

    fine: bool

    def __post_init__(self) -> None:
        raise LookupError("no such thing")


def untellable(tokens: list[int]) -> Any:
    raise ArithmeticError("log of nothing")


@pytest.mark.parametrize("cache", ["off", "always"])
def test_a_class_that_fails_is_the_error_of_its_request(scripted: Scripted, cache: str) -> None:
    engine, script = scripted
    script.pieces = ['{"fine": true}']
    job = engine.stream("Hello", schema=Picky, cache=cache)
    assert job.wait(30)
    with pytest.raises(GenerationError, match="Picky failed to take the answer: LookupError: no such thing") as caught:
        job.result()
    assert caught.value.partial is not None
    assert caught.value.partial.text == '{"fine": true}'
    assert isinstance(caught.value.__cause__, LookupError)
    script.pieces = ["Hello."]
    assert engine.generate("Hello").text == "Hello."


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_no_failure_of_the_rows_beside_it(engine: Engine, backend: str) -> None:
    pytest.importorskip(BACKENDS[backend])
    pytest.importorskip("llguidance")
    picky = Request.of("Is it?", schema=Picky, backend=backend, max_tokens=64)
    plain = Request.of("What does sqrt do?", backend=backend, max_tokens=64)
    batch = engine.submit_batch([plain, picky, plain])
    assert batch.wait(120)
    first, failed, last = batch.results()
    assert isinstance(failed, GenerationError)
    assert "LookupError" in str(failed)
    assert isinstance(first, Result)
    assert isinstance(last, Result)
    assert first.text == last.text == engine.submit(plain).result().text


@pytest.mark.parametrize("fail_after", [None, 2])
def test_log_probabilities_that_cannot_be_told_end_the_job(
    scripted: Scripted, fail_after: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, script = scripted
    script.fail_after, streamed = fail_after, ScriptedModel.stream

    def stream(model: ScriptedModel, request: Request, watch: Watch) -> Iterator[Chunk]:
        watch.logprobs = untellable
        return streamed(model, request, watch)

    monkeypatch.setattr(ScriptedModel, "stream", stream)
    job = engine.stream("Hello")
    assert job.wait(30)
    with pytest.raises(GenerationError) as caught:
        job.result()
    assert caught.value.partial is not None
    assert caught.value.partial.text.startswith("Hello")
    assert caught.value.partial.logprobs is None
    assert ("ArithmeticError: log of nothing" in str(caught.value)) == (fail_after is None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_whose_result_cannot_be_made_is_alone_in_it(
    engine: Engine, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(BACKENDS[backend])
    made = batch_run.Outcome.ended

    def ended(self: Any) -> Any:
        if self._job.request.messages[0].content == "Hello":
            raise ZeroDivisionError("division by zero")
        return made(self)

    monkeypatch.setattr(batch_run.Outcome, "ended", ended)
    prompts = ["What does sqrt do?", "Hello", "And what does math.sqrt do?"]
    batch = engine.submit_batch(prompts, backend=backend, max_tokens=12)
    assert batch.wait(120)
    assert [type(answer) for answer in batch.results()] == [Result, GenerationError, Result]
