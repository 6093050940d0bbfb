"""Many prompts at once: the answers of one by one, in order, whatever joins, leaves, fails or is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxnb.backends.mlx_batch import MlxBatch
from mlxnb.backends.torch_batch import TorchBatch
from mlxnb.errors import EmptyPromptError, GenerationError, MlxnbError, OptionError, PromptError
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import BatchJob, Engine, batch_run
from tests.tiny import Maker

BACKENDS = {"torch": TorchBatch, "mlx": MlxBatch}
TOGETHER = ("qwen3", "llama", "gemma3", "mistral-window", "deepseek-v3")


@pytest.fixture
def caching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))
    made = Engine()
    yield made
    made.close()


def requests(model: Path, backend: str, count: int = 16, **options: Any) -> list[Request]:
    """Prompts of 1 to 40 words and a budget each; no two alike."""
    return [
        Request.of(
            f"{i} " + "some words " * (1 + 7 * i % 20),
            raw=True,
            model=str(model),
            backend=backend,
            **{"max_tokens": 3 + 5 * i % 24, **options},
        )
        for i in range(count)
    ]


def alone(engine: Engine, asked: list[Request]) -> list[Result]:
    return [engine.submit(request).result() for request in asked]


def said(results: list[Any]) -> list[tuple[list[int], str, str]]:
    assert all(isinstance(result, Result) for result in results), results
    return [(result.tokens, result.text, result.finish_reason) for result in results]


def notes(results: list[Any]) -> set[str]:
    return {note for result in results for note in result.provenance.notes}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", TOGETHER)
def test_a_batch_answers_what_one_by_one_answers(engine, checkpoint: Maker, backend, family):
    asked = requests(checkpoint(family), backend)
    many = engine.batch(asked)
    assert said(many) == said(alone(engine, asked))
    assert not any(note.startswith("not batched") for note in notes(many))


@pytest.mark.parametrize("family", ["qwen3-next", "falcon-h1", "phi3-longrope"])
def test_a_model_that_cannot_be_batched_runs_row_by_row_and_says_so(engine, checkpoint: Maker, family):
    asked = requests(checkpoint(family), "torch", 4)
    many = engine.batch(asked)
    assert said(many) == said(alone(engine, asked))
    assert all(any(note.startswith("not batched: ") for note in result.provenance.notes) for result in many)
    (refused,) = engine.batch([Request.of("strict", model=str(checkpoint(family)), backend="torch", strict=True)])
    assert isinstance(refused, MlxnbError)
    assert "batch" in refused.message


@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrent_layers_on_mlx_are_batched(engine, checkpoint: Maker, backend):
    if backend == "torch":
        pytest.skip("torch runs them row by row, see above")
    asked = requests(checkpoint("qwen3-next"), backend, 6)
    assert said(engine.batch(asked)) == said(alone(engine, asked))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 20), st.sampled_from([None, "a", "e", "on"])),
        min_size=1,
        max_size=9,
    ),
    width=st.integers(1, 5),
)
def test_whatever_the_lengths_budgets_stops_and_rows_at_once(engine, checkpoint: Maker, backend, rows, width):
    asked = [
        Request.of(
            "x " * words,
            raw=True,
            model=str(checkpoint("qwen3")),
            backend=backend,
            max_tokens=budget,
            stop=stop,
        )
        for words, budget, stop in rows
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_run, "MOST_ROWS", width)
        many = engine.batch(asked)
    assert said(many) == said(alone(engine, asked))


@pytest.mark.parametrize("backend", BACKENDS)
def test_seeded_rows_and_penalties_draw_what_they_draw_alone(engine, checkpoint: Maker, backend):
    model, common = str(checkpoint("qwen3")), {"raw": True, "backend": backend, "max_tokens": 16}
    asked = [
        Request.of("once upon", model=model, temperature=0.9, seed=3, **common),
        Request.of("once upon a time", model=model, **common),
        Request.of("there was", model=model, temperature=1.2, top_p=0.9, top_k=50, seed=4, **common),
        Request.of("there was " * 9, model=model, repetition_penalty=1.4, **common),
    ]
    many = engine.batch(asked)
    assert said(many) == said(alone(engine, asked))
    assert [result.provenance.sampling.seed for result in many] == [3, None, 4, None]


def test_a_random_row_without_a_seed_can_be_repeated(engine, checkpoint: Maker):
    asked = requests(checkpoint("qwen3"), "mlx", 3, temperature=1.0, max_tokens=8)
    for request, result in zip(asked, engine.batch(asked), strict=True):
        seed = result.provenance.sampling.seed
        again = engine.generate(
            request.prompt, raw=True, model=request.model, backend="mlx", temperature=1.0, max_tokens=8, seed=seed
        )
        assert again.tokens == result.tokens


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_prompt_fails_alone(engine, checkpoint: Maker, backend):
    prompts = ["good", "", "long " * 600, [{"role": "nobody", "content": "x"}], "also good"]
    first, empty, long, role, last = engine.batch(
        prompts, model=str(checkpoint("qwen3")), backend=backend, max_tokens=4
    )
    assert isinstance(empty, EmptyPromptError)
    assert isinstance(long, PromptError)
    assert "512" in str(long)
    assert isinstance(role, PromptError)
    assert "nobody" in str(role)
    assert [len(result.tokens) for result in (first, last)] == [4, 4]


def test_what_is_wrong_for_all_is_raised_at_once(engine):
    with pytest.raises(OptionError, match="list of prompts"):
        engine.batch("one string")
    with pytest.raises(OptionError, match="max_tokens"):
        engine.batch(["a", "b"], max_tokens=0)
    with pytest.raises(OptionError, match="no_such_option"):
        engine.batch([], no_such_option=1)
    assert engine.batch([]) == []


def test_rows_of_different_models_and_backends_come_back_in_order(engine, checkpoint: Maker):
    one, other = (
        requests(checkpoint(family), backend, 4) for family, backend in (("qwen3", "torch"), ("llama", "mlx"))
    )
    mixed = [request for pair in zip(one, other, strict=True) for request in pair]
    assert said(engine.batch(mixed)) == said(alone(engine, mixed))
    missing, found = engine.batch([Request.of("x", model="no-such-model-here", backend="torch"), one[0]])
    assert isinstance(missing, MlxnbError)
    assert "no-such-model-here" in str(missing)
    assert isinstance(found, Result)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancel_keeps_what_is_finished_and_the_text_so_far(engine, checkpoint: Maker, backend):
    asked = [
        *requests(checkpoint("qwen3"), backend, 2, max_tokens=2),
        *requests(checkpoint("qwen3"), backend, 4, max_tokens=400),
    ]
    expected = alone(engine, asked[:2])
    job = engine.submit_batch(asked)
    seen = []
    for index, _ in job:
        seen.append(index)
        if len(seen) == 2:
            while job.progress().tokens < 20:
                job.wait(0.01)
            job.cancel()
    results = job.results()
    assert sorted(seen) == list(range(6))
    assert set(seen[:2]) == {0, 1}
    assert said(results[:2]) == said(expected)
    assert [result.finish_reason for result in results[2:]] == ["interrupted"] * 4
    assert all(0 < len(result.tokens) < 400 for result in results[2:])
    assert list(job) == []  # they were given once
    assert job.progress()[:2] == (6, 6)
    assert engine.status().queued == 0
    assert engine.status().running is None


def test_a_batch_that_waits_is_cancelled_at_once(engine, checkpoint: Maker):
    busy, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        busy.wait(30)

    engine.later(hold)
    started.wait(30)
    job = engine.submit_batch(requests(checkpoint("qwen3"), "torch", 3))
    job.cancel()
    assert [result.finish_reason for result in job.results()] == ["interrupted"] * 3
    busy.set()
    assert isinstance(engine.batch(requests(checkpoint("qwen3"), "torch", 1))[0], Result)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "seed": 5}])
def test_where_memory_runs_out_in_a_step_fewer_go_on_and_all_answer(
    engine, checkpoint: Maker, monkeypatch, backend, sampling
):
    asked = requests(checkpoint("qwen3"), backend, 6, max_tokens=12, **sampling)
    expected = alone(engine, asked)
    kind, steps, most = BACKENDS[backend], [0], []
    step = kind.step

    def short(self: Any) -> Any:
        steps[0] += 1
        if steps[0] == 5:
            raise RuntimeError("[metal::malloc] Attempting to allocate more than there is: out of memory")
        most.append((steps[0], len(self.members)))
        return step(self)

    monkeypatch.setattr(kind, "step", short)
    many = engine.batch(asked)
    assert said(many) == said(expected)
    assert max(rows for at, rows in most if at > 5) == 3
    assert all(any("memory ran short with 6 rows at once" in note for note in r.provenance.notes) for r in many)
    assert all(len(result.timings.token_times) == 12 for result in many)


def test_where_memory_runs_out_as_a_row_joins_it_waits(engine, checkpoint: Maker, monkeypatch):
    import torch

    asked = requests(checkpoint("qwen3"), "torch", 5)
    expected, join, joins = alone(engine, asked), TorchBatch.join, [0]

    def short(self: Any, member: Any) -> Any:
        joins[0] += 1
        if joins[0] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return join(self, member)

    monkeypatch.setattr(TorchBatch, "join", short)
    many = engine.batch(asked)
    assert said(many) == said(expected)
    assert any("waited until there was room" in note for note in notes(many))


def test_a_step_that_breaks_fails_those_in_the_batch_with_their_text(engine, checkpoint: Maker, monkeypatch):
    step, steps = TorchBatch.step, [0]

    def breaks(self: Any) -> Any:
        steps[0] += 1
        if steps[0] == 4:
            raise RuntimeError("the driver went away")
        return step(self)

    monkeypatch.setattr(TorchBatch, "step", breaks)
    monkeypatch.setattr(batch_run, "MOST_ROWS", 2)
    many = engine.batch(requests(checkpoint("qwen3"), "torch", 4, max_tokens=9))
    assert [type(part) for part in many] == [GenerationError, GenerationError, Result, Result]
    assert all("the driver went away" in str(error) for error in many[:2])
    assert many[0].partial.tokens
    assert len(many[2].tokens) == 9


def test_rows_at_once_follow_the_free_memory(engine, checkpoint: Maker, monkeypatch):
    asked = requests(checkpoint("qwen3"), "torch", 6, max_tokens=6)
    expected, step, rows = alone(engine, asked), TorchBatch.step, []

    def seen(self: Any) -> Any:
        rows.append(len(self.members))
        return step(self)

    monkeypatch.setattr(TorchBatch, "step", seen)
    model = engine.call(lambda: engine._models.get(str(checkpoint("qwen3")), "torch")).model
    room = max(model.needed(request) for request in asked) * 5  # half of it is for two rows
    held = TorchBatch.nbytes
    monkeypatch.setattr(TorchBatch, "nbytes", lambda self: 0)
    monkeypatch.setattr(batch_run.hardware, "memory_free", lambda: room)
    assert said(engine.batch(asked)) == said(expected)
    assert max(rows) == 2
    monkeypatch.setattr(TorchBatch, "nbytes", held)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_repeated_batch_comes_from_the_cache_and_shared_prefixes_are_computed_once(
    caching, checkpoint: Maker, backend
):
    shared = "the same long document for all of them " * 8
    options = {"model": str(checkpoint("qwen3")), "backend": backend, "raw": True, "max_tokens": 6}
    prompts = [f"{shared} {i}" for i in range(5)]
    first = caching.batch(prompts, **options)
    assert not any(result.cached for result in first)
    reused = [result.provenance.reused_tokens for result in first]
    assert reused[0] == 0
    assert all(count > 40 for count in reused[1:])
    again = caching.batch(prompts, **options)
    assert all(result.cached for result in again)
    assert [result.tokens for result in again] == [result.tokens for result in first]
    assert caching.generate(prompts[2], **options).cached
    fresh = Engine(caching=False)
    assert said(fresh.batch(prompts, **options)) == said(first)
    fresh.close()


def test_a_quantised_cache_is_not_batched_on_mlx(engine, checkpoint: Maker):
    (result,) = engine.batch(["hello"], model=str(checkpoint("qwen3")), backend="mlx", kv_bits=8, max_tokens=3)
    assert result.provenance.kv_bits == 8
    assert any("quantised KV cache" in note for note in result.provenance.notes)


def test_a_backend_without_batches_runs_one_by_one(scripted):
    engine, backend = scripted
    many = engine.batch(["a", "b"], backend="scripted")
    assert [result.text for result in many] == ["Hello, world."] * 2
    assert len(backend.requests) == 2
    assert any(note.startswith("not batched: the scripted backend") for note in notes(many))


def test_leaving_the_loop_cancels_the_rest(engine, checkpoint: Maker):
    job = engine.submit_batch(
        [
            *requests(checkpoint("qwen3"), "torch", 1, max_tokens=1),
            *requests(checkpoint("qwen3"), "torch", 3, max_tokens=400),
        ]
    )
    assert isinstance(job, BatchJob)
    for index, _ in job:
        assert index == 0
        break
    assert [result.finish_reason for result in job.results()][1:] == ["interrupted"] * 3


def test_closing_the_engine_settles_a_batch(checkpoint: Maker):
    engine = Engine(caching=False)
    job = engine.submit_batch(requests(checkpoint("qwen3"), "torch", 4, max_tokens=400))
    engine.close()
    assert all(isinstance(part, Result) and part.finish_reason == "interrupted" for part in job.results())


def test_a_model_is_shown_to_be_batchable_before_it_is(engine, checkpoint: Maker, monkeypatch):
    """A model whose rows disturb one another is refused by what came out, not by its name."""
    from mlxnb.backends import torch_batch, torch_slots

    model = engine.call(lambda: engine._models.get(str(checkpoint("llama")), "torch")).model
    assert engine.call(lambda: torch_batch.batchable(model.model))
    mask = torch_slots.Slots.mask
    monkeypatch.setattr(torch_slots.Slots, "mask", lambda self, window, dtype: 0 * mask(self, window, dtype))
    refused = engine.call(lambda: torch_batch.batchable(model.model))
    assert not refused
    assert "apart" in refused.reason
