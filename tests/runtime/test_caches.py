"""The caches through a real engine: what they save, and that they never change an answer."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb import hardware
from mlxnb.cache import Usage, result_key
from mlxnb.cache.states import length_of
from mlxnb.errors import GenerationError, OptionError
from mlxnb.request import Precision
from mlxnb.runtime import Engine

BACKENDS = ["mlx", "torch"]
WORDS = ["the", "deque", "class", "holds", "items", "at", "both", "ends", "and", "append", "adds", "one", "while"]
WORDS += ["popleft", "takes", "one", "away", "from", "the", "left"]
DOCUMENT = " ".join(WORDS[i % len(WORDS)] + ("." if i % 17 == 0 else "") for i in range(300))
QUESTION = "What does itertools.chain do?"
OFF = {"cache": "off"}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[request.param])
    return request.param


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    made = Engine()
    yield made
    made.close()


def stats(engine: Engine):
    """What the caches say once the work after the last answer is done."""
    engine.call(lambda: None)
    return engine.cache.stats()


def ask(engine: Engine, prompt, backend: str, **options):
    return engine.generate(prompt, **{"backend": backend, "dtype": "float32", "max_tokens": 12, **options})


def test_the_same_question_is_answered_from_the_cache(engine, backend):
    first = ask(engine, QUESTION, backend)
    again = ask(engine, QUESTION, backend)
    assert (first.cached, again.cached) == (False, True)
    assert (again.text, again.tokens, again.finish_reason) == (first.text, first.tokens, first.finish_reason)
    assert again.original == first.timings
    assert again.provenance == first.provenance
    assert again.timings.ttft < first.timings.ttft
    chunks = engine.stream(QUESTION, backend=backend, dtype="float32", max_tokens=12)
    assert "".join(chunk.text for chunk in chunks) == first.text
    assert not ask(engine, QUESTION, backend, **OFF).cached
    assert not ask(engine, QUESTION, backend, max_tokens=11).cached


def test_only_what_repeats_is_kept_unless_asked(engine):
    options = {"backend": "torch", "max_tokens": 6, "temperature": 1.0}
    assert not any(engine.generate(QUESTION, **options).cached for _ in range(2))
    assert [engine.generate(QUESTION, **options, seed=3).cached for _ in range(2)] == [False, True]
    assert [engine.generate(QUESTION, **options, cache="always").cached for _ in range(2)] == [False, True]
    assert [engine.generate(QUESTION, **options, seed=4, cache="off").cached for _ in range(2)] == [False, False]
    assert stats(engine).results["pocket"].hits == 2


def test_the_environment_sets_the_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MLXNB_CACHE_ANSWERS_MB", "3")
    monkeypatch.setenv("MLXNB_CACHE_STATES_MB", "5")
    engine = Engine()
    limits = {"results": 3_000_000, "rows": 3_000_000, "memory": 0, "disk": 5_000_000}
    assert {**stats(engine).limits, "memory": 0} == limits
    engine.close()


def test_budgets_follow_the_settings(engine, monkeypatch):
    engine.cache.flush()
    monkeypatch.setenv("MLXNB_CACHE_ANSWERS_MB", "3")
    monkeypatch.setenv("MLXNB_CACHE_STATES_MB", "none of it")
    before = stats(engine).limits
    with pytest.raises(OptionError, match="MLXNB_CACHE_STATES_MB"):
        engine.cache.resize()
    assert {**stats(engine).limits, "memory": 0} == {**before, "memory": 0}
    monkeypatch.setenv("MLXNB_CACHE_STATES_MB", "5")
    engine.cache.resize()
    limits = {"results": 3_000_000, "rows": 3_000_000, "memory": 0, "disk": 5_000_000}
    assert {**stats(engine).limits, "memory": 0} == limits


def test_an_engine_without_caches_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine(caching=False)
    assert [engine.generate(QUESTION, backend="torch", max_tokens=4).cached for _ in range(2)] == [False, False]
    engine.close()
    assert not (tmp_path / "cache").exists()


def test_a_second_question_computes_only_what_is_new(engine, backend):
    first = ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    second = ask(engine, f"{DOCUMENT}\n\nWhere is sqrt?", backend)
    assert first.provenance.reused_tokens == 0
    assert second.provenance.prompt_tokens - second.provenance.reused_tokens < 20
    edited = ask(engine, DOCUMENT.replace("popleft", "pop", 1) + "\n\nWhere is sqrt?", backend)
    assert 0 < edited.provenance.reused_tokens < second.provenance.reused_tokens
    for result, text in ((second, DOCUMENT), (edited, DOCUMENT.replace("popleft", "pop", 1))):
        assert ask(engine, f"{text}\n\nWhere is sqrt?", backend, **OFF).tokens == result.tokens
    tally = stats(engine).prefixes["pocket"]
    assert tally.tokens_saved == second.provenance.reused_tokens + edited.provenance.reused_tokens
    assert tally.seconds_saved > 0


def test_a_chat_goes_on_from_its_own_history(engine, backend):
    messages = [{"role": "user", "content": QUESTION}]
    first = engine.generate(messages, backend=backend, dtype="float32", max_tokens=60)
    assert first.finish_reason == "stop"
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Where is it?"}]
    second = ask(engine, messages, backend)
    history = first.provenance.prompt_tokens + len(first.tokens)
    assert second.provenance.reused_tokens >= history - 1
    assert second.tokens == ask(engine, messages, backend, **OFF).tokens


def test_a_restarted_engine_finds_it_on_disk(engine, backend, tmp_path):
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    engine.close()
    after = Engine()
    second = ask(after, f"{DOCUMENT}\n\nWhere is sqrt?", backend)
    assert second.provenance.prompt_tokens - second.provenance.reused_tokens < 20
    assert second.tokens == ask(after, f"{DOCUMENT}\n\nWhere is sqrt?", backend, **OFF).tokens
    after.close()


def test_a_quantised_state_and_a_dense_one_never_meet(engine):
    pytest.importorskip("mlx_lm")
    for bits in (None, 8, 4):
        result = ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", "mlx", kv_bits=bits)
        assert result.provenance.reused_tokens == 0
    for bits in (None, 8, 4):
        result = ask(engine, f"{DOCUMENT}\n\nWhere is sqrt?", "mlx", kv_bits=bits)
        assert result.provenance.reused_tokens > 250
        assert result.provenance.kv_bits == bits
        assert result.tokens == ask(engine, f"{DOCUMENT}\n\nWhere is sqrt?", "mlx", kv_bits=bits, **OFF).tokens


def test_unloading_gives_the_states_back(engine, backend):
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    assert stats(engine).held["memory"].bytes > 0
    engine.unload("pocket")
    assert stats(engine).held["memory"].bytes == 0


def test_where_memory_is_short_the_cache_shrinks_and_says_so(engine, backend, monkeypatch):
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    held = stats(engine).held["memory"].bytes
    monkeypatch.setattr(hardware, "memory_free", lambda: 1000)
    result = ask(engine, "Where is sqrt?", backend)
    assert any("prefix cache shrunk" in note for note in result.provenance.notes)
    assert stats(engine).held["memory"].bytes < held


def test_what_a_shrunk_cache_held_is_given_back(engine, backend, monkeypatch):
    model = engine.call(lambda: engine._models.get("pocket", backend, Precision("float32")).model)
    given = []
    monkeypatch.setattr(model, "give_back", lambda: given.append(True))
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    assert stats(engine).held["memory"].bytes > 0
    assert not given
    engine.cache.flush()  # what still waited to be written would be dropped first, and given back too
    monkeypatch.setattr(hardware, "memory_free", lambda: 1000)
    ask(engine, "Where is sqrt?", backend)
    assert given == [True]


def test_a_cache_that_fails_costs_no_answer(engine, backend, monkeypatch):
    expected = ask(engine, QUESTION, backend, **OFF).tokens

    def broken(*args, **kwargs):
        raise MemoryError("nothing left")

    for name in ("lookup", "store"):
        with monkeypatch.context() as patch:
            patch.setattr(engine.cache.prefixes, name, broken)
            result = ask(engine, QUESTION, backend, cache="always", max_tokens=12 if name == "lookup" else 11)
        assert result.tokens == expected[: len(result.tokens)]
        stats(engine)
    assert any("prefix cache not used: MemoryError" in note for note in ask_notes(engine, backend, broken, monkeypatch))


def ask_notes(engine, backend, broken, monkeypatch) -> tuple[str, ...]:
    with monkeypatch.context() as patch:
        patch.setattr(engine.cache.prefixes, "lookup", broken)
        return ask(engine, "Where is sqrt?", backend).provenance.notes


def test_what_was_not_kept_is_said_once_with_the_next_answer(engine, backend, monkeypatch):
    def notes(question: str) -> list[str]:
        said = ask(engine, question, backend).provenance.notes
        stats(engine)
        return [note for note in said if "did not keep" in note]

    assert notes("Where is sqrt?") == []
    with monkeypatch.context() as patch:
        patch.setattr(engine.cache._memory, "_budget", lambda: 0)
        assert notes("Where is sin?") == []
    [said] = notes("Where is cos?")
    assert "there is room for 0 bytes" in said
    assert notes("Where is tan?") == []

    def broken(*args):
        raise MemoryError("nothing left")

    with monkeypatch.context() as patch:
        patch.setattr(engine.cache.prefixes, "store", broken)
        assert notes("Where is log?") == []
    [said] = notes("Where is exp?")
    assert "MemoryError: nothing left" in said


def test_a_callback_that_fails_costs_no_kept_answer(engine, backend, monkeypatch):
    monkeypatch.setattr("threading.excepthook", lambda *args: None)
    job = engine.stream(QUESTION, backend=backend, dtype="float32", max_tokens=12)
    job.on_done(lambda job: 1 / 0)
    job.result()
    stats(engine)
    assert ask(engine, QUESTION, backend).cached


SECRETS = [
    "sk-0123456789abcdef",
    'pa"ss\\word12345',
    "Geheimwörtchen99",
    "-----BEGIN KEY-----\nMIIEvQ\n-----END KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_prompt_with_a_secret_leaves_no_state_and_no_pin(engine, backend, monkeypatch, tmp_path, secret):
    ask(engine, QUESTION, backend, **OFF)
    monkeypatch.setenv("MY_API_KEY", secret)
    result = ask(engine, f"{DOCUMENT} {secret}", backend)
    assert any("the value of MY_API_KEY" in note for note in result.provenance.notes)
    engine.cache.flush()
    held = stats(engine).held
    assert held["memory"].entries == held["disk"].entries == 0
    refused = engine.cache.pin("secret")
    assert (refused.subject, refused.reason) == ("secret", "the prompt holds the value of MY_API_KEY")
    assert stats(engine).pins == ()
    assert list((tmp_path / "cache" / "prefixes").rglob("*.json")) == []


def test_a_pin_of_what_may_not_be_kept_is_refused_with_the_reason(engine, backend, checkpoint):
    ask(engine, QUESTION, backend, **OFF)
    assert "cache off" in engine.cache.pin("off").reason
    ask(engine, QUESTION, backend, model=str(checkpoint("phi3-longrope")), max_tokens=2)
    assert "LongRoPE" in engine.cache.pin("stretched").reason
    ask(engine, QUESTION, backend)
    engine.unload("pocket")
    assert "pocket was unloaded since the last question" in engine.cache.pin("gone").reason
    assert stats(engine).pins == ()


def test_a_model_that_is_loaded_by_two_names_keeps_its_states_until_both_went(engine, backend):
    path = str(mlxnb.pocket.path())
    ask(engine, DOCUMENT, backend)
    assert ask(engine, DOCUMENT + " More?", backend, model=path, max_tokens=2).provenance.reused_tokens > 250
    engine.unload("pocket")
    assert stats(engine).held["memory"].entries > 0
    engine.unload(path)
    assert stats(engine).held["memory"].entries == 0


def test_the_rate_of_a_whole_prefill_stays_when_a_short_rest_is_computed(engine, backend):
    ask(engine, DOCUMENT, backend, max_tokens=1)
    model = engine.call(lambda: engine._models.get("pocket", backend, Precision("float32")).model)
    rate = model._prefill_rate
    rest = ask(engine, f"{DOCUMENT}\n\n{' '.join(WORDS * 3)}", backend, max_tokens=1).provenance
    assert 32 <= rest.prompt_tokens - rest.reused_tokens < 256
    assert rest.reused_tokens > 250
    assert model._prefill_rate == rate


def test_states_of_other_choices_of_attention_are_kept_apart(engine):
    """Answers too, where what was measured says otherwise than before."""
    pytest.importorskip("mlx_lm")
    from mlxnb.decision import Rejected
    from mlxnb.kernels import patch_mlx_lm
    from mlxnb.kernels.dispatch import Choice
    from mlxnb.kernels.paths import STOCK

    class Chosen:
        device = "cpu"

        def __init__(self, stamp):
            self.stamp = lambda: stamp

        def known(self, config):
            return Choice(STOCK, Rejected("optimised attention", "not faster"))

        measure = known

    def asked(number, stamp):
        patch = engine.call(lambda: patch_mlx_lm(tuner=Chosen(stamp)))
        new = ask(engine, f"{DOCUMENT} More of {number}?", "mlx", max_tokens=2)
        again = ask(engine, QUESTION, "mlx", max_tokens=2)
        engine.call(patch.undo)
        return new.provenance.reused_tokens > 250, again.cached

    kept, apart = (True, True), (False, False)
    assert [asked(*each) for each in enumerate(["1", "1", "2", "1"])] == [apart, kept, apart, kept]


def test_a_pin_keeps_the_last_prompt_also_if_its_answer_was_kept(engine, backend):
    first, other = ask(engine, QUESTION, backend), ask(engine, "Where is sqrt?", backend)
    assert first.provenance.prompt_tokens != other.provenance.prompt_tokens
    assert ask(engine, QUESTION, backend).cached
    engine.cache.pin("question")
    (pin,) = stats(engine).pins
    assert pin.tokens == first.provenance.prompt_tokens


def test_a_pin_of_a_kept_answer_gets_its_state_with_the_next_such_question(engine, backend, tmp_path):
    ask(engine, QUESTION, backend)
    engine.close()
    after = Engine()  # which has the answer; the prompt is too short for its state to be on disk
    try:
        assert ask(after, QUESTION, backend).cached
        assert not after.cache.pin("question")
        assert [pin.held for pin in stats(after).pins] == [False]
        again = ask(after, QUESTION, backend)
        assert not again.cached
        assert [pin.held for pin in stats(after).pins] == [True]
        assert ask(after, QUESTION, backend).cached
    finally:
        after.close()


def test_an_error_that_is_kept_keeps_no_state(engine, backend, monkeypatch):
    states = []
    model = engine.call(lambda: engine._models.get("pocket", backend, Precision("float32")).model)
    real = model.new_state

    class Watched(list):
        """A list that can be looked after weakly, as mlx-lm's and transformers' caches can."""

    def new_state(request, watch):
        state = real(request, watch)
        state = Watched(state) if isinstance(state, list) else state
        states.append(weakref.ref(state))
        return state

    def failing(*args):
        raise RuntimeError("broken on the way")

    monkeypatch.setattr(model, "new_state", new_state)
    monkeypatch.setattr(model, "_decode" if backend == "mlx" else "_step", failing)
    with pytest.raises(GenerationError) as caught:
        ask(engine, QUESTION, backend)
    stats(engine)
    gc.collect()
    assert caught.value is not None
    assert [state() for state in states] == [None]


def test_a_pin_outlives_what_pushes_others_out(engine, backend):
    assert "nothing was asked yet" in engine.cache.pin("early").reason
    ask(engine, DOCUMENT, backend)
    assert engine.cache.pin("document")
    (pin,) = stats(engine).pins
    assert (pin.name, pin.held) == ("document", True)
    engine.cache.clear()
    assert ask(engine, DOCUMENT + " More?", backend).provenance.reused_tokens > 250
    assert engine.cache.unpin("document")
    assert not engine.cache.unpin("document")
    engine.cache.clear()
    assert stats(engine).held["memory"].entries == 0


@contextmanager
def patched(engine: Engine, on: bool):
    """mlx-lm's attention as it is, or with our kernels in place."""
    from mlxnb.kernels import patch_mlx_lm

    patch = engine.call(patch_mlx_lm) if on else None
    yield
    if patch is not None:
        engine.call(patch.undo)


@pytest.mark.parametrize("kept", ["dense", "quantised", "by our kernels"])
def test_a_pin_is_there_again_after_a_restart_however_its_state_is_kept(engine, kept):
    pytest.importorskip("mlx_lm")
    options = {"backend": "mlx", "max_tokens": 2, "kv_bits": 8 if kept == "quantised" else None}
    with patched(engine, kept == "by our kernels"):
        ask(engine, DOCUMENT, **options)
        assert engine.cache.pin("document")
    engine.close()
    after = Engine()
    with patched(after, kept == "by our kernels"):
        ask(after, QUESTION, "mlx", kv_bits=4)  # a namespace of its own, where nothing is pinned
        assert [(pin.held, pin.on_disk) for pin in stats(after).pins] == [(False, True)]
        ask(after, QUESTION, **{**options, "cache": "off"})
        assert [pin.held for pin in stats(after).pins] == [False]
        ask(after, QUESTION, **options)
        assert [(pin.held, pin.on_disk) for pin in stats(after).pins] == [(True, True)]
        after.unload("pocket")
        assert [pin.held for pin in stats(after).pins] == [False]
        ask(after, "Where is sqrt?", **options)
        assert [pin.held for pin in stats(after).pins] == [True]
        after.cache.clear()
        assert ask(after, DOCUMENT + " More?", **options).provenance.reused_tokens > 250
    after.close()


def test_pins_are_listed_and_let_go_while_their_models_are_not_loaded(engine, backend, tmp_path):
    copy = shutil.copytree(mlxnb.pocket.path(), tmp_path / "copy", copy_function=shutil.copy)  # of another time
    for name, model in (("first", "pocket"), ("second", str(copy))):
        ask(engine, DOCUMENT, backend, model=model, max_tokens=2)
        assert engine.cache.pin(name)
    engine.close()
    shutil.rmtree(copy)
    after = Engine()
    assert [(pin.name, pin.model, pin.held, pin.on_disk) for pin in after.cache.stats().pins] == [
        ("first", "pocket", False, True),
        ("second", str(copy), False, True),
    ]
    assert all(pin.tokens > 250 for pin in after.cache.stats().pins)
    after.cache.clear()
    assert after.cache.stats().held["disk"].entries == 2
    assert after.cache.unpin("second")
    assert [pin.name for pin in after.cache.stats().pins] == ["first"]
    assert after.cache.clear() == 1
    assert after.models() == []
    after.close()


def test_what_is_held_is_told_by_model(engine, backend, checkpoint):
    other = str(checkpoint("qwen3-next"))
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    ask(engine, QUESTION, backend)
    ask(engine, DOCUMENT, backend, model=other)
    for model in ("pocket", other):
        list(engine.map("{{ row }}", [QUESTION], backend=backend, model=model, max_tokens=2, temperature=1.0))
    engine.cache.flush()
    said = stats(engine)
    assert list(said.models) == sorted(["pocket", other])
    assert said.models["pocket"]["results"].entries == 2
    assert said.models[other]["results"].entries == 1
    for place, held in said.held.items():
        assert sum((said.models[model][place] for model in said.models), Usage()) == held
        assert all(said.models[model][place].bytes > 0 for model in said.models)
    engine.close()
    after = Engine()
    assert {model: held["disk"] for model, held in after.cache.stats().models.items()} == {
        model: held["disk"] for model, held in said.models.items()
    }
    after.close()


def test_answers_that_made_room_are_told_by_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine()
    engine.cache._results.limit = 3000
    for n in range(4):
        ask(engine, f"{QUESTION} {n}", "torch", max_tokens=2)
    said = stats(engine)
    assert said.results["pocket"].evictions == said.evictions["results"] == 4 - said.held["results"].entries > 0
    engine.close()


def test_a_job_has_one_result_key(engine, monkeypatch):
    made = []

    def counted(*args):
        made.append(args)
        return result_key(*args)

    monkeypatch.setattr("mlxnb.runtime.caches.result_key", counted)
    for cached in (False, True):
        assert ask(engine, QUESTION, "torch").cached == cached
        stats(engine)
    assert len(made) == 2


def test_what_every_chat_begins_with_is_reused_and_no_hit(engine, backend):
    ask(engine, QUESTION, backend)
    second = ask(engine, DOCUMENT, backend)
    assert 0 < second.provenance.reused_tokens < 16
    tally = stats(engine).prefixes["pocket"]
    assert (tally.hits, tally.misses) == (0, 2)
    assert tally.tokens_saved == second.provenance.reused_tokens


def test_no_text_of_an_answer_is_left_after_a_clear(engine, tmp_path):
    answer = ask(engine, QUESTION, "torch", max_tokens=30).text.split("\n")[0].encode()
    stats(engine)

    def found():
        return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and answer in path.read_bytes()]

    assert found()
    engine.cache.clear()
    assert found() == []


@pytest.mark.parametrize("family", ["qwen3-next", "mistral-window", "falcon-h1"])
def test_states_that_cannot_be_cut_are_reused_from_snapshots(engine, backend, checkpoint, family):
    model = {"model": str(checkpoint(family)), "max_tokens": 4}
    system = {"role": "system", "content": DOCUMENT[:900]}
    reused = []
    for question in ("What does deque do?", "Where is sqrt?", "What does chain do?"):
        messages = [system, {"role": "user", "content": question}]
        result = ask(engine, messages, backend, **model)
        reused.append(result.provenance.reused_tokens)
        assert result.tokens == ask(engine, messages, backend, **model, **OFF).tokens
    assert reused[0] == 0
    assert reused[1] > 100  # up to the end of the system message
    assert reused[2] > 100


def test_a_penalty_looks_back_over_reused_tokens_too(engine, backend):
    options = {"repetition_penalty": 3.0, "max_tokens": 8}
    ask(engine, f"{DOCUMENT}\n\nWhat", backend, **options)
    reused = ask(engine, f"{DOCUMENT}\n\nWhat?", backend, **options)
    assert reused.provenance.reused_tokens > 250
    assert reused.tokens == ask(engine, f"{DOCUMENT}\n\nWhat?", backend, **options, **OFF).tokens


# Questions on one text, with edits, other texts, interrupts, evictions and restarts between them.
PLACES = st.integers(0, 120)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), PLACES, st.sampled_from(WORDS)),
        st.tuples(st.just("cut"), st.integers(20, 120), st.just(0)),
        st.tuples(st.just("another text"), PLACES, st.just(0)),
        st.tuples(st.just("interrupt"), PLACES, st.integers(1, 9)),
        st.tuples(st.just("room"), st.sampled_from([0.7, 1.3, 2.2]), st.sampled_from([0.7, 1.3, 2.2])),
        st.tuples(st.just("shrink"), st.just(0), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    min_size=3,
    max_size=8,
)
MODELS = {"pocket": None, "sliding": "mistral-window", "both": "gemma3", "hybrid": "qwen3-next"}


class After(Event):
    """Is set from the look after the first `looks` on: an interrupt at one place of a prefill or an answer."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


class Notebook:
    """What a person does: asks about a text, changes it, breaks off, runs out of room, restarts the kernel."""

    def __init__(self, backend: str, model: str) -> None:
        self.options = {"backend": backend, "dtype": "float32", "max_tokens": 6, "model": model, "raw": True}
        self.text = [WORDS[i * i % len(WORDS)] for i in range(120)]
        self.checks = 0
        self.room: tuple[float, float] | None = None  # of memory and disk, in states
        self.begin()

    def begin(self) -> None:
        self.engine = Engine()
        prefixes = self.engine.cache.prefixes
        prefixes._worth_reading, prefixes._worth_writing = 8, 16  # as if a document were a hundred words long
        self.make_room()
        name, backend, dtype = (self.options[key] for key in ("model", "backend", "dtype"))
        self.model = self.engine.call(lambda: self.engine._models.get(name, backend, Precision(dtype)).model)
        # Several pieces a prompt, at each of which it may be interrupted.
        setattr(self.model, "prefill_step" if backend == "mlx" else "_prefill_step", 48)

    def make_room(self) -> None:
        if self.room is not None:
            memory, disk = self.engine.cache.prefixes.memory, self.engine.cache._disk
            in_memory, on_disk = self.room
            memory._budget = lambda: int(in_memory * max((e.nbytes for e in memory._entries.values()), default=10**6))
            entries, size = disk.usage()
            disk.limit = int(on_disk * (size / entries if entries else 10**6))

    def do(self, what: str, at: float, more: Any) -> None:
        if what == "edit":
            self.text = [*self.text[: int(at)], str(more), *self.text[int(at) + 1 :]]
        elif what == "cut":
            self.text = self.text[: int(at)]
        elif what == "another text":
            self.text = [WORDS[(i * int(at) + i * i // 7) % len(WORDS)] for i in range(120)]
        elif what == "interrupt":
            self.text = [*self.text[: int(at)], *WORDS]
            self.interrupt(more)
        elif what == "room":
            self.room = (at, more)
            self.engine.call(self.make_room)
        elif what == "shrink":
            self.engine.call(lambda: self.engine.cache.prefixes.memory.shrink(0))
        else:
            self.engine.close()
            self.begin()

    def interrupt(self, looks: int) -> None:
        gate = Event()
        self.engine.later(gate.wait)
        job = self.engine.stream(" ".join(self.text), **self.options, cache="always")
        job.watch.cancelled = After(looks)
        gate.set()
        event(f"{job.result().finish_reason} after {len(job.result().tokens)} tokens")

    def check(self) -> None:
        # Every other time the same question, which a kept answer answers.
        self.checks += 1
        prompt = " ".join([*self.text, WORDS[self.checks // 2 % len(WORDS)]])
        said = self.engine.generate(prompt, **self.options)
        assert said.tokens == self.engine.generate(prompt, **self.options, **OFF).tokens
        self.engine.call(self.check_states)
        event(f"reused: {said.provenance.reused_tokens > 0}, cached: {said.cached}")

    def check_states(self) -> None:
        """Each is of as many tokens as it is kept for; a recurrent layer does not know of how many it is."""
        for (_, key), entry in self.engine.cache.prefixes.memory._entries.items():
            assert self.model.states.length(entry.state) in (length_of(key), None)


# Each kind of step once, an interrupt in the middle of a prefill and one in an answer among them.
ALL_STEPS = [
    ("interrupt", 110, 3),
    ("room", 1.3, 2.2),
    ("another text", 5, 0),
    ("edit", 100, "pop"),
    ("interrupt", 60, 8),
    ("restart", 0, 0),
    ("shrink", 0, 0),
    ("cut", 70, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@example(steps=ALL_STEPS)
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_happens_the_answer_is_that_of_a_fresh_prefill(kind, backend, checkpoint, tmp_path_factory, steps):
    model = "pocket" if MODELS[kind] is None else str(checkpoint(MODELS[kind]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXNB_CACHE_DIR", str(tmp_path_factory.mktemp("caches")))
        notebook = Notebook(backend, model)
        try:
            notebook.check()
            for step in steps:
                notebook.do(*step)
                notebook.check()
            evicted = stats(notebook.engine).evictions
            event(f"evicted from memory: {evicted['memory'] > 0}, from disk: {evicted['disk'] > 0}")
        finally:
            notebook.engine.close()


def test_the_lifetime_bounds_states_on_disk_as_it_does_answers(tmp_path, monkeypatch):
    from mlxnb.cache.entry_file import Entry
    from mlxnb.runtime.caches import Caches
    from tests.cache.fakes import FakeStates

    states = FakeStates()
    entry = Entry("n", (1, 2), False, *states.arrays(states.prefill((1, 2))))
    for days, found in ((None, True), ("1", False)):
        if days is not None:
            monkeypatch.setenv("MLXNB_CACHE_DAYS", days)
        caches = Caches(lambda work: work(), tmp_path)
        if days is None:
            assert caches._disk.put(entry)
            assert caches.flush()
            for path in tmp_path.rglob("*.safetensors"):
                os.utime(path, (1, 1))
        assert (caches._disk.find("n", (1, 2, 3)) is not None) == found
        caches.close()
