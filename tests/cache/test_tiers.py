"""Memory and disk together: equality over random prompts, restarts, evictions, damage; pins that outlive a process."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlxnb import hardware
from mlxnb.cache import Answerer, Ledger, PrefixCache, PrefixDisk, Prefixes, WarnOnce, prefix_namespace
from mlxnb.cache.pressure import threshold
from tests.cache.fakes import FakeStates, is_fresh, spoil

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)
NAMESPACES = st.sampled_from(["a", "b"])


class Restarts(RuleBasedStateMachine):
    """What a person does over several kernels. A generation takes up what is found, feeds the rest, stores the whole:
    so a wrong state, once stored, would be found again later.
    """

    window: int | None = None

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.states, self.stats = FakeStates(self.window), Ledger()
        self.restart()

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule()
    def restart(self):
        self.budget, self.said = 200, []
        disk = PrefixDisk(self.folder, limit=20_000, warn=WarnOnce(self.said.append))
        self.cache = Prefixes(PrefixCache(lambda: self.budget, self.stats), disk, self.stats, 1, 1)
        for namespace in ("a", "b"):
            self.cache.restore_pins(namespace, self.states)

    @rule(namespace=NAMESPACES, prompt=TOKENS, answer=TOKENS, interrupted_at=st.integers(0, 9))
    def generate(self, namespace, prompt, answer, interrupted_at):
        found = self.cache.lookup(namespace, prompt, self.states)
        assert found.length < len(prompt)
        assert (found.state is None) == (found.length == 0)
        if found.state is not None:
            assert is_fresh(found.state, prompt[: found.length])
            spoil(found.state)  # generation writes into what it was given
        fed = (prompt + answer)[: len(prompt) + interrupted_at]
        self.cache.store(namespace, fed, self.states.prefill(fed), self.states)
        self.cache.disk.flush()
        again = self.cache.lookup(namespace, (*fed, 1), self.states)
        if 8 * len(fed) <= self.budget:
            assert again.length == len(fed)

    @rule(name=st.sampled_from(["x", "y"]), namespace=NAMESPACES, tokens=TOKENS)
    def pin(self, name, namespace, tokens):
        self.cache.pin(name, namespace, tokens, self.states)
        self.cache.disk.flush()

    @rule(name=st.sampled_from(["x", "y"]))
    def unpin(self, name):
        self.cache.unpin(name)
        assert name not in [pin.name for pin in self.cache.disk.pins.all()]

    @rule(to=st.integers(0, 200))
    def shrink(self, to):
        assert self.cache.memory.shrink(to).left <= to

    @rule(budget=st.integers(100, 300))
    def change_budget(self, budget):
        self.budget = budget

    @rule(which=st.integers(0, 50), place=st.integers(0, 5000), bit=st.integers(0, 7))
    def damage_a_file(self, which, place, bit):
        files = sorted(self.folder.rglob("*.safetensors"))
        if files:
            content = bytearray(files[which % len(files)].read_bytes())
            content[place % len(content)] ^= 1 << bit
            files[which % len(files)].write_bytes(content)

    @rule()
    def lose_the_folder(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    @invariant()
    def the_budget_holds_after_a_store_or_for_pins(self):
        assert self.cache.memory.nbytes <= 300

    @invariant()
    def one_kind_of_trouble_is_said_once_a_process(self):
        assert sum("was dropped" in message for message in self.said) <= 1


class WindowedRestarts(Restarts):
    window = 5


class RecurrentRestarts(Restarts):
    window = 0


@pytest.mark.parametrize("machine", [Restarts, WindowedRestarts, RecurrentRestarts])
def test_every_state_given_out_is_a_fresh_prefills(machine):
    case = machine.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
    case().runTest()


@pytest.fixture
def make(tmp_path):
    def made(window=None, budget=10**9):
        disk = PrefixDisk(tmp_path, warn=WarnOnce(pytest.fail))
        stats = Ledger()
        return Prefixes(PrefixCache(lambda: budget, stats), disk, stats), FakeStates(window)

    return made


DOCUMENT = tuple(range(4000))


def store(cache, tokens, states):
    cache.store("n", tokens, states.prefill(tokens), states)
    cache.disk.flush()


def test_a_restart_reads_the_document_from_disk_then_from_memory(make):
    cache, states = make()
    store(cache, (*DOCUMENT, 1, 2), states)
    again, states = make()
    first = again.lookup("n", (*DOCUMENT, 5, 6), states, prefill_rate=1000.0)
    assert (first.length, first.source) == (4000, "disk")
    assert is_fresh(first.state, DOCUMENT)
    spoil(first.state)
    second = again.lookup("n", (*DOCUMENT, 7), states)
    assert (second.length, second.source) == (4000, "memory")
    assert is_fresh(second.state, DOCUMENT)
    tally = again.stats.tally("prefix")
    assert (tally.hits, tally.tokens_saved, tally.seconds_saved) == (2, 8000, 4.0)


def test_a_restart_knows_how_fast_the_model_prefilled(make):
    cache, states = make()
    cache.stats.label("n", "pocket")
    cache.store("n", DOCUMENT, states.prefill(DOCUMENT), states, prefill_rate=2000.0)
    cache.disk.flush()
    again, states = make()
    assert again.lookup("n", (*DOCUMENT, 5), states).source == "disk"
    assert again.stats.tally("prefix").seconds_saved == 2.0


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b"[" * 99999, b'{"model": 3, "prefill_rate": true}', b"\xff"])
def test_a_damaged_label_costs_the_name_and_the_rate_only(make, written):
    cache, states = make()
    cache.stats.label("n", "pocket")
    cache.store("n", DOCUMENT, states.prefill(DOCUMENT), states, prefill_rate=2000.0)
    cache.disk.flush()
    (label,) = cache.disk.folder.glob("*/label.json")
    label.write_bytes(written)
    again, states = make()
    assert (again.disk.model_of("n"), again.disk.prefill_rate_of("n")) == ("", None)
    assert again.lookup("n", (*DOCUMENT, 5), states).length == 4000
    again.disk.label("n", "pocket", 1000.0)
    assert (again.disk.model_of("n"), again.disk.prefill_rate_of("n")) == ("pocket", 1000.0)
    again.disk.label("n", "pocket", 1100.0)  # about the same, and not worth a write
    assert make()[0].disk.prefill_rate_of("n") == 1000.0


def test_a_pin_takes_its_state_from_the_disk(make):
    cache, states = make()
    store(cache, DOCUMENT, states)
    again, states = make()
    assert again.pin("document", "n", DOCUMENT, states)
    (pin,) = again.pinned(again.memory.pins())
    assert (pin.held, pin.on_disk) == (True, True)
    assert not again.pin("other", "n", (*DOCUMENT, 1, 2), states)


def test_a_short_prompt_is_not_written_nor_a_small_addition(make):
    cache, states = make()
    store(cache, DOCUMENT[:255], states)
    assert cache.disk.usage()[0] == 0
    store(cache, DOCUMENT, states)
    store(cache, (*DOCUMENT, *range(255)), states)
    assert cache.disk.find("n", (*DOCUMENT, *range(300))).length == 4000


@pytest.mark.parametrize("why", ["over the limit", "too much waits", "memory is short", ""])
def test_the_disk_is_asked_before_a_state_is_copied_for_it(make, monkeypatch, why):
    cache, states = make()
    gate, begun, arrays = threading.Event(), threading.Event(), []
    monkeypatch.setattr(states, "arrays", lambda state: (arrays.append(state), FakeStates.arrays(states, state))[1])
    if why == "over the limit":
        cache.disk.limit = 8 * 4000 - 1
    elif why == "too much waits":
        cache.disk._pending = 8 * 4000
        cache.disk._writer.submit(1, lambda: (begun.set(), gate.wait()))
        begun.wait()
    elif why == "memory is short":
        monkeypatch.setattr(hardware, "memory_free", lambda: 0)
    assert cache.store("n", DOCUMENT, states.prefill(DOCUMENT), states)
    assert len(arrays) == (0 if why else 1)
    monkeypatch.undo()
    gate.set()
    cache.disk.flush()
    cache.disk.limit = cache.disk._pending = 10**9
    store(cache, DOCUMENT, states)  # what was refused is taken later
    assert cache.disk.find("n", (*DOCUMENT, 1)).length == 4000


def test_the_disk_is_read_only_for_enough_more_than_memory_has(make):
    cache, states = make()
    store(cache, DOCUMENT[:500], states)
    for in_memory, source in ((437, "memory"), (436, "disk")):
        again, states = make()
        again.memory.store("n", DOCUMENT[:in_memory], states.prefill(DOCUMENT[:in_memory]), states)
        found = again.lookup("n", DOCUMENT[:501], states)
        assert (found.source, found.length) == (source, {"memory": in_memory, "disk": 500}[source])


@pytest.mark.parametrize(("missing", "source"), [(0, "disk"), (1, "")])
def test_the_disk_is_read_only_where_there_is_room(make, monkeypatch, missing, source):
    """A file's bytes and the state made of them are in memory at once."""
    cache, states = make()
    store(cache, DOCUMENT, states)
    again, states = make()
    size = again.disk.find("n", (*DOCUMENT, 1)).head.nbytes
    assert size >= 8 * 4000
    monkeypatch.setattr(hardware, "memory_free", lambda: threshold() + 2 * size - missing)
    assert again.lookup("n", (*DOCUMENT, 1), states).source == source


def test_a_state_of_another_model_is_dropped_and_the_next_one_taken(make, tmp_path):
    cache, states = make()
    store(cache, DOCUMENT[:1000], states)

    class Changed(FakeStates):
        def arrays(self, state):
            arrays, meta = super().arrays(state)
            return {"other": arrays["rows"]}, meta

    cache.disk.pin("keep", "n", DOCUMENT[:1000])  # or the longer one would replace it
    store(cache, DOCUMENT, Changed())
    said = []
    fresh = Prefixes(PrefixCache(lambda: 10**9), PrefixDisk(tmp_path, warn=WarnOnce(said.append)), Ledger())
    assert fresh.lookup("n", (*DOCUMENT, 1), states).length == 1000
    assert len(said) == 1
    assert "KeyError" in said[0]


def test_a_pin_is_held_after_a_restart(make):
    cache, states = make()
    assert not cache.pin("doc", "n", DOCUMENT, states)  # nothing to hold yet
    store(cache, (*DOCUMENT, 1, 2, 3), states)
    assert [pin.held for pin in cache.memory.pins()] == [True]
    again, states = make()
    assert all(again.restore_pins("n", states))
    assert [(p.name, p.tokens, p.held) for p in again.memory.pins()] == [("doc", 4000, True)]
    again.memory.clear()
    assert again.memory.lookup("n", (*DOCUMENT, 9), states).length == 4000
    assert again.unpin("doc")
    assert not again.unpin("doc")
    third, states = make()
    assert third.restore_pins("n", states) == []


def test_only_a_state_of_the_whole_pin_is_read_for_it(make):
    cache, states = make()
    store(cache, (*DOCUMENT[:3999], 7, 8), states)  # all but the last token of the pin
    cache.pin("doc", "n", DOCUMENT, states)
    again, states = make()
    assert [bool(verdict) for verdict in again.restore_pins("n", states)] == [False]
    assert again.memory.nbytes == 0
    assert [(pin.name, pin.held) for pin in again.memory.pins()] == [("doc", False)]
    store(again, (*DOCUMENT, 1, 2), states)
    assert [pin.held for pin in again.memory.pins()] == [True]


def test_a_state_that_memory_has_is_not_read_again_for_a_pin(make, monkeypatch):
    cache, states = make()
    store(cache, (*DOCUMENT, 1, 2), states)
    cache.pin("doc", "n", DOCUMENT, states)
    again, states = make()
    again.lookup("n", (*DOCUMENT, 1, 2, 3), states)
    monkeypatch.setattr(again.disk, "load", lambda found: pytest.fail("was read"))
    again.meet("n", states)
    assert [pin.held for pin in again.memory.pins()] == [True]


def test_a_pin_whose_state_cannot_be_had_now_waits(make, monkeypatch):
    cache, states = make()
    store(cache, DOCUMENT, states)
    assert cache.pin("doc", "n", DOCUMENT, states)

    def full(*args):
        raise RuntimeError("out of memory")

    again, states = make()
    with monkeypatch.context() as patch:
        patch.setattr(states, "state", full)
        again.meet("n", states)
    assert "the pin doc waits for its state: RuntimeError: out of memory" in again.refused
    assert [pin.held for pin in again.memory.pins()] == [False]
    assert again.lookup("n", (*DOCUMENT, 1), states).length == 4000
    assert [pin.held for pin in again.memory.pins()] == [True]


def namespace_of(identity: str, backend: str = "torch") -> str:
    return prefix_namespace(Answerer(identity, backend, "1", "cpu", "float32"))


def test_pins_are_taken_up_once_until_their_model_goes(make, monkeypatch):
    cache, states = make()
    name = namespace_of("files:1")
    cache.store(name, DOCUMENT, states.prefill(DOCUMENT), states)
    cache.pin("doc", name, DOCUMENT[:3000], states)
    cache.disk.flush()
    again, states = make()
    assert [(p.held, p.memory, p.on_disk) for p in again.pinned(again.memory.pins())] == [(False, 0, True)]
    again.meet(namespace_of("files:2"), states)
    assert again.memory.pins() == []
    for _ in range(2):
        again.meet(name, states)
        with monkeypatch.context() as patch:
            patch.setattr(again, "restore_pins", lambda *_: pytest.fail("was taken up twice"))
            again.meet(name, states)
        assert [(p.held, p.memory) for p in again.pinned(again.memory.pins())] == [(True, 24000)]
        again.forget("files:1", "torch")
        assert [(p.held, p.on_disk) for p in again.pinned(again.memory.pins())] == [(False, True)]


def test_only_the_states_of_the_very_model_are_forgotten(make):
    cache, states = make()
    kept = [namespace_of("files:1 as float32"), namespace_of("files:1", "mlx"), namespace_of("files:12")]
    for namespace in (namespace_of("files:1"), *kept):
        cache.store(namespace, DOCUMENT, states.prefill(DOCUMENT), states)
    cache.forget("files:1", "torch")
    assert sorted(cache.memory.usage()) == sorted(kept)


def test_a_name_that_is_refused_for_room_keeps_what_it_kept(make):
    cache, states = make(budget=8 * 4100)
    store(cache, DOCUMENT[:900], states)
    assert cache.pin("doc", "n", DOCUMENT[:900], states)
    store(cache, (7, *DOCUMENT[:3000]), states)
    cache.memory._budget = lambda: 8 * 2000
    refused = cache.pin("doc", "n", (7, *DOCUMENT[:3000]), states)
    assert "no room for one more pin" in refused.reason
    assert [(p.tokens, p.held, p.on_disk) for p in cache.pinned(cache.memory.pins())] == [(900, True, True)]
    cache.memory.clear()
    assert cache.memory.lookup("n", DOCUMENT, states).length == 900


def test_a_wrong_name_is_answered_with_the_pins_of_models_that_are_not_loaded_too(make):
    cache, states = make()
    cache.pin("elsewhere", "n", DOCUMENT[:9], states)
    again, states = make()
    again.memory.pin("here", "m", DOCUMENT[:9], states)
    assert again.unpin("zz").remedy == "pinned now: elsewhere, here"
    assert again.unpin("elsewhere")
    assert again.unpin("zz").remedy == "pinned now: here"


def test_every_pin_is_listed_with_its_model_where_that_is_known(make):
    cache, states = make()
    cache.stats.label("n", "pocket")
    cache.pin("short", "n", DOCUMENT[:9], states)  # waits for its state
    cache.pin("nobody's", "m", DOCUMENT[:8], states)
    again, states = make()
    again.memory.pin("here", "n", DOCUMENT[:7], states)
    listed = again.pinned(again.memory.pins())
    assert [(p.name, p.model, p.tokens, p.held, p.on_disk) for p in listed] == [
        ("here", "", 7, False, False),
        ("nobody's", "", 8, False, False),
        ("short", "pocket", 9, False, False),
    ]


@pytest.mark.parametrize("pinned_first", [True, False])
def test_a_pin_has_a_file_of_its_own(make, pinned_first):
    cache, states = make()
    if pinned_first:
        cache.pin("doc", "n", DOCUMENT[:100], states)  # too few tokens to be written without a pin
    store(cache, DOCUMENT, states)
    if not pinned_first:
        cache.pin("doc", "n", DOCUMENT[:100], states)
    cache.disk.flush()
    assert cache.disk.clear() == 1
    again, states = make()
    assert all(again.restore_pins("n", states))
    assert again.memory.lookup("n", DOCUMENT, states).length == 100


def test_a_recurrent_state_is_found_at_its_snapshots(make):
    cache, states = make(window=0)
    store(cache, DOCUMENT[:3000], states)
    store(cache, DOCUMENT, states)
    again, states = make(window=0)
    assert again.lookup("n", (*DOCUMENT, 1), states).length == 4000
    parted = again.lookup("n", (*DOCUMENT[:3500], 1), states)
    assert (parted.length, parted.common) == (3000, 3500)
    assert is_fresh(parted.state, DOCUMENT[:3000])


def test_without_a_disk(make):
    states, stats = FakeStates(), Ledger()
    cache = Prefixes(PrefixCache(lambda: 10**9), None, stats)
    assert cache.lookup("n", (1, 2, 3), states).state is None
    cache.store("n", (1, 2), states.prefill((1, 2)), states)
    assert cache.lookup("n", (1, 2, 3), states).source == "memory"
    assert cache.pin("p", "n", (1, 2), states)
    assert cache.restore_pins("n", states) == []
    assert cache.unpin("p")
    assert stats.tally("prefix").hit_rate == 0.5
