"""What to take: a dated catalogue of local models, held against the memory of this machine and how fast it reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import OptionError
from .fit import KV_ALLOWANCE, MARGIN_BYTES, MARGIN_SHARE, cache_bytes
from .room import Room, room
from .shape import Shape, read_shape
from .uses import USES

CATALOGUE = Path(__file__).with_name("recommended.json")

# Bits of a weight in MLX's affine quantisation with groups of 64, which share a scale and a bias of 16 bits each.
# Other formats come to nearly the same: 4.5 and 8.5 in GGUF's Q4_0 and Q8_0.
BITS: Mapping[str, float] = {"8-bit": 8 + 2 * 16 / 64, "4-bit": 4 + 2 * 16 / 64}
FULL = 16
QUANTIZE = {"8-bit": "int8", "4-bit": "int4"}

# Gigabytes that machines are sold with, and the share of them that a model may have: Apple's recommended working set
# is from two thirds of the memory upwards.
CLASSES, SHARE = (8, 16, 32, 64, 96, 128), 2 / 3

# Tokens a second under which an answer comes slower than it is read; such a model goes behind the others.
READING = 5.0


@dataclass(frozen=True, slots=True)
class Known:
    """A model of the catalogue. `active` parameters are read for one token; `native` is what it comes in where that is
    no float type, as (format, bits, parameters in it). `mlx` names a quantised conversion, `drafts_for` the models that
    it can draft for. `order` is its place for each use, from 0.
    """

    name: str
    released: str
    licence: str
    parameters: int
    active: int
    shape: Shape
    architecture: str
    native: tuple[str, float, int] | None
    mlx: str
    drafts_for: str
    order: Mapping[str, int]

    @property
    def precisions(self) -> tuple[str, ...]:
        """What to store it in, the most bits first."""
        return (self.native[0],) if self.native else tuple(BITS)

    def weights(self, precision: str) -> float:
        """Bytes of all weights."""
        if self.native is not None:
            _, bits, packed = self.native
            return (packed * bits + (self.parameters - packed) * FULL) / 8
        return self.parameters * BITS[precision] / 8

    def read(self, precision: str, tokens: int) -> float:
        """Bytes that one more token reads after `tokens` tokens: METRICS' weights and KV read per token."""
        share = self.active / self.parameters
        if self.native is not None:
            _, bits, packed = self.native
            idle = self.parameters - self.active
            share = ((packed - idle) * bits + (self.parameters - packed) * FULL) / 8 / self.weights(precision)
        return self.weights(precision) * share + cache_bytes(self.shape, tokens)

    def memory_class(self, precision: str = "") -> int | None:
        """Gigabytes of the smallest machine for it in its fewest bits with 4,096 tokens; None above the largest."""
        weights = self.weights(precision or self.precisions[-1])
        need = weights * (1 + MARGIN_SHARE) + MARGIN_BYTES + cache_bytes(self.shape, KV_ALLOWANCE)
        return next((size for size in CLASSES if need <= size * 1e9 * SHARE), None)


@dataclass(frozen=True, slots=True)
class Recommended:
    """A model that fits, in the most bits that do, with the room it has. `rate`: tokens a second at most, estimated
    from this machine's measured bandwidth; None where that was not measured. `mlx` tells that MLX will run it.
    """

    model: Known
    precision: str
    room: Room
    rate: float | None
    mlx: bool = True

    @property
    def name(self) -> str:
        """What to fetch: on MLX the conversion where it has the same bits, else the original, which torch would unpack
        from a conversion.
        """
        return self.model.mlx if self.mlx and self.model.mlx and self.precision != "8-bit" else self.model.name

    @property
    def quantize(self) -> str | None:
        """What it is to be quantised to while it is loaded; None for a conversion, and for what comes in few bits."""
        return None if self.name == self.model.mlx or self.model.native else QUANTIZE[self.precision]


@lru_cache
def catalogue() -> tuple[str, tuple[Known, ...]]:
    """The month that the catalogue is of, and its models."""
    said = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return said["dated"], tuple(_known(model, said["order"]) for model in said["models"])


def recommend(
    use: str,
    free: int,
    *,
    tokens: int | None = None,
    bandwidth: float | None = None,
    mlx: bool = True,
    precisions: Collection[str] = tuple(BITS),
) -> list[Recommended]:
    """The models for `use` that fit into `free` bytes beside a context of `tokens` tokens, the best first; those that
    would be slower than reading come last. `bandwidth`: bytes that this machine reads a second, if it was measured.

    mlx: whether MLX runs them here; else torch, which unpacks formats of 4 bits, so that models that come in one are
    left out. precisions: those of "8-bit" and "4-bit" that a model can be loaded in here.

    Raises:
        OptionError: there is no such use.
    """
    if use not in USES:
        raise OptionError(f"There are no recommendations for {use!r}.", f"Uses are {', '.join(USES)}.")
    known = [model for model in catalogue()[1] if use in model.order and (mlx or not model.native)]
    found = []
    for model in sorted(known, key=lambda model: model.order[use]):
        ways = [_way(model, each, free, tokens, bandwidth, mlx) for each in model.precisions]
        best = _best([way for way in ways if model.native or way.precision in precisions])
        found += [best] if best is not None else []
    return sorted(found, key=_slow)


def _way(
    model: Known, precision: str, free: int, tokens: int | None, bandwidth: float | None, mlx: bool
) -> Recommended:
    has = room(model.weights(precision), model.shape, free, tokens=tokens, context=model.shape.context or None)
    rate = bandwidth / model.read(precision, has.tokens) if bandwidth else None
    return Recommended(model, precision, has, rate, mlx)


def _best(ways: list[Recommended]) -> Recommended | None:
    """A model in the most bits that fit and keep up with reading, or that fit at all."""
    usable = [way for way in ways if way.room.state != "no"]
    return min(usable, key=lambda way: (way.room.state != "fits", _slow(way)), default=None)


def _slow(way: Recommended) -> bool:
    return way.rate is not None and way.rate < READING


def _known(said: Mapping[str, Any], order: Mapping[str, list[str]]) -> Known:
    native = said.get("native")
    return Known(
        name=said["name"],
        released=said["released"],
        licence=said["licence"],
        parameters=said["parameters"],
        active=said["active"],
        shape=read_shape(said["config"]),
        architecture=said["config"]["model_type"],
        native=(native["format"], native["bits"], native["parameters"]) if native else None,
        mlx=said.get("mlx", ""),
        drafts_for=said.get("drafts_for", ""),
        order={use: names.index(said["name"]) for use, names in order.items() if said["name"] in names},
    )
