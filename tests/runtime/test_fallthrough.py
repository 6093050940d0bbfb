"""A chain goes on where a backend fails before the first token, says so, and never glues two answers together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlxnb.backends.base import Cancelled, Watch
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import (
    BackendError,
    DownloadError,
    EmptyPromptError,
    GenerationError,
    ModelNotFoundError,
    ModelTooLargeError,
    OptionError,
    PromptTooLongError,
    UnsupportedModelError,
)
from mlxnb.result import Result
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend
from tests.tiny import Maker

TEXT = "Hello, world."
BEFORE_A_TOKEN = ("find", "load", "stream", "prefill", "decode")
FAULTS: dict[str, Callable[[], Exception]] = {
    "of a server": lambda: BackendError("The server hung up.", "Start it again."),
    "of a model": lambda: UnsupportedModelError("No such architecture.", "Take another."),
    "of a library": lambda: RuntimeError("the scripted driver fell over"),
    "of memory": lambda: RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
}


@contextmanager
def chain(*backends: ScriptedBackend, caching: bool = False) -> Iterator[Engine]:
    made = Engine({backend.name: backend for backend in backends}, caching=caching)
    yield made
    made.close()


def broken(place: str, fault: Callable[[], BaseException], name: str = "first") -> ScriptedBackend:
    return ScriptedBackend(["never ", "seen"], name=name, fails={place: fault})


@pytest.mark.parametrize("asked", ["auto", "first,second"])
@pytest.mark.parametrize("place", BEFORE_A_TOKEN)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_the_first_token_sends_the_request_on(asked: str, place: str, fault: str) -> None:
    second = ScriptedBackend(name="second")
    with chain(broken(place, FAULTS[fault]), second) as engine:
        job = engine.stream("go", backend=asked)
        assert "".join(chunk.text for chunk in job) == TEXT
        result = job.result()
        # ... and what was there before is there after it.
        assert engine.generate("again", backend="second").provenance.passed_over == ()
    [why] = result.provenance.passed_over
    assert (result.text, result.provenance.backend, why.subject) == (TEXT, "second", "first")
    assert str(FAULTS[fault]()).split(".")[0] in why.reason
    assert second.loads == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", BEFORE_A_TOKEN)
@pytest.mark.parametrize(
    "options", [{"backend": "first"}, {"backend": "first,second", "strict": True}, {"strict": True}]
)
def test_a_backend_that_is_named_alone_and_a_strict_request_go_nowhere(
    place: str, fault: str, options: dict[str, Any]
) -> None:
    second = ScriptedBackend(name="second")
    wrong = (BackendError, UnsupportedModelError, ModelTooLargeError)
    with chain(broken(place, FAULTS[fault]), second) as engine, pytest.raises(wrong) as caught:
        engine.generate("go", **options)
    assert str(FAULTS[fault]()).split(".")[0] in str(caught.value)
    assert (second.loads, second.requests) == (0, [])
    assert getattr(caught.value, "partial", None) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_after_the_first_token_is_an_error_with_the_text_so_far(fault: str) -> None:
    second = ScriptedBackend(name="second")
    with chain(broken("decode 1", FAULTS[fault]), second) as engine:
        job = engine.stream("go")
        seen: list[str] = []
        with pytest.raises(GenerationError) as caught:
            seen.extend(chunk.text for chunk in job)
    assert seen == ["never "]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "never "
    assert caught.value.partial.finish_reason == "interrupted"
    assert "on first failed" in caught.value.message
    assert "`.partial`" in caught.value.remedy
    assert second.requests == []


def test_a_prompt_that_turns_out_too_long_later_leaves_the_text_so_far() -> None:
    first = broken("decode 1", lambda: PromptTooLongError("Too long."))
    with chain(first) as engine, pytest.raises(GenerationError, match="Too long") as caught:
        engine.generate("go")
    assert isinstance(caught.value.__cause__, PromptTooLongError)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "never "


def test_a_thought_counts_as_a_token() -> None:
    first = ScriptedBackend(["never"], thinking=["hm"], name="first", fails={"decode 1": FAULTS["of a library"]})
    second = ScriptedBackend(name="second")
    with chain(first, second) as engine, pytest.raises(GenerationError) as caught:
        engine.generate("go")
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.partial.thinking) == ("", "hm")
    assert second.requests == []


@pytest.mark.parametrize("place", ["stream", "prefill", "decode"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda: PromptTooLongError("Too long."),
        lambda: OptionError("No.", "Leave it."),
        lambda: EmptyPromptError("Empty."),
    ],
)
def test_what_is_wrong_with_the_request_is_wrong_everywhere(place: str, fault: Callable[[], Exception]) -> None:
    second = ScriptedBackend(name="second")
    with chain(broken(place, fault), second) as engine, pytest.raises(type(fault())):
        engine.generate("go")
    assert second.requests == []


def test_a_damaged_download_is_no_fault_of_a_backend() -> None:
    second = ScriptedBackend(name="second")
    first = broken("find", lambda: DownloadError("Half of it came."))
    with chain(first, second) as engine, pytest.raises(DownloadError, match="Half of it came"):
        engine.generate("go")
    assert second.loads == 0


def test_what_was_cancelled_stays_cancelled() -> None:
    first = ScriptedBackend(prefill=5.0, name="first", fails={"prefill": FAULTS["of a library"]})
    second = ScriptedBackend(name="second")
    with chain(first, second) as engine:
        job = engine.stream("go")
        while job.state != "prefill":
            time.sleep(0.001)
        job.cancel()
        assert job.result().finish_reason == "interrupted"
    assert second.requests == []
    first = broken("stream", Cancelled)
    with chain(first, second) as engine:
        assert engine.generate("go").finish_reason == "interrupted"
    assert second.requests == []


def test_a_request_is_cancelled_on_the_backend_that_it_was_sent_on_to() -> None:
    second = ScriptedBackend(["word "] * 1000, delay=0.005, name="second")
    with chain(broken("decode", FAULTS["of a server"]), second) as engine:
        job = engine.stream("go", max_tokens=1000)
        for _ in job:
            break
        result = job.result()
    assert result.finish_reason == "interrupted"
    assert result.provenance.passed_over[0].subject == "first"


def test_nothing_of_the_failed_try_is_left_in_the_result() -> None:
    class Leaves(ScriptedBackend):
        def fail(self, place: str) -> None:
            if place == "prefill":
                raise BackendError("It broke.")

    class Model:
        def __init__(self, model: Any) -> None:
            self.model, self.info = model, model.info

        def stream(self, request: Any, watch: Watch) -> Iterator[Any]:
            watch.notes.append("a note of the failed try")
            watch.seed, watch.kv_bits, watch.reused_tokens, watch.peak_memory = 7, 4, 3, 2
            watch.attention_calls["failed"] = 1
            watch.token_times.append(0.0)
            watch.afterwards.append(lambda: left.append("kept"))
            yield from self.model.stream(request, watch)

        def close(self) -> None:
            self.model.close()

    class First(Leaves):
        def load(self, source: object, *precision: Any) -> Any:
            return Model(super().load(source, *precision))

    left: list[str] = []
    with chain(First(name="first"), ScriptedBackend(name="second"), caching=True) as engine:
        result = engine.generate("go", cache="off")
    assert left == []
    p = result.provenance
    assert p.notes == ()
    assert (p.sampling.seed, p.kv_bits, p.reused_tokens, result.peak_memory) == (None, None, 0, None)
    assert p.attention_calls == ()
    assert len(result.timings.token_times) == len(result.tokens) == 4


def test_every_backend_that_failed_is_told_in_order() -> None:
    absent = ScriptedBackend(name="absent", decision=Absent("absent", "not installed", "pip install it"))
    one = broken("load", FAULTS["of a model"], "one")
    two = broken("prefill", FAULTS["of a server"], "two")
    three = broken("find", FAULTS["of a library"], "three")
    with chain(absent, one, two, three, ScriptedBackend(name="four")) as engine:
        result = engine.generate("go")
        again = engine.generate("go")
    assert [each.subject for each in result.provenance.passed_over] == ["absent", "one", "two", "three"]
    assert again.provenance.passed_over == result.provenance.passed_over
    assert (one.loads, two.loads, three.loads) == (0, 1, 0)


def test_a_chain_that_fails_whole_tells_of_each() -> None:
    one, two = broken("prefill", FAULTS["of a server"], "one"), broken("decode", FAULTS["of a library"], "two")
    with chain(one, two) as engine, pytest.raises(GenerationError) as caught:
        engine.generate("go")
    message = caught.value.message
    assert message.startswith("No backend here could answer with pocket. one: The server hung up; ")
    assert message.endswith("; two: it failed before the first token: RuntimeError: the scripted driver fell over.")
    assert caught.value.partial is None
    with chain(one, broken("load", FAULTS["of a model"], "two")) as engine, pytest.raises(GenerationError) as caught:
        engine.generate("go")
    assert "one: The server hung up; " in caught.value.message
    assert "No such architecture." in caught.value.message
    assert caught.value.remedy == "Take another."


def test_a_model_in_memory_that_fails_leads_to_those_before_it_in_the_chain() -> None:
    first, second = ScriptedBackend(name="first"), broken("prefill", FAULTS["of a server"], "second")
    with chain(first, second) as engine:
        engine.load("pocket", "second")
        result = engine.generate("go")
    assert (result.provenance.backend, [each.subject for each in result.provenance.passed_over]) == (
        "first",
        ["second"],
    )


def test_a_draft_that_is_not_there_is_the_persons_mistake() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    engine = Engine(caching=False)
    with pytest.raises(ModelNotFoundError, match="no-such-draft"):
        engine.generate("go", draft="no-such-draft", backend="torch,mlx")
    assert [info.backend for info in engine.models()] == ["torch"]
    engine.close()


def failing_once(model: Any, name: str, times: int = 1) -> None:
    """A method of a model in memory that breaks down when it is called, so many times."""
    really, left = getattr(model, name), [times]

    def fails(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("the driver fell over")
        return really(*args, **kwargs)

    setattr(model, name, fails)


@pytest.fixture
def real() -> Iterator[Engine]:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    made = Engine(caching=False)
    yield made
    made.close()


def test_a_real_request_goes_on_from_torch_to_mlx(real: Engine) -> None:
    expected = real.generate("Where is sqrt?", backend="mlx")
    real.call_with("pocket", lambda model: failing_once(model, "tokens"), "torch")
    result = real.generate("Where is sqrt?", backend="torch,mlx")
    assert (result.text, result.provenance.backend) == (expected.text, "mlx")
    assert "the driver fell over" in result.provenance.passed_over[0].reason
    assert real.generate("Where is sqrt?", backend="torch,mlx").provenance.passed_over == ()


def test_rows_of_a_batch_that_fail_go_on_together(real: Engine, checkpoint: Maker) -> None:
    model, prompts = str(checkpoint("qwen3")), [f"row {i}" for i in range(6)]
    common: dict[str, Any] = {"model": model, "raw": True, "max_tokens": 6}
    expected = {backend: real.batch(prompts, backend=backend, **common) for backend in ("torch", "mlx")}
    real.call_with(model, lambda loaded: failing_once(loaded, "member", times=2), "torch")
    many = real.batch(prompts, backend="torch,mlx", **common)
    assert all(isinstance(each, Result) for each in many), many
    results = [each for each in many if isinstance(each, Result)]
    assert [each.provenance.backend for each in results] == ["mlx", "mlx", "torch", "torch", "torch", "torch"]
    for i, result in enumerate(results):
        right = expected[result.provenance.backend][i]
        assert isinstance(right, Result)
        assert result.text == right.text
        assert len(result.provenance.passed_over) == (result.provenance.backend == "mlx")


def test_a_batch_whose_step_breaks_keeps_what_it_has(real: Engine, checkpoint: Maker) -> None:
    """Its rows have a token by then: each ends with what it has, and no other backend is asked."""
    model = str(checkpoint("qwen3"))

    def breaks(loaded: Any) -> None:
        really = loaded.new_batch

        def new_batch() -> Any:
            batch = really()
            failing_once(batch, "step")
            return batch

        loaded.new_batch = new_batch

    real.call_with(model, breaks, "torch")
    many = real.batch(["a", "b"], model=model, raw=True, max_tokens=6, backend="torch,mlx")
    for each in many:
        assert isinstance(each, GenerationError)
        assert each.partial is not None
        assert len(each.partial.tokens) == 1


def test_a_batch_of_scripted_rows_goes_on_row_by_row() -> None:
    first, second = broken("prefill", FAULTS["of a server"]), ScriptedBackend(name="second")
    with chain(first, second) as engine:
        many = engine.batch(["a", "b", "c"])
        results = [each for each in many if isinstance(each, Result)]
        assert [each.text for each in results] == [TEXT] * 3
        assert [[why.subject for why in each.provenance.passed_over] for each in results] == [["first"]] * 3
        failed = engine.batch(["a", "b"], backend="first")
    assert [str(each) for each in failed] == ["The server hung up. Start it again."] * 2


def test_a_row_that_waits_for_its_next_backend_can_be_cancelled(real: Engine, checkpoint: Maker) -> None:
    model = str(checkpoint("qwen3"))
    cancelled = threading.Event()
    real.call_with(model, lambda loaded: failing_once(loaded, "member"), "torch")
    batch = real.submit_batch(["a", "b"], model=model, raw=True, max_tokens=40, backend="torch,mlx")
    row = batch.jobs[0]

    def cancel(_: Any) -> None:
        row.cancel()
        cancelled.set()

    batch.jobs[1].on_done(cancel)  # the other row ends first: this one waits for its batch on mlx
    first, second = batch.results()
    assert cancelled.wait(5)
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert first.finish_reason == "interrupted"
    assert first.provenance.passed_over == (
        Rejected("torch", "it failed before the first token: RuntimeError: the driver fell over"),
    )


def test_an_answer_that_was_kept_tells_of_the_way_it_was_found_now(
    checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    engine, model = Engine(), str(checkpoint("llama"))
    options: dict[str, Any] = {"model": model, "raw": True, "max_tokens": 5}
    engine.call_with(model, lambda loaded: failing_once(loaded, "tokens"), "torch")
    first = engine.generate("kept", backend="torch,mlx", **options)
    gone = Absent("torch", "not installed any more")
    monkeypatch.setattr(engine.backends["torch"], "available", lambda: gone)
    again = engine.generate("kept", backend="torch,mlx", **options)
    engine.close()
    assert "fell over" in first.provenance.passed_over[0].reason
    assert (again.cached, again.text, again.provenance.passed_over) == (True, first.text, (gone,))
