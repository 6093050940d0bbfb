"""The caches through a real engine: what they save, and that they never change an answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxnb import hardware
from mlxnb.errors import GenerationError
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
    assert {**stats(engine).limits, "memory": 0} == {"results": 3_000_000, "memory": 0, "disk": 5_000_000}
    engine.close()


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
    model = engine.call(lambda: engine._models.get("pocket", backend, "float32").model)
    given = []
    monkeypatch.setattr(model, "give_back", lambda: given.append(True))
    ask(engine, f"{DOCUMENT}\n\nWhat does deque do?", backend)
    assert stats(engine).held["memory"].bytes > 0
    assert not given
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


def test_a_prompt_with_a_secret_leaves_no_state(engine, backend, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_API_KEY", "sk-0123456789abcdef")
    result = ask(engine, f"{DOCUMENT} sk-0123456789abcdef", backend)
    assert any("the value of MY_API_KEY" in note for note in result.provenance.notes)
    engine.cache.flush()
    held = stats(engine).held
    assert held["memory"].entries == held["disk"].entries == 0


def test_a_pin_keeps_the_last_prompt_also_if_its_answer_was_kept(engine, backend):
    first, other = ask(engine, QUESTION, backend), ask(engine, "Where is sqrt?", backend)
    assert first.provenance.prompt_tokens != other.provenance.prompt_tokens
    assert ask(engine, QUESTION, backend).cached
    engine.cache.pin("question")
    (pin,) = stats(engine).pins
    assert pin.tokens == first.provenance.prompt_tokens


def test_an_error_that_is_kept_keeps_no_state(engine, backend, monkeypatch):
    states = []
    model = engine.call(lambda: engine._models.get("pocket", backend, "float32").model)
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


# Some turns of questions on one text, with edits, interrupts, evictions and restarts between them.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 300), st.sampled_from(WORDS)),
        st.tuples(st.just("interrupt"), st.integers(0, 300), st.integers(0, 6)),
        st.tuples(st.just("shrink"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    min_size=2,
    max_size=7,
)
MODELS = {"pocket": None, "sliding": "mistral-window", "both": "gemma3", "hybrid": "qwen3-next"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_happens_the_answer_is_that_of_a_fresh_prefill(kind, backend, checkpoint, tmp_path_factory, steps):
    model = "pocket" if MODELS[kind] is None else str(checkpoint(MODELS[kind]))
    options = {"backend": backend, "dtype": "float32", "max_tokens": 6, "model": model, "raw": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXNB_CACHE_DIR", str(tmp_path_factory.mktemp("caches")))
        patch.setattr("mlxnb.cache.tiers.WORTH_READING", 8)
        engine, text = Engine(), WORDS * 16  # enough tokens to be worth the disk
        try:
            for what, at, more in steps:
                text = [*text[:at], str(more), *text[at + 1 :]]
                prompt = " ".join(text)
                if what == "restart":
                    engine.close()
                    engine = Engine()
                elif what == "shrink":
                    memory = engine.cache.prefixes.memory
                    engine.call(lambda memory=memory: memory.shrink(0))
                elif what == "interrupt":
                    for i, _ in enumerate(engine.stream(prompt, **options)):
                        if i == more:
                            break
                assert engine.generate(prompt, **options).tokens == engine.generate(prompt, **options, **OFF).tokens
        finally:
            engine.close()
