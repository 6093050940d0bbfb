"""The KV cache of a batch in torch: every row has a slot of its own and grows at its own length, without copies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

# Room is made for so many tokens at a time: a longer buffer is made seldom, and a shorter one holds less that is empty.
GRAIN = 128

# Of so many slots at least one is in use, or some are given back.
SPARSE = 4


class Slots:
    """KV rows of a batch, one slot a request, position p of a request at index p of its slot.

    Nothing is padded on the left, so a row joins and leaves without moving the others, and a step writes one position
    of each in place. (DynamicCache joins the new position to a copy of all earlier ones, in each layer, each step.)
    What a row may look at is said by `mask`, from its length alone; what another row left in its slot is hidden. A step
    reads as far as its longest row. Layers that see a window hold every position too.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        from transformers import Cache

        self.layers = [slot_layer()(self, getattr(layer, "sliding_window", None)) for layer in layers]
        self.held = Cache(layers=self.layers)
        self.lengths: list[int] = []
        self.rows: Any = None  # indices of the slots [rows], and the positions [rows] that a step writes
        self.positions: Any = None
        self.longest = 0

    def join(self, state: Any) -> None:
        """Take in a DynamicCache of one request, in the next slot."""
        length = max(layer.get_seq_length() for layer in state.layers)
        slot = len(self.lengths)
        for own, layer in zip(self.layers, state.layers, strict=True):
            own.reserve(slot + 1, max([length, *self.lengths]) + 1, layer.keys, layer.values)
        for own, layer in zip(self.layers, state.layers, strict=True):
            own.put(slot, length, layer.keys, layer.values)
        self.lengths.append(length)

    def leave(self, slot: int) -> None:
        """Give a slot up; the last one moves into it."""
        last = len(self.lengths) - 1
        length = self.lengths.pop()
        if slot != last:
            for layer in self.layers:
                layer.move(last, slot, length)
            self.lengths[slot] = length

    def begin(self, device: Any) -> None:
        """Make ready for a step of one token a row."""
        import torch

        self.longest = max(self.lengths) + 1
        self.positions = torch.tensor(self.lengths, device=device)
        self.rows = torch.arange(len(self.lengths), device=device)
        for layer in self.layers:
            layer.reserve(len(self.lengths), self.longest, layer.keys, layer.values)

    def end(self) -> None:
        """The step came to its end: what it wrote counts."""
        self.lengths = [length + 1 for length in self.lengths]

    def mask(self, window: int | None, dtype: Any) -> Any:
        """What is added to the scores of a step [rows, 1, 1, longest]: 0 where a row looks, the least number elsewhere.

        `window`: how many positions it sees, itself included.
        """
        import torch

        at, own = torch.arange(self.longest, device=self.positions.device), self.positions[:, None]
        seen = at <= own if window is None else (at <= own) & (at > own - window)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None, None]

    def shrink(self, longest: int) -> None:
        """Give back what the rows that are left, which come to `longest` positions, will not need."""
        for layer in self.layers:
            layer.shrink(len(self.lengths), longest)

    def size(self, rows: int, longest: int) -> int:
        """Bytes of all buffers when `rows` rows have come to `longest` positions."""
        return sum(layer.size(rows, longest) for layer in self.layers)

    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(t.nbytes for layer in self.layers for t in (layer.keys, layer.values) if t is not None)


def roomy(held: tuple[int, int], rows: int, length: int) -> tuple[int, int]:
    """Slots and positions that there is room for once so many rows of so many are wanted, where there was `held`."""
    # Twice as many slots as there were, so that sixteen that join one by one are moved four times.
    slots = held[0] if rows <= held[0] else max(rows, 2 * held[0])
    return slots, max(held[1], in_grains(length))


def in_grains(length: int) -> int:
    """A length rounded up to what room is made for at a time."""
    return -(-length // GRAIN) * GRAIN


@cache
def slot_layer() -> Any:
    """The class of one layer's slots: a cache layer as transformers' models want one. Made once torch is wanted."""
    import torch
    from transformers.cache_utils import CacheLayerMixin

    class SlotLayer(CacheLayerMixin):
        """Keys and values [slots, heads, room, head_dim]."""

        keys: Any
        values: Any

        def __init__(self, slots: Slots, window: int | None) -> None:
            super().__init__()
            self._slots, self.window = slots, window

        def reserve(self, rows: int, length: int, keys: torch.Tensor, values: torch.Tensor) -> None:
            """Room for so many slots of so many positions; `keys` and `values` are examples of what goes into them."""
            room = roomy(self._held(), rows, length)
            if room != self._held():
                self._move_to(*room, keys, values)

        def shrink(self, rows: int, longest: int) -> None:
            """Give back slots that are not in use, and positions beyond those that a row comes to."""
            slots, length = self._held()
            fewer = 2 * rows if SPARSE * rows <= slots else slots
            shorter = min(length, in_grains(longest))
            if (fewer, shorter) != (slots, length):
                self._move_to(fewer, shorter, self.keys, self.values)

        def size(self, rows: int, longest: int) -> int:
            """Bytes once there is room for so many slots of so many positions."""
            slots, length = roomy(self._held(), rows, longest)
            return sum(slots * length * t.shape[1] * t.shape[-1] * t.element_size() for t in (self.keys, self.values))

        def _held(self) -> tuple[int, int]:
            return (0, 0) if self.keys is None else (self.keys.shape[0], self.keys.shape[-2])

        def _move_to(self, slots: int, length: int, keys: torch.Tensor, values: torch.Tensor) -> None:
            """New buffers with what of the old ones has a place in them, made like `keys` and `values`."""
            # Zeros: what is hidden is multiplied with a weight of zero, and must not be infinite.
            new = [t.new_zeros(slots, t.shape[1], length, t.shape[-1]) for t in (keys, values)]
            if self.keys is not None:
                rows, long = min(slots, self.keys.shape[0]), min(length, self.keys.shape[-2])
                for made, old in zip(new, (self.keys, self.values), strict=True):
                    made[:rows, :, :long] = old[:rows, :, :long]
            self.keys, self.values = new
            self.is_initialized = True

        def put(self, slot: int, length: int, keys: torch.Tensor, values: torch.Tensor) -> None:
            """The keys and values [1, heads, held, head_dim] of the last `held` of `length` positions."""
            at = slice(length - keys.shape[-2], length)
            self.keys[slot, :, at], self.values[slot, :, at] = keys[0], values[0]

        def move(self, source: int, target: int, length: int) -> None:
            for held in (self.keys, self.values):
                held[target, :, :length] = held[source, :, :length]

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            """Write one position a row; keys and values of all rows up to the longest."""
            rows, at, longest = self._slots.rows, self._slots.positions, self._slots.longest
            self.keys[rows, :, at], self.values[rows, :, at] = key_states[:, :, 0], value_states[:, :, 0]
            return self.keys[: len(rows), :, :longest], self.values[: len(rows), :, :longest]

        def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
            self.reserve(key_states.shape[0], key_states.shape[-2], key_states, value_states)

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self._slots.longest, 0

        def get_seq_length(self) -> int:
            return self._slots.longest - 1

        def get_max_length(self) -> int:
            return -1

    return SlotLayer
