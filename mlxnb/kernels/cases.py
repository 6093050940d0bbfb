"""The grid of attention calls that every path is proven on, and a small part in which every pair of values meets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from .config import AttentionConfig, MaskKind
from .supported import takes
from .tiling import HEAD_DIMS

# (query heads, KV heads): MHA, GQA at a ratio that is no power of two, at 4 and at 16, MQA at 8.
PATTERNS = ((2, 2), (6, 2), (8, 2), (32, 2), (8, 1))

# Array masks by kind and layout. "padding" is the left padding of a batch, "window" a sliding window, "bias" an
# additive mask of finite values, "shut" lets some queries look at nothing.
MASKS: Mapping[str, MaskKind] = {
    "none": "none",
    "causal": "causal",
    "bool [L, S]": "bool",
    "bool window [L, S]": "bool",
    "bool [heads, L, S]": "bool",
    "bool padding [B, 1, L, S]": "bool",
    "bool shut [B, heads, L, S]": "bool",
    "additive [L, S]": "additive",
    "additive bias [heads, 1, S]": "additive",
    "additive [B, heads, L, S]": "additive",
}

_COMMON: dict[str, tuple[Any, ...]] = {
    "dtype": ("bfloat16", "float16", "float32"),
    "head_dim": HEAD_DIMS,
    "pattern": PATTERNS,
    "mask": tuple(mask for mask in MASKS if mask != "bool [L, S]"),  # what "bool [heads, L, S]" shows and more
    "sinks": (False, True),
    "batch": (1, 3),
}
_DECODE = {"query_len": (1, 2, 5, 8), "kv_len": (1, 37, 300, 1100)}
GRIDS: Mapping[str, dict[str, tuple[Any, ...]]] = {
    "decode_quantized": _COMMON | _DECODE | {"packing": ((4, 32), (4, 64), (8, 32), (8, 64))},
    "decode_dense": _COMMON | _DECODE | {"packing": ((None, None),)},
    "prefill_dense": _COMMON | {"query_len": (1, 9, 40), "kv_len": (1, 40, 131), "packing": ((None, None),)},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One attention call of the grid.

    `pattern` is (query heads, KV heads), `packing` (bits, group size) or (None, None), `mask` a key of MASKS.
    """

    dtype: str
    head_dim: int
    pattern: tuple[int, int]
    mask: str
    sinks: bool
    batch: int
    query_len: int
    kv_len: int
    packing: tuple[int | None, int | None] = (None, None)

    @classmethod
    def of(cls, config: AttentionConfig) -> Case:
        """A case with the configuration, its mask in the layout that models use for such a one."""
        layout = {"bool": "bool [L, S]", "additive": "additive [L, S]"}
        if config.per_head_mask:
            layout = {"bool": "bool [heads, L, S]", "additive": "additive [B, heads, L, S]"}
        return cls(
            dtype=config.dtype,
            head_dim=config.head_dim,
            pattern=(config.num_heads, config.num_kv_heads),
            mask=layout.get(config.mask, config.mask),
            sinks=config.sinks,
            batch=config.batch,
            query_len=config.query_len,
            kv_len=config.kv_len,
            packing=(config.kv_bits, config.group_size),
        )

    @property
    def config(self) -> AttentionConfig:
        """What the choice of a path depends on."""
        return AttentionConfig(
            num_heads=self.pattern[0],
            num_kv_heads=self.pattern[1],
            head_dim=self.head_dim,
            query_len=self.query_len,
            kv_len=self.kv_len,
            batch=self.batch,
            dtype=self.dtype,
            kv_bits=self.packing[0],
            group_size=self.packing[1],
            mask=MASKS[self.mask],
            per_head_mask="heads" in self.mask and self.pattern[0] > 1,
            sinks=self.sinks,
        )

    def __str__(self) -> str:
        return f"{self.config} ({self.mask}), batch {self.batch}, {self.dtype}" + (", sinks" if self.sinks else "")


def cases(kernel: str) -> Iterator[Case]:
    """Every case of a kernel's grid that the kernel takes, hundreds of thousands for a decode kernel."""
    grid = GRIDS[kernel]
    for values in product(*grid.values()):
        case = Case(**dict(zip(grid, values, strict=True)))
        if takes(kernel, case.config):
            yield case


def covering(kernel: str, seed: int = 0) -> list[Case]:
    """Cases among which any two values of two axes of the grid meet, wherever the kernel takes both: a hundred or so.

    Greedy: of some random cases that have the first pair still missing, the one with most missing pairs is kept.
    """
    grid, draw = GRIDS[kernel], random.Random(seed)
    missing = {pair: None for a, b in combinations(grid, 2) for pair in _pairs(grid, a, b)}
    chosen = []
    while missing:
        wanted = next(iter(missing))
        drawn = [case for case in (_draw(grid, wanted, draw) for _ in range(40)) if takes(kernel, case.config)]
        if not drawn:  # such as head_dim 80 in groups of 64
            del missing[wanted]
            continue
        best = max(drawn, key=lambda case: len(_met(case, grid) & missing.keys()))
        for pair in _met(best, grid):
            missing.pop(pair, None)
        chosen.append(best)
    return chosen


Pair = tuple[tuple[str, Any], tuple[str, Any]]


def _pairs(grid: dict[str, tuple[Any, ...]], first: str, second: str) -> list[Pair]:
    return [((first, a), (second, b)) for a, b in product(grid[first], grid[second])]


def _draw(grid: dict[str, tuple[Any, ...]], fixed: Pair, draw: random.Random) -> Case:
    return Case(**({axis: draw.choice(values) for axis, values in grid.items()} | dict(fixed)))


def _met(case: Case, grid: dict[str, tuple[Any, ...]]) -> set[Pair]:
    return set(combinations([(axis, getattr(case, axis)) for axis in grid], 2))
