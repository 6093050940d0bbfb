"""When the prefix cache gives memory back and how much, in figures and with the states of real models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb import Request, hardware
from mlxnb.backends import Watch
from mlxnb.backends.reuse import Feed
from mlxnb.cache import PrefixCache, budget, pressure
from mlxnb.cache.pressure import SHARE, may_wait, threshold
from mlxnb.models import ModelSource
from mlxnb.request import Precision
from mlxnb.runtime import Engine
from tests.cache.fakes import FakeStates
from tests.tiny import Maker

BYTES = st.integers(0, 10**12)
TOTAL = 100_000_000_000


@given(BYTES, BYTES, BYTES, BYTES)
def test_it_shrinks_only_below_the_threshold_and_as_far_as_it_must(held, free, least, needed):
    found = pressure(held, free, least, needed)
    assert bool(found) == (free - needed < least and held > 0)
    if found:
        assert 0 <= found.shrink_to <= held
        given_back = held - found.shrink_to
        assert given_back == held or free + given_back - needed == least


def test_the_reason_has_the_figures():
    assert str(pressure(10**9, 10**8, 5 * 10**8)) == (
        "100 MB free where 500 MB should be: the prefix cache shrinks from 1.0 GB to 600 MB"
    )
    assert str(pressure(10**9, 6 * 10**8, 5 * 10**8, needed=3 * 10**8)) == (
        "600 MB free, 300 MB of it needed now where 500 MB should be left: "
        "the prefix cache shrinks from 1.0 GB to 800 MB"
    )
    assert "2.0 GB free" in str(pressure(10**9, 2 * 10**9, 5 * 10**8))
    assert "empty already" in str(pressure(0, 0, 5 * 10**8))


def test_this_machine():
    assert 0 < threshold() <= 2 * 10**9
    assert budget(held=0) > 0
    assert pressure(held=0).free > 0


@given(BYTES, st.integers(0, 10**9))
def test_the_budget_does_not_shrink_because_the_cache_fills(free, held):
    """What the cache takes is missing from what is free; counting it twice would make it drop what it just stored."""
    assert budget(held, max(0, free - held)) >= budget(0, free) if held <= free else True


def test_a_cache_under_pressure_says_what_it_dropped():
    states, cache = FakeStates(), PrefixCache(lambda: 10**6)
    for first in range(10):
        tokens = (first, *range(99))
        cache.store("n", tokens, states.prefill(tokens), states)
    cache.pin("kept", "n", (0, *range(99)), states)
    found = pressure(cache.nbytes, free=1000, least_free=4000)
    said = cache.shrink(found.shrink_to)
    assert (said.entries, said.freed, said.left) == (4, 3200, 4800)
    assert str(said) == "prefix cache shrunk by 3.2 kB to 4.8 kB"
    assert [pin.held for pin in cache.pins()] == [True]
    assert str(cache.shrink(0)) == "prefix cache shrunk by 4.8 kB to 0 bytes, pins dropped: kept"
    assert [pin.held for pin in cache.pins()] == [False]
    cache.store("n", (0, *range(120)), states.prefill((0, *range(120))), states)
    assert [pin.held for pin in cache.pins()] == [True]


def test_the_entry_that_is_reused_goes_last():
    states, cache = FakeStates(), PrefixCache(lambda: 10**6)
    for first in range(4):
        tokens = (first, *range(99))
        cache.store("n", tokens, states.prefill(tokens), states)
    cache.pin("kept", "n", (3, *range(99)), states)
    reused = cache.reused("n", (0, *range(99), 7), states)
    cache.shrink(2400, keep=reused)
    assert [first for first in range(4) if cache.exact("n", (first, *range(99)))] == [0, 2, 3]
    cache.shrink(800, keep=reused)
    assert [first for first in range(4) if cache.exact("n", (first, *range(99)))] == [0]
    assert cache.shrink(0, keep=reused).left == 0
    assert cache.reused("n", (0, *range(99), 7), states) is None


def test_what_waits_to_be_written_is_bound_by_free_memory(monkeypatch):
    monkeypatch.setattr(hardware, "memory_total", lambda: TOTAL)
    for free, waiting, most in (
        (40 * 10**9, 0, SHARE * 40 * 10**9),
        (39 * 10**9, 10**9, SHARE * 40 * 10**9),  # what waits already does not count twice
        (threshold() + 5, 0, 5),
        (threshold() - 5, 0, 0),
    ):
        monkeypatch.setattr(hardware, "memory_free", lambda free=free: free)
        assert may_wait(waiting) == most


# With real models.


def load(backend: str, path: Path):
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[backend])
    from mlxnb.backends import default_backends

    return default_backends()[backend].load(ModelSource("tiny", path, "path"), Precision("float32"))


@pytest.mark.parametrize(
    ("backend", "family", "kv_bits"),
    [
        *[("torch", family, None) for family in ("pocket", "gemma3", "qwen3-next", "falcon-h1", "deepseek-v3")],
        *[("mlx", family, None) for family in ("pocket", "gemma3", "qwen3-next", "falcon-h1", "deepseek-v3")],
        ("mlx", "pocket", 8),
        ("mlx", "pocket", 4),
    ],
)
def test_the_size_of_a_state_is_known_before_there_is_one(checkpoint: Maker, backend, family, kv_bits):
    """Layers with a window (12 tokens of these) or a recurrent state do not grow, and a quantised one is small."""
    model = load(backend, mlxnb.pocket.path() if family == "pocket" else checkpoint(family))
    for length in (1, 9, 40, 400):
        request, watch = Request.of("?", kv_bits=kv_bits), Watch()
        state = model.new_state(request, watch)
        feed = Feed(state)
        assert len(list(model.tokens(list(range(10, 10 + length)), request, 3, watch, feed))) == 3
        actual, told = model.states.nbytes(state), model.states.size(model.new_state(request, Watch()), feed.length)
        window_row = 1.1 if family == "gemma3" else 1.001  # transformers keeps one row less than the window
        assert actual <= told * (1.1 if backend == "torch" else 1.001)  # torch keeps a little room behind the tokens
        assert told <= actual * window_row


def test_without_states_the_configuration_tells(checkpoint: Maker):
    model = load("torch", checkpoint("qwen3"))
    request = Request.of("Hello", max_tokens=100)
    told = model.needed(request)
    model.states = None
    assert model.needed(request) == told


def test_what_a_request_needs_is_bounded_by_the_context(checkpoint: Maker):
    model = load("torch", checkpoint("qwen3"))
    fresh = model.new_state(Request.of("?"), Watch())
    assert model.needed(Request.of("Hello", max_tokens=10**6)) == model.states.size(fresh, model.info.context_length)


WORDS = ["deque", "holds", "items", "at", "both", "ends", "and", "append", "adds", "one", "while", "popleft", "takes"]
SUBJECTS = ("Alpha", "Bread", "Cloud", "Delta")  # whose first tokens differ, or one would be looked up for another
MAX_TOKENS = 12


def document(first: str, words: int = 300) -> str:
    return f"{first}: " + " ".join(WORDS[i % len(WORDS)] for i in range(words))


class Asked:
    """An engine that was asked about several documents, none of which begins as another."""

    def __init__(self, engine: Engine, backend: str) -> None:
        self.engine, self.backend = engine, backend
        for first in SUBJECTS:
            self.ask(f"{document(first)}\n\nWhat does deque do?")
        self.engine.call(lambda: None)  # what is done after the last answer

    def ask(self, prompt: str, **options):
        return self.engine.submit(self.request(prompt, **options)).result()

    def request(self, prompt: str, **options) -> Request:
        more = {"backend": self.backend, "dtype": "float32", "max_tokens": MAX_TOKENS, "raw": True}
        return Request.of(prompt, **{**more, **options})

    def needed(self, prompt: str) -> int:
        models = self.engine._models
        return self.engine.call(
            lambda: models.get("pocket", self.backend, Precision("float32")).model.needed(self.request(prompt))
        )

    @property
    def held(self) -> list[int]:
        """Bytes of each entry in memory, the least recently used first."""
        return [entry.nbytes for entry in self.engine.cache._memory._entries.values()]


@pytest.fixture(params=["mlx", "torch"])
def asked(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[request.param])
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine()
    yield Asked(engine, request.param)
    engine.close()


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_request_shrinks_the_cache_by_what_it_lacks_and_answers_the_same(asked: Asked, monkeypatch, gone):
    """It reuses the oldest entry, which is not dropped: those after it are, in order, and no more than must be."""
    asked.engine.cache.flush()  # so that nothing waits
    asked.engine.cache._disk.clear()  # nor can what is dropped be read again
    question = f"{document(SUBJECTS[0])}\n\nWhere is sqrt?"
    expected, held, needed = asked.ask(question, cache="off").tokens, asked.held, asked.needed(question)
    assert len(held) == len(SUBJECTS)
    assert needed > 0.9 * held[0]  # a state that is reused is copied; the one that is kept has a little room behind it
    missing = sum(held[1:gone]) + 1 if gone else 0
    monkeypatch.setattr(hardware, "memory_total", lambda: TOTAL)
    monkeypatch.setattr(hardware, "memory_free", lambda: threshold() + needed - missing)
    result = asked.ask(question)
    notes = [note for note in result.provenance.notes if "shrunk" in note]
    left = sum(held) - sum(held[1 : gone + 1])
    said = f"to {hardware.human_bytes(left)}"
    assert [note.endswith(said) for note in notes] == ([True] if gone else [])
    assert result.tokens == expected
    assert result.provenance.reused_tokens > 250
    asked.engine.call(lambda: None)
    assert len(asked.held) == len(SUBJECTS) - gone + 1


def test_what_waits_to_be_written_goes_first_and_is_written_later(asked: Asked, monkeypatch):
    disk, begun, gate = asked.engine.cache._disk, threading.Event(), threading.Event()
    asked.engine.cache.clear()
    write = disk._write
    monkeypatch.setattr(disk, "_write", lambda entry: (begun.set(), gate.wait(), write(entry)))
    for first in SUBJECTS:
        asked.ask(f"{document(first)}\n\nWhere is chain?")
    asked.engine.call(lambda: None)
    begun.wait()  # so one is being written, and stays
    number, waits = disk._writer.held
    assert number == len(SUBJECTS)
    held = sum(asked.held)
    with monkeypatch.context() as short:
        short.setattr(hardware, "memory_total", lambda: TOTAL)
        short.setattr(hardware, "memory_free", lambda: TOTAL if disk.waiting < waits else 0)
        result = asked.ask(f"{document(SUBJECTS[1])}\n\nWhere is sqrt?")
        asked.engine.call(lambda: None)
    assert any(note.startswith("prefix cache on disk: 3 KV states of") for note in result.provenance.notes)
    assert not any("shrunk" in note for note in result.provenance.notes)  # that was enough
    assert sum(asked.held) > held
    gate.set()
    assert asked.engine.cache.flush()
    written = disk.usage()[0]
    asked.ask(f"{document(SUBJECTS[2])}\n\nWhat does deque do?")
    asked.engine.call(lambda: None)
    assert asked.engine.cache.flush()
    assert disk.usage()[0] == written + 1


def test_what_waits_to_be_written_counts_against_the_budget(asked: Asked, monkeypatch):
    cache, gate = asked.engine.cache, threading.Event()
    assert cache.flush()
    monkeypatch.setattr(hardware, "memory_total", lambda: TOTAL)
    monkeypatch.setattr(hardware, "memory_free", lambda: TOTAL // 2)
    before = cache._budget()
    monkeypatch.setattr(cache._disk, "_write", lambda entry: gate.wait())
    asked.ask(document("Every"))
    asked.engine.call(lambda: None)
    waits, grown = cache._disk.waiting, asked.held[-1]
    assert waits > 0
    assert cache._budget() == int((TOTAL // 2 + sum(asked.held) + waits) * SHARE) - waits
    assert cache._budget() < before + grown - waits // 2
    gate.set()


def test_blocks_that_the_allocator_holds_for_later_are_free(monkeypatch):
    torch = pytest.importorskip("torch")
    from mlxnb.backends.torch import TorchBackend

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 300)
    assert TorchBackend().memory_free() == 1400


@pytest.mark.parametrize(("machine", "expected"), [(10_000, 600), (300, 350)])
def test_on_apple_silicon_the_working_set_and_the_machine_both_bind(monkeypatch, machine, expected):
    mx = pytest.importorskip("mlx.core")
    from mlxnb.backends import mlx

    monkeypatch.setattr(mlx, "device", lambda: "metal")
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 1000})
    monkeypatch.setattr(mx, "get_active_memory", lambda: 400)
    monkeypatch.setattr(mx, "get_cache_memory", lambda: 50)
    monkeypatch.setattr(hardware, "memory_free", lambda: machine)
    assert mlx.MlxBackend().memory_free() == expected
