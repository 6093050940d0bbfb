"""Prefixes in memory and on disk as one: what the engine asks, and what it hands its states to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..decision import Accepted, Decision, Rejected
from ..errors import in_words
from .disk import Found, PrefixDisk
from .entry_file import Entry
from .key import computed_by
from .prefix import Lookup, Pin, PrefixCache
from .pressure import may_read
from .states import KVStates, tokens_of
from .stats import Ledger

# Fewer tokens than these are prefilled about as quickly as a file is read, or are not worth the writing.
WORTH_READING = 64
WORTH_WRITING = 256


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pin as a person sees it. `model` is the name of its model, empty where nobody knows it; its state takes
    `memory` bytes, none where it is not in memory now, and is `on_disk` or not yet.
    """

    name: str
    model: str
    tokens: int
    memory: int = 0
    on_disk: bool = False

    @property
    def held(self) -> bool:
        """Whether its state is in memory now."""
        return self.memory > 0


class Prefixes:
    """Belongs to the engine's thread. `disk` is None where nothing is to outlive the process.

    The disk is read only for at least `worth_reading` tokens more than memory has, and written only where it lacks at
    least `worth_writing`. `refused` is why something was not kept, until somebody has said so and empties it.
    """

    def __init__(
        self,
        memory: PrefixCache,
        disk: PrefixDisk | None,
        stats: Ledger,
        worth_reading: int = WORTH_READING,
        worth_writing: int = WORTH_WRITING,
    ) -> None:
        self.memory, self.disk, self.stats = memory, disk, stats
        self._worth_reading, self._worth_writing = worth_reading, worth_writing
        self._met: set[str] = set()  # namespaces whose pins were taken up
        self.refused = ""

    def lookup(
        self, namespace: str, tokens: Sequence[int], states: KVStates, prefill_rate: float | None = None
    ) -> Lookup:
        """The state of the longest prefix in memory, or on disk where that has more; counted as a hit where it is long
        enough to be worth something, else as a miss.

        `prefill_rate`: tokens per second that this model was last measured to prefill, for the seconds saved; where it
        was not yet, an earlier process may have been told.
        """
        found = self.memory.lookup(namespace, tokens, states)
        if self.disk is not None:
            found = _longer(self.disk, self.memory, found, namespace, tokens, states, self._worth_reading)
            prefill_rate = prefill_rate or self.disk.prefill_rate_of(namespace)
        self.stats.looked_up("prefix", namespace, len(tokens), found.length, prefill_rate)
        return found

    def store(
        self,
        namespace: str,
        tokens: Sequence[int],
        state: Any,
        states: KVStates,
        prefill_rate: float | None = None,
    ) -> Decision:
        """Keep the state of all `tokens`, in memory; and on disk, in the background, where that has much less of them.
        `prefill_rate` is for the `lookup` of later processes.

        Turning a state into bytes takes a moment on this thread: call it once the answer is out.
        """
        # In memory first: what waits to be written is taken from the budget there.
        verdict = self.memory.store(namespace, tokens, state, states)
        if self.disk is not None and tokens:
            there = self.disk.find(namespace, tokens)
            if len(tokens) - (there.length if there else 0) >= self._worth_writing:
                self._label(self.disk, namespace, prefill_rate)
                self._note(_write(self.disk, namespace, tokens, state, states))
        self._note(verdict)
        if self.disk is not None and verdict:
            self._write_pins(self.disk, namespace, states)
        return verdict

    def pin(self, name: str, namespace: str, tokens: Sequence[int], states: KVStates) -> Decision:
        """Keep the state of `tokens`, also across restarts; see PrefixCache.pin."""
        self._fetch(name, namespace, tokens, states)
        verdict = self.memory.pin(name, namespace, tokens, states)
        # Held now, or waiting for its state; else the name keeps what it kept before, on disk too.
        if self.disk is not None and self.memory.is_pinned(name, namespace, tokens):
            self._label(self.disk, namespace)
            on_disk = self.disk.pin(name, namespace, tokens)
            self._write_pins(self.disk, namespace, states)
            return on_disk if verdict and not on_disk else verdict
        return verdict

    def unpin(self, name: str) -> Decision:
        """Let a pin go, in memory and on disk."""
        verdict = self.memory.unpin(name)
        if self.disk is not None and self.disk.pins.remove(name):
            return Accepted(name, "unpinned")
        if isinstance(verdict, Rejected):  # as `pinned` lists them, those of models that are not loaded too
            known = ", ".join(pin.name for pin in self.pinned(self.memory.pins())) or "none"
            return replace(verdict, remedy=f"pinned now: {known}")
        return verdict

    def pinned(self, here: Sequence[Pin]) -> list[Pinned]:
        """Every pin, by name: `here`, those of this process, and those on disk, also of models that are not loaded or
        gone. May be called from any thread.
        """
        names = self.stats.name
        found = {pin.name: Pinned(pin.name, names(pin.namespace), pin.tokens, pin.bytes) for pin in here}
        if self.disk is not None:
            for pin in self.disk.pins.all():
                model = names(pin.namespace) or self.disk.model_of(pin.namespace)
                in_memory = found[pin.name].memory if pin.name in found else 0
                there = self.disk.holds(pin)
                found[pin.name] = Pinned(pin.name, model, len(pin.tokens), in_memory, there)
        return sorted(found.values(), key=lambda pin: pin.name)

    def meet(self, namespace: str, states: KVStates) -> None:
        """Take up the pins of a namespace that was just used, once until it is forgotten: how a state is kept, which
        attention computed it, is decided by each request, so that no model's pins are known before.
        """
        if namespace not in self._met:
            self.restore_pins(namespace, states)

    def forget(self, identity: str, backend: str) -> None:
        """Drop the states that a model computed on a backend from memory: it is being unloaded. Its pins wait for it to
        come back.
        """
        for namespace in {*self.memory.usage(), *self._met}:
            if computed_by(namespace) == (identity, backend):
                self.memory.forget(namespace)
                self._met.discard(namespace)

    def restore_pins(self, namespace: str, states: KVStates) -> list[Decision]:
        """Take up the pins that earlier processes left for a model, with their states where the disk has them."""
        verdicts = []
        self._met.add(namespace)
        for pin in self.disk.pins.all() if self.disk is not None else ():
            if pin.namespace == namespace:
                self._fetch(pin.name, namespace, pin.tokens, states)
                verdicts.append(self.memory.pin(pin.name, namespace, pin.tokens, states))
        return verdicts

    def _fetch(self, name: str, namespace: str, tokens: Sequence[int], states: KVStates) -> None:
        """Bring what a pin keeps into memory, where only the disk has it."""
        if self.disk is None or not tokens:
            return
        past = (*tokens, 0)  # one token more, since a lookup always leaves the last one to be fed
        best = self.memory.lookup(namespace, past, states)
        # Only a state of the whole pin: one that shares its first tokens would take the memory for nothing.
        least = max(1, len(tokens) - best.length)
        try:
            _longer(self.disk, self.memory, best, namespace, past, states, least)
        except Exception as err:  # noqa: BLE001 - an edge: whatever a device says, the pin waits for its state
            self.refused = f"the pin {name} waits for its state: {in_words(err)}"

    def _note(self, verdict: Decision) -> None:
        if isinstance(verdict, Rejected):
            self.refused = verdict.reason

    def _label(self, disk: PrefixDisk, namespace: str, prefill_rate: float | None = None) -> None:
        """So that a later process, which may never load the model, can show whose these states are."""
        if name := self.stats.name(namespace):
            disk.label(namespace, name, prefill_rate)

    def _write_pins(self, disk: PrefixDisk, namespace: str, states: KVStates) -> None:
        if not any(pin.namespace == namespace for pin in self.memory.pins()):
            return
        for pin in disk.pins.all():
            state = self.memory.exact(namespace, pin.tokens) if pin.namespace == namespace else None
            if state is not None and not disk.holds(pin):
                _write(disk, namespace, pin.tokens, state, states)


def _longer(
    disk: PrefixDisk,
    memory: PrefixCache,
    best: Lookup,
    namespace: str,
    tokens: Sequence[int],
    states: KVStates,
    least: int,
) -> Lookup:
    """What the disk has, where that is at least `least` tokens more than `best`, and there is room; memory gets it
    too.
    """
    while (found := disk.find(namespace, tokens)) is not None and found.length >= best.length + least:
        if not may_read(found.head.nbytes):
            break
        state = _read(disk, found, states)
        if state is None:
            continue  # that entry was dropped, so the next look finds another
        own = states.copy(state) if found.length == found.head.length else states.trim(state, found.length)
        if own is None:
            disk.drop(found, "its state cannot be cut, as it should")
            continue
        memory.store(namespace, tokens_of(found.head.key), state, states)
        return Lookup(own, found.length, max(best.common, found.length), "disk")
    return best


def _read(disk: PrefixDisk, found: Found, states: KVStates) -> Any | None:
    loaded = disk.load(found)
    if loaded is None:
        return None
    try:
        return states.state(*loaded)
    except (ValueError, KeyError, TypeError) as err:
        disk.drop(found, f"it holds no state of this model: {type(err).__name__}: {err}")
        return None


def _write(disk: PrefixDisk, namespace: str, tokens: Sequence[int], state: Any, states: KVStates) -> Decision:
    taken = disk.takes(states.nbytes(state))  # before it is copied to host memory, which may be short
    if not taken:
        return taken
    arrays, meta = states.arrays(state)
    # A sliding window that has moved on can be cut a little: on disk that counts as not at all.
    whole_only = len(tokens) > 1 and states.trim(state, 1) is None
    return disk.put(Entry(namespace, tuple(tokens), whole_only, arrays, meta), taken)
