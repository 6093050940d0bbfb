"""Many prompts at once: the answers of one by one, in order, whatever joins, leaves, fails or is cancelled."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxnb.backends import select
from mlxnb.backends.mlx_batch import MlxBatch
from mlxnb.backends.row import Row
from mlxnb.backends.torch_batch import TorchBatch
from mlxnb.backends.torch_sampling import TorchSampler
from mlxnb.backends.torch_slots import Slots, in_grains
from mlxnb.errors import BackendError, EmptyPromptError, GenerationError, MlxnbError, OptionError, PromptError
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


def test_a_person_says_how_many_rows_at_once(engine, checkpoint: Maker, monkeypatch):
    asked, most, step = requests(checkpoint("qwen3"), "torch", 5), [0], TorchBatch.step

    def counted(self: Any) -> Any:
        most[0] = max(most[0], len(self.members))
        return step(self)

    monkeypatch.setattr(TorchBatch, "step", counted)
    expected = said(engine.batch(asked))
    assert most[0] > 2
    monkeypatch.setenv("MLX_BATCH_SIZE", "2")
    most[0] = 0
    assert said(engine.batch(asked)) == expected
    assert most[0] == 2
    monkeypatch.setenv("MLXNB_BATCH_SIZE", "many")
    with pytest.raises(OptionError, match="MLXNB_BATCH_SIZE is 'many'"):
        engine.batch(asked)


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
    longest = in_grains(max(model.longest(request) for request in asked))
    room = model.size(asked[0], longest) * 5  # half of it is for two rows
    monkeypatch.setattr(TorchBatch, "nbytes", lambda self: 0)
    monkeypatch.setattr(batch_run.hardware, "memory_free", lambda: room)
    assert said(engine.batch(asked)) == said(expected)
    assert max(rows) == 2


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


# What one row does is its own affair.


@contextmanager
def held_up(engine: Engine) -> Iterator[None]:
    """The engine's thread waits, so that a batch can be looked at before it begins."""
    go = threading.Event()
    engine.later(lambda: go.wait(30))
    yield
    go.set()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    seen: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    return seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_callback_that_fails_hurts_no_other_row(engine, checkpoint: Maker, reported, backend):
    asked = requests(checkpoint("qwen3"), backend, 3)
    asked.append(Request.of("long " * 600, raw=True, model=str(checkpoint("qwen3")), backend=backend))
    expected = alone(engine, asked[:3])
    with held_up(engine):
        job = engine.submit_batch(asked)
        heard: list[Any] = []
        for one in (job.jobs[0], job.jobs[3]):
            one.on_done(lambda _: 1 / 0)
            one.on_done(heard.append)  # behind the one that fails
    results = job.results()
    assert said(results[:3]) == said(expected)
    assert isinstance(results[3], PromptError)
    engine.call(lambda: None)
    assert len(heard) == 2
    assert [type(err) for err in reported] == [ZeroDivisionError] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_whose_text_fails_fails_alone(engine, checkpoint: Maker, monkeypatch, backend):
    asked = requests(checkpoint("qwen3"), backend, 3, max_tokens=9)
    expected, feed, fed = alone(engine, asked), Row.feed, []

    def breaks(self: Row, token: int) -> Any:
        fed.append(self)
        if len(fed) > 1 and self is fed[1] and fed.count(self) == 3:
            raise ValueError("no such character")
        return feed(self, token)

    monkeypatch.setattr(Row, "feed", breaks)
    first, second, third = engine.batch(asked)
    failed = [part for part in (first, second, third) if not isinstance(part, Result)]
    assert len(failed) == 1
    assert isinstance(failed[0], GenerationError)
    assert "no such character" in str(failed[0])
    assert len(failed[0].partial.tokens) == 2
    whole = [(part, one) for part, one in zip((first, second, third), expected, strict=True) if part is not failed[0]]
    assert said([part for part, _ in whole]) == said([one for _, one in whole])


def test_a_model_is_not_unloaded_under_a_batch(checkpoint: Maker):
    engine, caught = Engine(caching=False), []
    asked = requests(checkpoint("qwen3"), "torch", 3)
    expected = alone(engine, asked)

    def unload(_: Any) -> None:
        try:
            engine.unload(str(checkpoint("qwen3")))
        except BackendError as err:
            caught.append(str(err))

    with held_up(engine):
        job = engine.submit_batch(asked)
        job.jobs[0].on_done(unload)
    assert said(job.results()) == said(expected)
    (message,) = caught
    assert "Unload it when the batch is done" in message
    assert len(engine.unload(str(checkpoint("qwen3")))) == 1
    engine.close()


def test_every_row_says_which_backend_computed_it(checkpoint: Maker):
    engine = Engine(caching=False)
    model = str(checkpoint("qwen3"))
    first, second = (name for name in select.automatic_order() if name in ("mlx", "torch"))
    engine.load(model, second)  # where `auto` takes it, and `strict` does not
    asked = [Request.of(f"{i} words", model=model, raw=True, max_tokens=3, strict=i == 1) for i in range(3)]
    assert [result.provenance.backend for result in engine.batch(asked)] == [second, first, second]
    engine.close()


def test_rows_that_turn_out_to_have_another_model_are_run_apart(engine, checkpoint: Maker, monkeypatch):
    """Whatever the requests say: what counts is the model that each was given."""
    asked = requests(checkpoint("qwen3"), "torch", 4)
    others = requests(checkpoint("llama"), "torch", 4)
    expected = alone(engine, [asked[0], others[1], asked[2], others[3]])
    monkeypatch.setattr(batch_run, "by_model", lambda jobs: [list(jobs)])
    monkeypatch.setattr("mlxnb.runtime.answering.by_model", lambda jobs: [list(jobs)])
    assert said(engine.batch([asked[0], others[1], asked[2], others[3]])) == said(expected)


# What waits.


@pytest.mark.parametrize("ahead", ["rows", "alone"])
def test_a_row_that_waits_is_queued_and_cancelled_at_once(engine, checkpoint: Maker, monkeypatch, ahead):
    monkeypatch.setattr(batch_run, "MOST_ROWS", 1)
    draft = "lookup" if ahead == "alone" else None
    asked = [
        *requests(checkpoint("qwen3"), "torch", 1, max_tokens=400),
        *requests(checkpoint("qwen3"), "torch", 2, max_tokens=400, draft=draft),
    ]
    if ahead == "alone":
        asked.reverse()  # a guessed answer is set aside first, and runs when the batch is done
    running = asked.index(next(one for one in asked if one.draft is None))
    job = engine.submit_batch(asked)
    while job.progress().tokens < 3:
        time.sleep(0.002)
    waiting = [one for i, one in enumerate(job.jobs) if i != running]
    assert engine.status().queued == 2
    for one in waiting:
        one.cancel()
        assert one.wait(0)
        assert one.answer().finish_reason == "interrupted"
    assert job.jobs[running].state == "decode"
    job.cancel()
    job.results()
    engine.call(lambda: None)
    assert engine._jobs == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_waits_for_the_second_time_ends_with_its_text(engine, checkpoint: Maker, monkeypatch, backend):
    asked = requests(checkpoint("qwen3"), backend, 2, max_tokens=400)
    kind, steps, step = BACKENDS[backend], [0], BACKENDS[backend].step
    waits, go = threading.Event(), threading.Event()

    def short(self: Any) -> Any:
        steps[0] += 1
        if steps[0] == 6:
            raise MemoryError
        if steps[0] == 8:
            waits.set()
            go.wait(30)
        return step(self)

    monkeypatch.setattr(kind, "step", short)
    job = engine.submit_batch(asked)
    assert waits.wait(30)
    job.jobs[1].cancel()
    assert job.jobs[1].wait(0)
    result = job.jobs[1].answer()
    job.cancel()
    go.set()
    assert result.finish_reason == "interrupted"
    assert 0 < len(result.tokens) < 400
    assert job.results()[1] is result


def test_a_generator_of_stop_strings_is_for_all(engine, checkpoint: Maker):
    options = {"model": str(checkpoint("qwen3")), "backend": "torch", "raw": True, "max_tokens": 20}
    prompts = ["once upon", "there was"]
    stop = engine.generate(prompts[0], **options).text[3]
    many = engine.batch(prompts, stop=(text for text in [stop]), **options)
    assert said(many) == said(engine.batch(prompts, stop=[stop], **options))
    assert [result.provenance.stop for result in many] == [(stop,)] * 2


def test_two_loops_share_what_finishes_and_cancel_nothing(engine, checkpoint: Maker):
    asked = [
        *requests(checkpoint("qwen3"), "torch", 1, max_tokens=2),
        *requests(checkpoint("qwen3"), "torch", 1, max_tokens=200),
    ]
    expected = [len(result.tokens) for result in alone(engine, asked)]
    job, got = engine.submit_batch(asked), []
    loops = [threading.Thread(target=lambda: got.extend(job)) for _ in range(2)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(60)
    assert sorted((index, len(result.tokens)) for index, result in got) == list(enumerate(expected))
    assert {result.finish_reason for _, result in got} == {"length"}


class InterruptedOnce:
    """A queue; whoever waits first is interrupted."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._interrupted = inner, False
        self.put = inner.put

    def get(self, timeout: float) -> Any:
        if not self._interrupted:
            self._interrupted = True
            raise KeyboardInterrupt
        return self._inner.get(timeout=timeout)


def test_an_interrupt_while_a_loop_waits_cancels_and_loses_nothing(engine, checkpoint: Maker):
    with held_up(engine):
        job = engine.submit_batch(requests(checkpoint("qwen3"), "torch", 2, max_tokens=400))
        job._finished = InterruptedOnce(job._finished)
        with pytest.raises(KeyboardInterrupt):
            list(job)
    assert sorted((index, result.finish_reason) for index, result in job) == [(0, "interrupted"), (1, "interrupted")]


@pytest.mark.parametrize("many", [True, False])
def test_iterating_on_the_engines_thread_is_refused(engine, checkpoint: Maker, many):
    (request,) = requests(checkpoint("qwen3"), "torch", 1)

    def inside() -> str:
        job: Any = engine.submit_batch([request]) if many else engine.submit(request)
        try:
            return str(list(job))
        except RuntimeError as err:
            return str(err)

    said_there: list[str] = []
    thread = threading.Thread(target=lambda: said_there.append(engine.call(inside)), daemon=True)
    thread.start()
    thread.join(20)
    assert said_there == ["A callback of the engine cannot wait for a generation: submit it and return."]


# Memory.


def breaking(monkeypatch: pytest.MonkeyPatch, kind: type, at: int, error: Exception) -> None:
    """The step of a batch fails once."""
    step, steps = kind.step, [0]  # type: ignore[attr-defined]

    def breaks(self: Any) -> Any:
        steps[0] += 1
        if steps[0] == at:
            raise error
        return step(self)

    monkeypatch.setattr(kind, "step", breaks)


def room_of(slots: Slots) -> tuple[int, int]:
    """Slots and positions of the buffers, the same in every layer."""
    (shape,) = {(layer.keys.shape[0], layer.keys.shape[-2]) for layer in slots.layers}
    return shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["qwen3", "gemma3", "mistral-window"])
def test_a_batch_takes_what_it_was_planned_to_take(engine, checkpoint: Maker, monkeypatch, backend, family):
    """At every join the memory that the batch comes to is told, also for layers that see a window."""
    asked = requests(checkpoint(family), backend, 6, max_tokens=100)
    kind, plans, held = BACKENDS[backend], [], []
    after, step = kind.after, kind.step

    def planned(self: Any, tokens: int) -> int:
        plans.append(after(self, tokens))
        return plans[-1]

    def stepped(self: Any) -> Any:
        given = step(self)
        held.append(self.nbytes())
        return given

    monkeypatch.setattr(kind, "after", planned)
    monkeypatch.setattr(kind, "step", stepped)
    engine.batch(asked)
    assert len(plans) == 5
    assert max(held) <= max(plans) <= 2 * max(held)


def test_short_rows_do_not_pay_for_a_long_one_that_left(engine, checkpoint: Maker, monkeypatch):
    model, seen = str(checkpoint("qwen3")), []
    step = TorchBatch.step

    def stepped(self: Any) -> Any:
        given = step(self)
        seen.append((len(self.members), *room_of(self._slots)))
        return given

    monkeypatch.setattr(TorchBatch, "step", stepped)
    monkeypatch.setattr(batch_run, "MOST_ROWS", 9)
    common = {"raw": True, "model": model, "backend": "torch"}
    asked = [
        Request.of("word " * 200, max_tokens=5, **common),
        *(Request.of(f"{i} w", max_tokens=10 + i, **common) for i in range(7)),
        Request.of("the last", max_tokens=40, **common),
    ]
    expected = alone(engine, asked)
    seen.clear()
    assert said(engine.batch(asked)) == said(expected)
    assert seen[0][0] == 9
    assert seen[0][2] > 128
    assert seen[6][2] == 128
    assert seen[-1][:2] == (1, 2)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=12), data=st.data())
def test_slots_keep_their_rows_whoever_leaves(lengths, data):
    import torch
    from transformers import DynamicCache

    rows = []
    slots: Slots | None = None
    for length in lengths:
        state = DynamicCache()
        for layer in range(2):
            state.update(torch.rand(1, 2, length, 4), torch.rand(1, 2, length, 4), layer)
        slots = slots or Slots(state.layers)
        slots.join(state)
        rows.append(state)
    assert slots is not None
    while rows:
        gone = data.draw(st.integers(0, len(rows) - 1))
        last = rows.pop()
        if gone < len(rows):
            rows[gone] = last  # as `leave` says
        slots.leave(gone)
        if rows:
            slots.shrink(max(slots.lengths) + 1)
            plan = slots.size(len(rows), max(slots.lengths) + 1)
            assert plan == slots.nbytes()
        for slot, state in enumerate(rows):
            for own, layer in zip(slots.layers, state.layers, strict=True):
                assert torch.equal(own.keys[slot, :, : slots.lengths[slot]], layer.keys[0])
                assert torch.equal(own.values[slot, :, : slots.lengths[slot]], layer.values[0])


@pytest.mark.parametrize("at", [5, 9, 11])
def test_a_seeded_row_draws_the_same_where_memory_ran_out_beside_it(engine, checkpoint: Maker, monkeypatch, at):
    asked = requests(checkpoint("qwen3"), "torch", 3, max_tokens=14, temperature=1.0, seed=3)
    expected, draw, draws = alone(engine, asked), TorchSampler.__call__, [0]

    def short(self: Any, logits: Any, history: Any) -> int:
        draws[0] += 1
        if draws[0] == at:
            raise MemoryError
        return draw(self, logits, history)

    monkeypatch.setattr(TorchSampler, "__call__", short)
    many = engine.batch(asked)
    assert draws[0] > at
    assert said(many) == said(expected)
    assert any("memory ran short" in note for note in notes(many))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_row_reused_is_told_of_the_first_time(caching, checkpoint: Maker, monkeypatch, backend):
    asked = [
        Request.of(f"{text} words of this row " * 5, raw=True, model=str(checkpoint("qwen3")), backend=backend)
        for text in ("alpha", "one")
    ]
    expected = [result.timings.reused_tokens for result in caching.batch(asked)]
    caching.cache.clear()
    breaking(monkeypatch, BACKENDS[backend], 3, MemoryError())
    again = caching.batch(asked)
    assert all(any("memory ran short" in note for note in result.provenance.notes) for result in again)
    assert [result.timings.reused_tokens for result in again] == expected
    assert all(result.timings.reused_tokens < result.timings.prompt_tokens // 2 for result in again)


def test_where_rows_join_in_vain_it_is_tried_less_and_said_once(engine, checkpoint: Maker, monkeypatch):
    join, failed = TorchBatch.join, []

    def short(self: Any, member: Any) -> Any:
        if len(self.members) == 2:
            failed.append(len(self.members[0].made))
            raise MemoryError
        return join(self, member)

    monkeypatch.setattr(TorchBatch, "join", short)
    results = engine.batch(requests(checkpoint("qwen3"), "torch", 3, max_tokens=450))
    assert len(results[2].provenance.notes) == 1
    assert len(failed) == 3  # at once, after 128 steps, and after 256 more
    assert [failed[1] - failed[0], failed[2] - failed[1]] == [128, 256]


def test_what_was_of_one_run_is_not_replayed(caching, checkpoint: Maker, monkeypatch):
    options = {"model": str(checkpoint("qwen3")), "raw": True, "max_tokens": 4}
    (result,) = caching.batch(["hello you"], backend="mlx", kv_bits=8, **options)
    assert any(note.startswith("not batched") for note in result.provenance.notes)
    again = caching.generate("hello you", backend="mlx", kv_bits=8, **options)
    assert again.cached
    assert not any(note.startswith("not batched") for note in again.provenance.notes)
    breaking(monkeypatch, TorchBatch, 2, MemoryError())
    results = caching.batch(["alpha beta", "gamma delta"], backend="torch", **options)
    assert any("memory ran short" in note for note in notes(results))
    again = caching.generate("alpha beta", backend="torch", **options)
    assert again.cached
    assert not any("memory ran short" in note for note in again.provenance.notes)


def test_an_error_that_is_kept_holds_neither_model_nor_tensors(checkpoint: Maker, monkeypatch):
    engine, held, step = Engine(caching=False), [], TorchBatch.step

    def breaks(self: Any) -> Any:
        held.append(weakref.ref(self._slots))
        if len(held) == 4:
            raise RuntimeError("the driver went away") from ValueError("of its own")
        return step(self)

    monkeypatch.setattr(TorchBatch, "step", breaks)
    job = engine.submit_batch(requests(checkpoint("qwen3"), "torch", 2, max_tokens=30))
    results = job.results()
    assert [type(part) for part in results] == [GenerationError] * 2
    model = engine.call(lambda: weakref.ref(engine._models.get(str(checkpoint("qwen3")), "torch").model))
    engine.unload(str(checkpoint("qwen3")))
    gc.collect()
    assert model() is None
    assert all(slots() is None for slots in held)
    engine.close()


def test_a_model_that_found_no_memory_to_be_tried_is_tried_again(checkpoint: Maker, monkeypatch):
    from mlxnb.backends import torch_batch

    engine, asked = Engine(caching=False), requests(checkpoint("qwen3"), "torch", 3)
    inner = torch_batch._difference
    monkeypatch.setattr(torch_batch, "_difference", lambda model: (_ for _ in ()).throw(MemoryError("none left")))
    short = engine.batch(asked)
    assert notes(short) == {"not batched: memory ran out where that was tried"}
    monkeypatch.setattr(torch_batch, "_difference", inner)
    again = engine.batch(asked)
    assert said(again) == said(short)
    assert not any(note.startswith("not batched") for note in notes(again))
    monkeypatch.setattr(torch_batch, "_difference", lambda model: (_ for _ in ()).throw(KeyError("odd")))
    assert not any(note.startswith("not batched") for note in notes(engine.batch(asked)))  # a yes is remembered
    engine.close()


# What is said.


def test_what_no_prompt_can_be_asked_with_is_raised_once(engine):
    with pytest.raises(PromptError, match="raw"):
        engine.submit_batch(["a", "b"], raw=True, system="Be brief.")
    with pytest.raises(PromptError, match="system is a int"):
        engine.submit_batch(["a", "b"], system=5)
    with pytest.raises(OptionError, match="There is no backend 'nope'"):
        engine.submit_batch(["a", "b"], backend="nope")


def test_half_a_character_is_an_error_that_says_so(engine, checkpoint: Maker):
    options = {"model": str(checkpoint("qwen3")), "backend": "torch", "max_tokens": 2}
    bad, good = engine.batch(["a \ud800 b", "x"], **options)
    assert isinstance(bad, PromptError)
    assert "U+D800 at position 2" in str(bad)
    assert isinstance(good, Result)
    for prompt in ("\udfff", [{"role": "user", "content": "x \udfff"}]):
        with pytest.raises(PromptError, match=r"U\+DFFF"):
            engine.generate(prompt, raw=isinstance(prompt, str), **options)


def test_a_strict_row_that_cannot_be_batched_hears_what_to_do(engine, checkpoint: Maker):
    options = {"model": str(checkpoint("qwen3")), "strict": True, "max_tokens": 2}
    (guessed,) = engine.batch(["hi"], backend="torch", draft="lookup", **options)
    assert guessed.remedy == "Ask it by itself, or leave out draft."


@pytest.mark.parametrize("first", [2, 30])
def test_a_pin_after_a_batch_is_of_the_last_prompt(caching, checkpoint: Maker, first):
    model = str(checkpoint("qwen3"))
    common = {"raw": True, "model": model, "backend": "torch"}
    prompts = ["an answer of its own length", "the last"]
    asked = [Request.of(text, max_tokens=n, **common) for text, n in zip(prompts, (first, 32 - first), strict=True)]
    *_, last = caching.batch(asked)
    assert caching.cache.pin("it")
    caching.call(lambda: None)
    (pin,) = caching.cache.stats().pins
    assert pin.tokens == last.provenance.prompt_tokens
