"""The prefix cache against a model of it that a child could check: a list, searched from end to end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlxnb.cache import Ledger, PrefixCache
from tests.cache.fakes import FakeStates, is_fresh, spoil

# Few different tokens and short sequences, so that prefixes, extensions and repeats come up all the time.
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)
NAMESPACES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["one", "two"])


def shared(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass
class Kept:
    namespace: str
    tokens: tuple[int, ...]
    pins: set[str] = field(default_factory=set)

    @property
    def size(self):
        return 8 * len(self.tokens)


class Comparison(RuleBasedStateMachine):
    window: int | None = None

    def __init__(self):
        super().__init__()
        self.states = FakeStates(self.window)
        self.budget = 160
        self.stats = Ledger()
        self.cache = PrefixCache(lambda: self.budget, self.stats)
        self.evicted = Counter()  # by namespace
        self.kept: list[Kept] = []  # the least recently used first
        self.pins: dict[str, tuple[str, tuple[int, ...]]] = {}

    # The model.

    def cuttable(self, length):
        return self.window is None or length < self.window

    def usable(self, kept, namespace, tokens):
        if kept.namespace != namespace:
            return 0
        length = min(shared(kept.tokens, tokens), len(tokens) - 1)
        return length if length == len(kept.tokens) or self.cuttable(len(kept.tokens)) else 0

    def covers(self, kept, namespace, tokens):
        whole = kept.namespace == namespace and kept.tokens[: len(tokens)] == tokens
        return whole and (len(kept.tokens) == len(tokens) or self.cuttable(len(kept.tokens)))

    def used(self, kept):
        self.kept.remove(kept)
        self.kept.append(kept)

    def pinned_size(self):
        return sum(k.size for k in self.kept if k.pins)

    def size(self):
        return sum(k.size for k in self.kept)

    def hold(self, name):
        namespace, tokens = self.pins[name]
        if not any(self.covers(k, namespace, tokens) for k in self.kept):
            return False
        own = next((k for k in self.kept if (k.namespace, k.tokens) == (namespace, tokens)), None)
        candidate = own or Kept(namespace, tokens)
        if not candidate.pins and self.pinned_size() + candidate.size > self.budget:
            return False
        if own is None:
            self.kept.append(candidate)
        candidate.pins.add(name)
        return True

    def evict(self, keep):
        for kept in [*(k for k in self.kept if k is not keep), keep]:
            if self.size() > self.budget and not kept.pins:
                self.kept.remove(kept)
                self.evicted[kept.namespace] += 1
                event("evicted by the budget")

    # The steps.

    @rule(namespace=NAMESPACES, tokens=TOKENS)
    def store(self, namespace, tokens):
        state = self.states.prefill(tokens)
        verdict = self.cache.store(namespace, tokens, state, self.states)
        covering = [k for k in self.kept if self.covers(k, namespace, tokens)]
        # Of several that cover it the first in order of tokens counts as used.
        keep = min(covering, key=lambda k: k.tokens) if covering else Kept(namespace, tokens)
        if covering:
            self.used(keep)
        elif keep.size > self.budget - self.pinned_size():
            assert not verdict
            return
        else:
            self.kept.append(keep)
            if self.cuttable(len(tokens)):
                needless = [k for k in self.kept if k.namespace == namespace and k is not keep and not k.pins]
                for k in needless:
                    if tokens[: len(k.tokens)] == k.tokens:
                        self.kept.remove(k)
        assert verdict
        for name, (of, pinned) in self.pins.items():
            if of == namespace and tokens[: len(pinned)] == pinned and not self.held(name):
                self.hold(name)
        self.evict(keep)

    def held(self, name):
        return any(name in k.pins for k in self.kept)

    @rule(namespace=NAMESPACES, tokens=TOKENS)
    def look_up(self, namespace, tokens):
        found = self.cache.lookup(namespace, tokens, self.states)
        best = max((self.usable(k, namespace, tokens) for k in self.kept), default=0)
        assert found.length == best
        assert (found.state is None) == (best == 0)
        if best:
            assert is_fresh(found.state, tokens[:best])
            spoil(found.state)
            # Which of several equally good ones was used is the cache's own business, so it is asked.
            order = list(self.cache._entries)[-1]
            used = next(k for k in self.kept if (k.namespace, key(k.tokens)) == order)
            assert self.usable(used, namespace, tokens) == best
            self.used(used)
        else:
            common = [shared(k.tokens, tokens) for k in self.kept if k.namespace == namespace]
            if len(tokens) > 1:
                assert found.common == max(common, default=0)

    @rule(name=NAMES, namespace=NAMESPACES, tokens=TOKENS)
    def pin(self, name, namespace, tokens):
        before = self.pins.get(name), [k for k in self.kept if name in k.pins]
        self.unpin_in_model(name)
        self.pins[name] = (namespace, tokens)
        verdict = self.cache.pin(name, namespace, tokens, self.states)
        covered = any(self.covers(k, namespace, tokens) for k in self.kept)
        if self.hold(name):
            assert verdict
            self.evict(next(k for k in self.kept if (k.namespace, k.tokens) == (namespace, tokens)))
            return
        assert not verdict
        if covered:  # what the name kept before stays
            del self.pins[name]
            if before[0] is not None:
                self.pins[name] = before[0]
            for kept in before[1]:
                kept.pins.add(name)

    @precondition(lambda self: self.kept)
    @rule(name=NAMES, which=st.integers(0, 30), part=st.integers(1, 9))
    def pin_a_part_of_what_is_there(self, name, which, part):
        kept = self.kept[which % len(self.kept)]
        self.pin(name, kept.namespace, kept.tokens[:part])

    @precondition(lambda self: any(k.pins for k in self.kept))
    @rule(more=TOKENS)
    def store_on_from_a_pin(self, more):
        kept = next(k for k in self.kept if k.pins)
        self.store(kept.namespace, (*kept.tokens, *more))

    @rule(name=NAMES)
    def unpin(self, name):
        assert bool(self.cache.unpin(name)) == (name in self.pins)
        self.unpin_in_model(name)

    def unpin_in_model(self, name):
        self.pins.pop(name, None)
        for kept in self.kept:
            kept.pins.discard(name)

    @rule(to=st.integers(0, 160))
    def shrink(self, to):
        shrunk = self.cache.shrink(to)
        before = len(self.kept)
        for kept in [*(k for k in self.kept if not k.pins), *(k for k in self.kept if k.pins)]:
            if self.size() > to:
                self.kept.remove(kept)
                self.evicted[kept.namespace] += 1
        assert shrunk.left == self.size() <= max(to, 0)
        assert shrunk.entries == before - len(self.kept)
        assert all(not self.held(name) and name in self.pins for name in shrunk.pins)

    @rule(budget=st.integers(0, 240))
    def change_budget(self, budget):
        self.budget = budget

    @rule(budget=st.integers(24, 120), stored=st.lists(TOKENS, min_size=2, max_size=5, unique=True))
    def run_out_of_room(self, budget, stored):
        self.budget = budget
        for tokens in stored:
            self.store("a", tokens)

    @rule()
    def restart(self):
        """The states are gone, and the pins wait for theirs."""
        self.cache = PrefixCache(lambda: self.budget, self.stats)
        self.kept = []
        for name, (namespace, tokens) in self.pins.items():
            assert not self.cache.pin(name, namespace, tokens, self.states)

    @rule()
    def clear(self):
        self.cache.clear()
        self.kept = [k for k in self.kept if k.pins]

    @precondition(lambda self: self.kept)
    @rule(namespace=NAMESPACES)
    def forget(self, namespace):
        self.cache.forget(namespace)
        self.kept = [k for k in self.kept if k.namespace != namespace]

    @invariant()
    def same_entries_in_the_same_order(self):
        assert list(self.cache._entries) == [(k.namespace, key(k.tokens)) for k in self.kept]
        assert self.cache.nbytes == self.size()
        assert sum(size for _, size in self.cache.usage().values()) == self.size()

    @invariant()
    def evictions_are_counted(self):
        counted = {namespace: tally.evictions for namespace, tally in self.stats.by_model("prefix").items()}
        assert counted == {namespace: number for namespace, number in self.evicted.items() if number}

    @invariant()
    def every_entry_is_what_a_fresh_prefill_gives(self):
        for kept in self.kept:
            assert is_fresh(self.cache.exact(kept.namespace, kept.tokens), kept.tokens)

    @invariant()
    def pins_are_told_as_they_are(self):
        told = {pin.name: (pin.namespace, pin.held) for pin in self.cache.pins()}
        assert told == {name: (where[0], self.held(name)) for name, where in self.pins.items()}


def key(tokens):
    from mlxnb.cache.states import key_of

    return key_of(tokens)


class Windowed(Comparison):
    window = 5


class Recurrent(Comparison):
    window = 0


@pytest.mark.parametrize("machine", [Comparison, Windowed, Recurrent])
def test_prefix_cache_does_what_the_model_does(machine):
    case = machine.TestCase
    case.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    case().runTest()
