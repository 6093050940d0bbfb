"""Loading, unloading, queueing, cancelling, failing and closing: what the one thread promises."""

import gc
import threading
import time
import traceback
import weakref

import pytest

import mlxnb
from mlxnb.backends.memory import release
from mlxnb.decision import Rejected
from mlxnb.errors import (
    BackendMissingError,
    EngineClosedError,
    GenerationError,
    ModelNotFoundError,
    OptionError,
    UnsupportedModelError,
)
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend


def test_everything_runs_on_one_thread_in_order(scripted):
    engine, _ = scripted
    seen = []

    class Spy(ScriptedBackend):
        def load(self, source, *precision):
            seen.append(threading.current_thread().name)
            return super().load(source, *precision)

    engine.backends["scripted"] = Spy(delay=0.01)
    jobs = [engine.stream(f"question {i}") for i in range(5)]
    assert [job.result().text for job in jobs] == ["Hello, world."] * 5
    assert [r.messages[-1].content for r in engine.backends["scripted"].requests] == [f"question {i}" for i in range(5)]
    assert set(seen) == {"mlxnb-engine"}
    assert len(seen) == 1


@pytest.fixture
def slow():
    backend = ScriptedBackend(["word "] * 1000, prefill=0.2, delay=0.005)
    engine = Engine({"scripted": backend})
    yield engine
    engine.close()


def wait_for(job, state):
    while job.state != state:
        assert job.state != "done", job.result()
        time.sleep(0.001)


def test_cancel_in_decode_keeps_the_text_so_far(slow):
    job = slow.stream("go", max_tokens=1000)
    wait_for(job, "decode")
    job.cancel()
    r = job.result()
    assert r.finish_reason == "interrupted"
    assert 0 < len(r.tokens) < 1000
    assert r.text == "word " * len(r.tokens)


def test_cancel_in_prefill(slow):
    slow.backends["scripted"].prefill = 5
    job = slow.stream("go", max_tokens=1000)
    wait_for(job, "prefill")
    job.cancel()
    r = job.result()
    assert (r.finish_reason, r.text, r.tokens) == ("interrupted", "", [])
    assert r.timings.ttft is None
    assert r.timings.prefill_rate is None


def test_cancel_while_queued_is_at_once(slow):
    first, second = slow.stream("go", max_tokens=1000), slow.stream("wait", max_tokens=1000)
    wait_for(first, "decode")
    assert second.state == "queued"
    assert slow.status().queued == 1
    second.cancel()
    assert second.result().finish_reason == "interrupted"
    assert first.state == "decode"
    first.cancel()
    assert first.result().text


def test_leaving_the_loop_early_cancels(slow):
    job = slow.stream("go", max_tokens=1000)
    for chunk in job:
        if chunk.text:
            break
    assert job.result().finish_reason == "interrupted"
    with slow.stream("again", max_tokens=1000) as again:
        pass
    assert again.result().finish_reason == "interrupted"


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_real_backends_cancel_in_decode_and_in_prefill(engine, checkpoint, backend, held_after):
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[backend])
    held_after(1)
    model = str(checkpoint("llama"))  # random weights: it goes on until it is stopped
    engine.load(model, backend=backend)
    job = engine.stream("go", model=model, backend=backend, max_tokens=400)
    for _ in job:
        break
    r = job.result()
    assert r.finish_reason == "interrupted"
    assert 1 <= len(r.tokens) < 400
    job = engine.stream("x = 1\n" * 90, model=model, backend=backend, raw=True, max_tokens=1)
    wait_for(job, "prefill")
    job.cancel()
    assert job.result().finish_reason in ("interrupted", "length")  # the one token may have been quicker
    # and the engine works on as if nothing had happened
    assert engine.generate("Where is sqrt?", backend=backend).finish_reason == "stop"


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_a_prefill_notices_between_two_chunks(engine, checkpoint, backend):
    """Deterministic: the flag is set before prefill, so that only the check inside it can end the job."""
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[backend])
    from mlxnb.backends import Watch
    from mlxnb.models import resolve
    from mlxnb.request import Request

    model = engine.backends[backend].load(resolve(str(checkpoint("llama"))))
    watch = Watch()
    watch.cancelled.set()
    assert list(model.stream(Request.of("word " * 200, raw=True), watch)) == []
    assert watch.finish_reason == "interrupted"
    assert watch.prefill_done < watch.prompt_tokens
    model.close()


def test_a_failure_in_the_middle_keeps_the_partial_text(scripted):
    engine, _ = scripted
    engine.backends["scripted"] = ScriptedBackend(fail_after=2)
    job = engine.stream("go")
    pieces = []
    with pytest.raises(GenerationError, match="the scripted driver fell over") as caught:
        pieces.extend(chunk.text for chunk in job)
    assert caught.value.partial.text == "Hello, "
    assert caught.value.partial.finish_reason == "interrupted"
    assert "fell over" in caught.value.partial.provenance.notes[-1]
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(GenerationError):
        job.result()


def test_fallback_is_written_down(monkeypatch):
    absent = ScriptedBackend(decision=Rejected("absent", "not here", "install it"))
    absent.name = "absent"
    engine = Engine({"absent": absent, "scripted": ScriptedBackend()})
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("absent", "scripted"))
    r = engine.generate("go")
    assert r.provenance.backend == "scripted"
    assert r.provenance.passed_over == (Rejected("absent", "not here", "install it"),)
    with pytest.raises(BackendMissingError, match="not here"):
        engine.generate("go", strict=True)
    with pytest.raises(BackendMissingError, match="install it"):
        engine.generate("go", backend="absent")
    with pytest.raises(OptionError, match="no backend 'quantum'"):
        engine.generate("go", backend="quantum")
    engine.close()


def test_no_backend_at_all(monkeypatch):
    absent = ScriptedBackend(decision=Rejected("scripted", "not here", "pip install it"))
    engine = Engine({"scripted": absent})
    with pytest.raises(BackendMissingError, match="pip install it"):
        engine.generate("go")
    engine.close()


def test_load_is_remembered_and_unload_forgets():
    engine = Engine()
    info = engine.load("pocket")
    assert info in engine.models()
    again = engine.generate("Where is sqrt?")
    assert again.timings.load_time == 0
    gone = engine.unload("pocket")
    assert {i.name for i in gone} == {"pocket"}
    assert engine.models() == []
    with pytest.raises(ModelNotFoundError, match="not loaded"):
        engine.unload("pocket")
    reloaded = engine.generate("Where is sqrt?")
    assert reloaded.text == again.text
    engine.close()


def big_checkpoint(folder):
    """A 160 MB model: large enough to see in the process's memory, small enough for any machine."""
    import torch
    import transformers

    from tests.tiny import SHAPE, add_tokenizer

    config = transformers.LlamaConfig(**{**SHAPE, "hidden_size": 1024, "intermediate_size": 2816, "head_dim": 64})
    transformers.LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return str(add_tokenizer(folder))


def test_unload_gives_the_memory_back(tmp_path):
    pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    import psutil

    path, process = big_checkpoint(tmp_path / "big"), psutil.Process()
    for backend in ("mlx", "torch"):
        engine = Engine()
        engine.generate("warm up", backend=backend, max_tokens=2)  # libraries are loaded now, and stay
        mx.clear_cache()  # what earlier tests left would be taken again, and the process would not grow
        release()
        before, active = process.memory_info().rss, mx.get_active_memory()
        info = engine.load(path, backend=backend)
        engine.generate("hello", model=path, backend=backend, max_tokens=4)
        during = process.memory_info().rss
        assert during - before > 0.8 * info.memory > 1e8
        engine.unload(path)
        gc.collect()
        after = process.memory_info().rss
        assert after - before < 0.2 * info.memory
        assert mx.get_active_memory() <= active + 1e6
        engine.close()


def test_closing(scripted):
    engine, _ = scripted
    job = engine.stream("go")
    engine.close()
    engine.close()
    assert job.wait(5)
    with pytest.raises(EngineClosedError):
        engine.generate("go")
    with pytest.raises(EngineClosedError):
        engine.load("pocket")


def test_the_process_has_one_engine_and_gets_a_new_one_after_close():
    first = mlxnb.engine()
    assert mlxnb.engine() is first
    first.close()
    second = mlxnb.engine()
    assert second is not first
    assert not second.closed


def test_many_threads_share_it(scripted):
    engine, _ = scripted
    results = []
    threads = [threading.Thread(target=lambda: results.append(engine.generate("go").text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["Hello, world."] * 8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_fails_does_not_end_the_thread(scripted):
    engine, _ = scripted
    job = engine.stream("go")
    job.on_done(lambda _: 1 / 0)
    job.wait()
    assert engine.generate("go").text == "Hello, world."


@pytest.fixture
def fetching(monkeypatch):
    """An engine whose model takes for ever to fetch, one progress report after the other."""
    started = threading.Event()

    def endless(name, progress=None, **_):
        for done in range(1_000_000):
            started.set()
            progress(done, 1_000_000)
            time.sleep(0.001)

    monkeypatch.setattr("mlxnb.runtime.loaded.resolve", endless)
    engine = Engine({"scripted": ScriptedBackend()})
    yield engine, started
    engine.close()


def test_cancel_while_the_model_is_fetched(fetching):
    engine, _ = fetching
    job = engine.stream("go")
    while not job.watch.load_total:
        time.sleep(0.001)
    job.cancel()
    assert job.result().finish_reason == "interrupted"
    assert job.result().timings.queue_time >= 0


def test_close_ends_a_fetch(fetching):
    engine, started = fetching
    failed = []

    def load():
        try:
            engine.load("some/model")
        except EngineClosedError as err:
            failed.append(str(err))

    thread = threading.Thread(target=load)
    thread.start()
    started.wait()
    engine.close()
    thread.join()
    assert "closed while some/model was being fetched" in failed[0]


def test_nothing_is_lost_between_submit_and_close():
    """Whatever is submitted while another thread closes is either answered or refused, never left waiting."""
    for _ in range(30):
        engine, outcomes = Engine({"scripted": ScriptedBackend()}), []

        def ask(engine=engine, outcomes=outcomes):
            try:
                outcomes.append(engine.generate("go").finish_reason)
            except EngineClosedError:
                outcomes.append("closed")

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        engine.close()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 4
        assert set(outcomes) <= {"stop", "interrupted", "closed"}


def test_a_callback_cannot_wait_for_its_own_thread(scripted):
    engine, _ = scripted
    caught = []

    def ask(_):
        try:
            engine.generate("again")
        except RuntimeError as err:
            caught.append(str(err))

    job = engine.stream("go")
    job.on_done(ask)
    job.wait()
    assert engine.generate("still here").text == "Hello, world."
    assert caught in ([], ["A callback of the engine cannot wait for a generation: submit it and return."])


def test_a_model_in_memory_is_taken_where_it_is_and_says_so(monkeypatch):
    first, second = ScriptedBackend(), ScriptedBackend()
    first.name = "first"
    engine = Engine({"first": first, "scripted": second})
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("first", "scripted"))
    engine.load("pocket", backend="scripted")
    r = engine.generate("go")
    assert (r.provenance.backend, r.provenance.passed_over) == ("scripted", ())
    assert "before first" in r.provenance.notes[0]
    assert engine.generate("go", backend="scripted").provenance.notes == ()
    engine.close()


def test_a_chain_that_fails_whole_names_every_reason(monkeypatch):
    class Broken(ScriptedBackend):
        def load(self, source, *precision):
            raise ZeroDivisionError("integer division or modulo by zero")

    engine = Engine({"one": Broken(), "two": Broken()})
    engine.backends["one"].name, engine.backends["two"].name = "one", "two"
    with pytest.raises(UnsupportedModelError, match=r"one: one could not load pocket: ZeroDivision.*two: two could"):
        engine.load("pocket")
    with pytest.raises(UnsupportedModelError, match="Fetch the model again"):
        engine.load("pocket", backend="one")
    engine.close()


def test_a_library_that_cannot_be_imported_is_passed_over():
    class Broken(ScriptedBackend):
        name = "broken"

        def memory_free(self):
            raise ImportError("libnothing.so: cannot open shared object file")

    engine = Engine({"broken": Broken(), "scripted": ScriptedBackend()})
    r = engine.generate("go")
    assert r.provenance.backend == "scripted"
    assert "libnothing.so" in r.provenance.passed_over[0].reason
    engine.close()


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("failure", ["driver", "own"])
def test_a_kept_error_keeps_no_model(checkpoint, tmp_path, monkeypatch, caching, failure):
    pytest.importorskip("torch")
    from mlxnb.backends.torch import TorchModel
    from mlxnb.errors import BackendError

    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))
    engine, path, steps = Engine(caching=caching), str(checkpoint("qwen3")), []
    whole = TorchModel._next

    def breaks(self, history, feed, watch):
        steps.append(weakref.ref(feed.state))
        if len(steps) < 4:
            return whole(self, history, feed, watch)
        try:
            raise ValueError("of its own")
        except ValueError as err:
            raise (BackendError("told", "Ask again.") if failure == "own" else RuntimeError("the driver left")) from err

    monkeypatch.setattr(TorchModel, "_next", breaks)
    job = engine.stream("hi", model=path, backend="torch", max_tokens=20)
    with pytest.raises(BackendError) as kept:
        job.result()
    model = engine.call(lambda: weakref.ref(engine._models.get(path, "torch").model))
    assert model() is not None
    engine.unload(path)
    gc.collect()
    error = kept.value
    del kept
    assert model() is None
    assert all(state() is None for state in steps)
    cause = error if failure == "own" else error.__cause__
    assert "breaks" in "".join(traceback.format_exception(cause))  # where it came from can still be told
    engine.close()
