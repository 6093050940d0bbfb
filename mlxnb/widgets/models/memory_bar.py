"""The memory of the machine, and of a card beside it, as a bar: weights, kept KV states, everything else, free."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...render.numbers import count

if TYPE_CHECKING:
    from ...runtime import Engine

CSS = """
.mlxnb .mlxnb-memory{display:flex;height:12px;margin:4px 0;border:1px solid var(--border)}
.mlxnb .mlxnb-memory>div{min-width:0}
.mlxnb .mlxnb-memory>.mlxnb-some{min-width:2px}
.mlxnb .mlxnb-weights{background:var(--brand)}
.mlxnb .mlxnb-states{background:var(--success)}
.mlxnb .mlxnb-others{background:var(--secondary);opacity:.4}
.mlxnb .mlxnb-legend{display:flex;flex-wrap:wrap;gap:0 8px;font-variant-numeric:tabular-nums;margin:0 0 8px}
.mlxnb .mlxnb-legend span{white-space:nowrap}
.mlxnb .mlxnb-legend i{display:inline-block;width:8px;height:8px;margin:0 8px 0 0}
.mlxnb .mlxnb-legend .mlxnb-nothing{border:1px solid var(--border);width:6px;height:6px}
"""
CARD = "cuda"


@dataclass(frozen=True, slots=True)
class Memory:
    """What lies in one memory, in MB that add up to `total`. `states` are the KV states that are kept between
    questions; that of a running answer, the framework and other programs are `others`.
    """

    place: str
    weights: int
    states: int
    others: int
    free: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.states + self.others + self.free

    def parts(self) -> tuple[tuple[str, str, int], ...]:
        """Each with the name of its colour and what it is called."""
        return (
            ("weights", "weights", self.weights),
            ("states", "kept KV states", self.states),
            ("others", "everything else", self.others),
            ("nothing", "free", self.free),
        )

    def text(self) -> str:
        """In words."""
        parts = ", ".join(f"{label} {count(size)} MB" for _, label, size in self.parts())
        return f"Memory of {self.place}, {count(self.total)} MB: {parts}."

    def html(self) -> str:
        """As a bar over a legend."""
        whole = max(self.total, 1)
        bar = "".join(
            f'<div class="mlxnb-{kind}{" mlxnb-some" if size else ""}" style="width:{100 * size / whole:.2f}%"></div>'
            for kind, _, size in self.parts()
        )
        legend = " · ".join(  # for where no style sheet keeps them apart
            f'<span><i class="mlxnb-{kind}"></i>{html.escape(label)} {count(size)} MB</span>'
            for kind, label, size in self.parts()
        )
        said = f'<span class="mlxnb-secondary">of {count(self.total)} MB, {html.escape(self.place)}</span>'
        return (
            f'<div class="mlxnb-memory" role="img" aria-label="{html.escape(self.text())}">{bar}</div>'
            f'<div class="mlxnb-legend">{legend} {said}</div>'
        )


def divided(place: str, weights: int, states: int, free: int, total: int) -> Memory:
    """The parts of `total` bytes. What is `free` may be counted as weights too, where these are mapped from a file:
    then it is theirs.
    """
    ours = weights + states
    others = max(0, total - free - ours)
    left = max(0, total - ours - others)
    of_weights, of_states, of_left = round(weights / 1e6), round(states / 1e6), round(left / 1e6)
    rest = max(0, round(total / 1e6) - of_weights - of_states - of_left)
    return Memory(place, of_weights, of_states, rest, of_left)


def memories(engine: Engine, card: int | None = None) -> Iterator[Memory]:
    """The machine's, and where a model is on a card of `card` bytes, the card's. Safe on any thread, and quick."""
    status, states = engine.status(), engine.cache.in_memory if engine.cache is not None else {}
    on_card = [info for info in status.loaded if info.device.startswith(CARD)]
    there = {info.name for info in on_card}
    kept = sum(usage.bytes for name, usage in states.items() if name in there)
    weights = sum(info.memory for info in status.loaded if info not in on_card)
    others = sum(usage.bytes for usage in states.values()) - kept
    yield divided("this machine", weights, others, status.memory_free, status.memory_total)
    torch = engine.backends.get("torch")
    free = torch.memory_free() if on_card and card and torch is not None else None
    if free is not None and card is not None:
        yield divided("the GPU", sum(info.memory for info in on_card), kept, free, card)
