"""How a decode kernel's rows and keys are laid over lanes, simdgroups and threadgroups."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_DIMS = (64, 80, 96, 128, 256)
SIMDGROUPS = 4  # of a threadgroup whose simdgroups split the keys
MOST_SIMDGROUPS = 32  # Metal: 1,024 threads to a threadgroup
REGISTERS = 32  # elements of the queries that a lane holds, and as many of the sums: half of its 128 registers

# Elements of head_dim to a lane: wide needs fewer shuffles a key, narrow leaves registers for more rows.
_WIDE = {64: 8, 80: 5, 96: 6, 128: 8, 256: 8}
_NARROW = {64: 4, 80: 5, 96: 3, 128: 4, 256: 8}
# A lane's elements must fill words of eight or four values, or share one evenly.
_WIDE_PACKED = {64: 8, 96: 8, 128: 8, 256: 8}
_NARROW_PACKED = {64: 4, 96: 4, 128: 4, 256: 8}

# The keys are split until there are this many threadgroups, enough for the largest GPUs; a split stays long enough that
# the partial results are small beside the keys and values it has read.
THREADGROUPS = 128
KEYS_PER_SPLIT = 128
KEYS_PER_ROW = 32


@dataclass(frozen=True, slots=True)
class Tiling:
    """`lanes` of `elements` each to a key, `rows` to a simdgroup; `staged`: the simdgroups have different rows."""

    lanes: int
    elements: int
    rows: int
    simdgroups: int
    staged: bool


def tiling(head_dim: int, height: int, packed: bool) -> Tiling:
    """The layout for `height` rows (query heads to a KV head, times queries)."""
    wide, narrow = (_WIDE_PACKED, _NARROW_PACKED) if packed else (_WIDE, _NARROW)
    for elements in (wide[head_dim], narrow[head_dim]):
        if height <= _rows(elements):
            return Tiling(_lanes(head_dim, elements), elements, height, SIMDGROUPS, staged=False)
    elements = narrow[head_dim]
    simdgroups = -(-height // _rows(elements))
    return Tiling(_lanes(head_dim, elements), elements, -(-height // simdgroups), simdgroups, staged=True)


def most_rows(head_dim: int, packed: bool) -> int:
    """The largest height that one threadgroup can take."""
    return MOST_SIMDGROUPS * _rows((_NARROW_PACKED if packed else _NARROW)[head_dim])


def splits(kv_len: int, pairs: int, height: int) -> int:
    """Parts that the keys are split into: `pairs` threadgroups (batch × KV heads) are there without."""
    wanted = -(-THREADGROUPS // pairs)
    return max(1, min(wanted, kv_len // max(KEYS_PER_SPLIT, KEYS_PER_ROW * height)))


def _rows(elements: int) -> int:
    return min(8, REGISTERS // elements)


def _lanes(head_dim: int, elements: int) -> int:
    """The power of two that covers head_dim."""
    return 1 << (-(-head_dim // elements) - 1).bit_length()
