"""The prefix cache in memory: KV states of earlier prompts, found again by their token ids, bounded in bytes.

mlx-lm's LRUPromptCache is not underneath, though it does a similar thing: it is MLX only, and the torch backend runs
where MLX is absent; it has no pins, no budget that follows free memory, and no namespaces that a person can read;
its fetch does not count as a use, so what it drops is the oldest and not the least recently used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..decision import Accepted, Decision, Rejected
from ..hardware import human_bytes
from .sorted_keys import SortedKeys
from .states import KVStates, key_of, length_of
from .stats import Ledger

SUBJECT = "prefix cache"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What there is for a prompt. `state` holds its first `length` tokens and belongs to the caller; None for a miss.

    `common`: tokens that the prompt shares with anything seen, also where no state could be had for them. A state that
    cannot be cut is worth a snapshot there: the next prompt is likely to part at the same place.
    """

    state: Any | None = None
    length: int = 0
    common: int = 0
    source: Literal["", "memory", "disk"] = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """A sequence that is to be kept. `held`: whether its state is in memory now, in `bytes`."""

    name: str
    namespace: str
    tokens: int
    held: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What `shrink` dropped, and what is left; sizes in bytes. `pins` names those that had to go."""

    entries: int
    freed: int
    left: int
    pins: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = f"prefix cache shrunk by {human_bytes(self.freed)} to {human_bytes(self.left)}"
        return said + (f", pins dropped: {', '.join(self.pins)}" if self.pins else "")


@dataclass(slots=True)
class _Entry:
    state: Any
    nbytes: int
    pins: set[str] = field(default_factory=set)


Place = tuple[str, bytes]  # namespace and key


class PrefixCache:
    """Belongs to the engine's thread. `budget` is asked at each store, in bytes, so that it can follow free memory.

    A state from one namespace is never given out in another. A state given to `store` belongs to the cache from then
    on, one that `lookup` gives to the caller.
    """

    def __init__(self, budget: Callable[[], int], stats: Ledger | None = None) -> None:
        self._budget = budget
        self._stats = stats
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()  # the least recently used first
        self._keys: dict[str, SortedKeys] = {}
        self._pins: dict[str, Place] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, namespace: str, tokens: Sequence[int], states: KVStates) -> Lookup:
        """The state of the longest prefix that can be had; at least the last token is always left to feed."""
        place, found = self._nearest(namespace, tokens, states)
        if place is not None:
            self._entries.move_to_end(place)
        return found

    def reused(self, namespace: str, tokens: Sequence[int], states: KVStates) -> Place | None:
        """Which entry `lookup` would take; it does not count as used."""
        return self._nearest(namespace, tokens, states)[0]

    def store(self, namespace: str, tokens: Sequence[int], state: Any, states: KVStates) -> Decision:
        """Keep the state of `tokens`, all of them, and drop what it makes needless or the budget has no room for."""
        if not tokens:
            return Rejected(SUBJECT, "there are no tokens")
        place = (namespace, key_of(tokens))
        covering, budget = self._covering(place, states), self._budget()
        if covering is not None:
            self._entries.move_to_end(covering)
        else:
            room, size = budget - self._pinned_bytes(), states.nbytes(state)
            if size > room:
                return Rejected(SUBJECT, f"the state takes {human_bytes(size)}, there is room for {human_bytes(room)}")
            self._add(place, _Entry(state, size))
            self._drop_prefixes(place, states)
        self._hold_pins(place, states)
        self._evict(covering or place, budget)
        return Accepted(SUBJECT, "in memory")

    def pin(self, name: str, namespace: str, tokens: Sequence[int], states: KVStates) -> Decision:
        """Keep the state of `tokens` until it is unpinned. A name that was in use is free for it; where there is no
        room, what the name held before stays.

        Where there is no such state yet, the pin waits for one; the refusal says so.
        """
        if not tokens:
            return Rejected(name, "there are no tokens to keep")
        before = next((pin for pin in self.pins() if pin.name == name), None)
        place_before = self._pins.get(name)
        self.unpin(name)
        place = (namespace, key_of(tokens))
        self._pins[name] = place
        if self._hold(name, place, states):
            self._evict(place, self._budget())
            return Accepted(name, f"{len(tokens)} tokens kept")
        covered = self._covering(place, states) is not None
        if covered:
            del self._pins[name]
            if before is not None and place_before is not None:
                self._pins[name] = place_before
                if before.held:
                    self._entries[place_before].pins.add(name)
            return Rejected(name, "the budget has no room for one more pin", "unpin another")
        return Rejected(name, "its tokens are not in the cache", "it is kept as soon as a prompt begins with them")

    def unpin(self, name: str) -> Decision:
        """Let what a pin holds be dropped like anything else."""
        place = self._pins.pop(name, None)
        if place is None:
            known = ", ".join(sorted(self._pins)) or "none"
            return Rejected(name, "nothing is pinned by that name", f"pinned now: {known}")
        if place in self._entries:
            self._entries[place].pins.discard(name)
        return Accepted(name, "unpinned")

    def is_pinned(self, name: str, namespace: str, tokens: Sequence[int]) -> bool:
        """Whether a name keeps exactly these tokens, or waits for their state."""
        return self._pins.get(name) == (namespace, key_of(tokens))

    def awaited(self, namespace: str, tokens: Sequence[int]) -> bool:
        """Whether a pin waits for a state that a prefill of these tokens would give."""
        waiting = [self._pins[pin.name][1] for pin in self.pins() if pin.namespace == namespace and not pin.held]
        return bool(waiting) and key_of(tokens).startswith(tuple(waiting))

    def exact(self, namespace: str, tokens: Sequence[int]) -> Any | None:
        """The entry of exactly these tokens, still the cache's own: to be looked at, not fed."""
        entry = self._entries.get((namespace, key_of(tokens)))
        return None if entry is None else entry.state

    def pins(self) -> list[Pin]:
        """Every pin, by name."""
        return [self._pin(name) for name in sorted(self._pins)]

    def shrink(self, to_bytes: int, keep: Place | None = None) -> Shrunk:
        """Drop the least recently used until no more than `to_bytes` are left; pins go last, and then wait for their
        state to come back. The entry of `keep` goes only when there is no other.
        """
        before, count, gone = self.nbytes, len(self._entries), []
        for place in sorted(self._entries, key=lambda place: (place == keep, bool(self._entries[place].pins))):
            if self.nbytes <= to_bytes:
                break
            gone += sorted(self._entries[place].pins)
            self._evicted(place)
        return Shrunk(count - len(self._entries), before - self.nbytes, self.nbytes, tuple(gone))

    def clear(self) -> Shrunk:
        """Drop everything that is not pinned."""
        before, count = self.nbytes, len(self._entries)
        for place in [place for place, entry in self._entries.items() if not entry.pins]:
            self._drop(place)
        return Shrunk(count - len(self._entries), before - self.nbytes, self.nbytes)

    def forget(self, namespace: str) -> None:
        """Drop every state of a namespace, its model being unloaded; its pins wait for it to come back."""
        for place in [place for place in self._entries if place[0] == namespace]:
            self._drop(place)
        self._keys.pop(namespace, None)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Entries and bytes, by namespace."""
        counted: dict[str, tuple[int, int]] = {}
        for (namespace, _), entry in list(self._entries.items()):
            entries, size = counted.get(namespace, (0, 0))
            counted[namespace] = (entries + 1, size + entry.nbytes)
        return counted

    def _space(self, namespace: str) -> SortedKeys:
        return self._keys.setdefault(namespace, SortedKeys())

    def _nearest(self, namespace: str, tokens: Sequence[int], states: KVStates) -> tuple[Place | None, Lookup]:
        key, most = key_of(tokens), 0
        for common, found in self._space(namespace).nearest(key):
            most = max(most, common)
            length = min(common, len(tokens) - 1)
            if length == 0:
                break
            state = self._cut((namespace, found), length, states)
            if state is not None:
                return (namespace, found), Lookup(state, length, most, "memory")
        return None, Lookup(common=most)

    def _cut(self, place: Place, length: int, states: KVStates) -> Any | None:
        entry = self._entries[place]
        return states.copy(entry.state) if length == length_of(place[1]) else states.trim(entry.state, length)

    def _covering(self, place: Place, states: KVStates) -> Place | None:
        """The entry that gives this place's state already: its own, or a longer one that can be cut down to it."""
        namespace, key = place
        for found in self._space(namespace).beginning_with(key):
            if found == key or states.trim(self._entries[(namespace, found)].state, length_of(key)) is not None:
                return namespace, found
        return None

    def _drop_prefixes(self, place: Place, states: KVStates) -> None:
        """A shorter entry is needless where the new one can be cut down to it, unless it is pinned."""
        namespace, key = place
        new = self._entries[place].state
        for found in list(self._space(namespace).prefixes_of(key)):
            if not self._entries[(namespace, found)].pins and states.trim(new, length_of(found)) is not None:
                self._drop((namespace, found))

    def _hold_pins(self, stored: Place, states: KVStates) -> None:
        for name, place in self._pins.items():
            if place[0] == stored[0] and stored[1].startswith(place[1]) and not self._pin(name).held:
                self._hold(name, place, states)

    def _hold(self, name: str, place: Place, states: KVStates) -> bool:
        """Give a pin an entry of exactly its tokens, where there is a state for it and room among the pins."""
        covering = self._covering(place, states)
        if covering is None:
            return False
        own = self._entries.get(place)
        if own is None:
            state = self._cut(covering, length_of(place[1]), states)
            own = _Entry(state, states.nbytes(state))
        if not own.pins and self._pinned_bytes() + own.nbytes > self._budget():
            return False
        if place not in self._entries:
            self._add(place, own)
        own.pins.add(name)
        return True

    def _pin(self, name: str) -> Pin:
        place = self._pins[name]
        entry = self._entries.get(place)
        held = entry is not None and name in entry.pins
        return Pin(name, place[0], length_of(place[1]), held, entry.nbytes if entry and held else 0)

    def _pinned_bytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values() if entry.pins)

    def _add(self, place: Place, entry: _Entry) -> None:
        self._entries[place] = entry
        self._space(place[0]).add(place[1])
        self.nbytes += entry.nbytes

    def _evict(self, keep: Place, budget: int) -> None:
        for place in sorted(self._entries, key=lambda place: place == keep):
            if self.nbytes <= budget:
                return
            if not self._entries[place].pins:
                self._evicted(place)

    def _evicted(self, place: Place) -> None:
        if self._stats is not None:
            self._stats.evicted("prefix", place[0])
        self._drop(place)

    def _drop(self, place: Place) -> None:
        self.nbytes -= self._entries.pop(place).nbytes
        self._space(place[0]).discard(place[1])
