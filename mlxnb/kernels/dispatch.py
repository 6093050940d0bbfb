"""The attention entry while patched: sends each call down the path chosen for its shape, and counts it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from types import CodeType
from typing import Any, Protocol

from ..decision import Decision, Rejected
from ..errors import KernelError
from . import stock
from .call import Array, Call
from .config import DTYPES, AttentionConfig
from .paths import STOCK, Path
from .policy import binds, should_optimize


@dataclass(frozen=True, slots=True)
class Choice:
    """The path for a shape, and why: Accepted for one of ours, Rejected for stock.

    `failed` says that stock was taken because no path of ours works here, and not because it is as fast.
    """

    path: Path
    decision: Decision
    failed: bool = False


class Tuner(Protocol):
    """Where choices come from: what was measured on this machine before, or a measurement now."""

    device: str

    def known(self, config: AttentionConfig) -> Choice | None:
        """What was measured for the shape's class; None where nothing was."""
        ...

    def measure(self, config: AttentionConfig) -> Choice:
        """Measure the shape's class and remember the outcome."""
        ...

    def stamp(self) -> str:
        """A word that is another one as soon as the choice for a shape is not what it was; a shape whose first
        measurement is remembered changes no choice.
        """
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the status: a layer class, a shape, the path in use and how often it ran."""

    layer: str
    config: AttentionConfig
    path: str
    calls: int
    decision: Decision


class Dispatcher:
    """Stands where mlx-lm's `scaled_dot_product_attention` stood, with the same arguments.

    Not for training: the kernels have no gradients. When not `active`, it hands every call to the stock function; a
    module that mlx-lm loaded from a model's own folder may still hold it after the patch was taken back.
    """

    def __init__(self, tuner: Tuner, strict: bool = False) -> None:
        self.stock: Any = stock.original()
        self.active = False  # the patch switches it
        self.strict = strict
        self.counts: Counter[str] = Counter()  # calls by path
        self.tuned = 0  # shapes measured since the patch
        self.tuning_seconds = 0.0
        self._tuner = tuner
        self._chosen: dict[tuple[Any, ...], _Seen] = {}

    def __call__(
        self,
        queries: Array,
        keys: Array,
        values: Array,
        cache: Any,
        scale: float,
        mask: Array | str | None = None,
        sinks: Array | None = None,
    ) -> Array:
        if not self.active:
            extra = {} if sinks is None else {"sinks": sinks}
            return self.stock(queries, keys, values, cache, scale=scale, mask=mask, **extra)
        bits = getattr(cache, "bits", None)
        group_size = cache.group_size if bits is not None else None
        call = Call(queries, keys, values, scale, mask, sinks, bits, group_size)
        seen = self._seen(call, sys._getframe(1).f_code)
        seen.calls += 1
        self.counts[seen.choice.path.name] += 1
        return seen.choice.path.run(call)

    def stamp(self) -> str:
        """See Tuner.stamp."""
        return self._tuner.stamp()

    def forget(self) -> None:
        """Choose anew at the next call: thresholds or measurements changed."""
        self._chosen.clear()

    def lines(self) -> list[Line]:
        """What ran since the choices were last forgotten, most used first."""
        found = [Line(s.layer, s.config, s.choice.path.name, s.calls, s.choice.decision) for s in self._chosen.values()]
        return sorted(found, key=lambda line: -line.calls)

    def _seen(self, call: Call, code: CodeType) -> _Seen:
        # Some thirty of these are made for every token: a plain tuple, not a dataclass.
        plain = call.keys if call.bits is None else call.keys[0]
        _, kv_heads, kv_len, _ = plain.shape
        mask = call.mask
        key = (
            code,
            call.queries.shape,
            call.queries.dtype,
            kv_heads,
            (kv_len - 1).bit_length(),
            call.bits,
            call.group_size,
            mask if mask is None or isinstance(mask, str) else (mask.dtype, mask.ndim, mask.shape[-3:-2]),
            call.sinks is None,
            call.value_width,
            binds(call.queries.shape[1], kv_heads, kv_len),
        )
        seen = self._chosen.get(key)
        if seen is None:
            seen = self._chosen[key] = _Seen(_layer(code), call.config, self._choose(call))
        return seen

    def _choose(self, call: Call) -> Choice:
        config = call.config
        odd = _odd(call, config)
        if odd:
            return Choice(STOCK, Rejected("optimised attention", odd))
        known = self._tuner.known(config)
        wanted = should_optimize(config, known.decision if known else None)
        if known and wanted is known.decision:
            choice = known
        elif not wanted and stock.takes(config, self._tuner.device):
            choice = Choice(STOCK, wanted)
        else:
            choice = self._measured(config)
        if self.strict and choice.failed:
            raise KernelError(f"No path of ours runs {config}: {choice.decision}.", "Leave out strict to use stock.")
        return choice

    def _measured(self, config: AttentionConfig) -> Choice:
        began, before = time.perf_counter(), self._tuner.stamp()
        choice = self._tuner.measure(config)
        if self._tuner.stamp() != before:
            self.forget()  # other shapes of the class may have been sent elsewhere
        self.tuned += 1
        self.tuning_seconds += time.perf_counter() - began
        return choice


def _odd(call: Call, config: AttentionConfig) -> str:
    """Why only stock takes a call that is unlike any model's here; empty where it is not."""
    if call.value_width != config.head_dim:
        return f"values are {call.value_width} wide, keys {config.head_dim}"
    if config.dtype not in DTYPES:
        return f"the dtype is {config.dtype}"
    axes = getattr(call.mask, "ndim", 2)
    if axes < 2:
        return f"the mask has {axes} axes"
    return ""


@dataclass(slots=True)
class _Seen:
    layer: str
    config: AttentionConfig
    choice: Choice
    calls: int = 0


def _layer(code: CodeType) -> str:
    """The layer class that called, as `qwen2.Attention`."""
    module = code.co_filename.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    qualified = getattr(code, "co_qualname", code.co_name)  # the class is in it from Python 3.11
    return f"{module}.{qualified.partition('.')[0]}" if "." in qualified else module
