"""The parts of a token: which modules of a model are which, and a clock that splits time between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# In the order in which a token goes through them. "recurrent" is what stands in attention's place in state-space and
# linear-attention layers; "other" is the rest of the model's own forward pass: residual sums, masks, rotary tables, and
# Python between the parts; "overhead" is our decode loop and the engine around it.
PARTS = (
    "embedding",
    "norm",
    "attention",
    "recurrent",
    "mlp",
    "other",
    "head",
    "sampling",
    "detokenising",
    "overhead",
)

Key = tuple[str, int | None]  # a part and its layer
Placed = tuple[Any, str, int | None]  # a module, its part and its layer
Children = Callable[[Any], Iterable[tuple[str, Any]]]

SAMPLING: Key = ("sampling", None)
DETOKENISING: Key = ("detokenising", None)
OVERHEAD: Key = ("overhead", None)
FORWARD: Key = ("other", None)

RECURRENT = ("mamba", "ssm", "recurrent", "delta", "rwkv", "conv", "temporal")
MLP = ("mlp", "feed_forward", "feedforward", "ffn", "moe", "expert", "fc1", "fc2")


class Ledger:
    """Charges every moment to the part that was entered last and not left yet, so that parts inside one another are
    counted once and all of them add up to the time that went by.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._stack: list[Key] = [OVERHEAD]
        self._seconds: dict[Key, float] = {}
        self._at = clock()

    def enter(self, key: Key) -> None:
        """A part begins."""
        self._charge()
        self._stack.append(key)

    def leave(self) -> None:
        """The part that was entered last ends."""
        self._charge()
        self._stack.pop()

    def cut(self) -> dict[Key, float]:
        """Seconds of each part since the last cut, and none of them from here on."""
        self._charge()
        done, self._seconds = self._seconds, {}
        return done

    @contextmanager
    def part(self, key: Key) -> Iterator[None]:
        """Within, time belongs to `key`."""
        self.enter(key)
        try:
            yield
        finally:
            self.leave()

    def _charge(self) -> None:
        now, key = self._clock(), self._stack[-1]
        self._seconds[key] = self._seconds.get(key, 0.0) + now - self._at
        self._at = now


def part_of(name: str, kind: str, leaf: bool) -> str | None:
    """What a module inside a layer is, by its name there and that of its class; None for none of the parts."""
    words = f"{name} {kind}".lower()
    if leaf and ("norm" in words or name.startswith("ln_")):
        return "norm"
    if "linear_attn" in words or "linearattention" in words:
        return "recurrent"
    if "attn" in words or "attention" in words:
        return "attention"
    if any(word in words for word in RECURRENT):
        return "recurrent"
    return "mlp" if any(word in words for word in MLP) else None


def within(layer: Any, index: int, children: Children) -> Iterator[Placed]:
    """The parts of one layer, the layer itself first. Norms count as norms wherever they are; of everything else only
    the outermost is a part.
    """
    yield layer, "other", index
    yield from _placed(layer, index, children, only_norms=False)


def _placed(module: Any, index: int, children: Children, only_norms: bool) -> Iterator[Placed]:
    for name, child in children(module):
        inner = list(children(child))
        part = part_of(name, type(child).__name__, not inner)
        if part is not None and (part == "norm" or not only_norms):
            yield child, part, index
        yield from _placed(child, index, children, only_norms or part is not None)
