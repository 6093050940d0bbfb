"""Compares stock and patched attention on a loaded model, by context length, alternating in one process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .. import hardware
from ..comparison import Ratio
from ..errors import KernelError
from . import stock
from .device import device, machine
from .dispatch import Dispatcher, Line
from .patch import patch_mlx_lm, unpatched
from .shapes import layers_of

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
TOKENS = 32

MakeCache = Callable[[], list[Any]]
Progress = Callable[[int, int, str], None]
Seen = Callable[["Bench"], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One generation: rates in tokens per second, the allocator's peak in bytes, and the greedy tokens."""

    prefill: float
    decode: float
    peak: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Stock against patched at one context length; rates are medians, `difference` the first token that differs."""

    length: int
    stock_prefill: float
    prefill: float
    prefill_ratio: Ratio
    stock_decode: float
    decode: float
    decode_ratio: Ratio
    stock_peak: int
    peak: int
    difference: int | None
    paths: dict[str, int]


@dataclass(frozen=True, slots=True)
class Bench:
    """Every row, with what they hold for; `stopped` says why longer contexts were left out."""

    model: str
    machine: str
    kv_bits: int | None
    rows: tuple[Row, ...]
    stopped: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, single runs included, for a file."""
        return asdict(self)


def benchmark_optimization(
    model: Any,
    *,
    name: str,
    vocabulary: int,
    make_cache: MakeCache,
    kv_bits: int | None = None,
    lengths: Sequence[int] = LENGTHS,
    pairs: int = 5,
    prefill_step: int = 512,
    progress: Progress | None = None,
    seen: Seen | None = None,
) -> Bench:
    """Bench `model`, an mlx-lm model, on random prompts of each length.

    Args:
        vocabulary: token ids are drawn below it.
        make_cache: gives a fresh KV cache for each generation.
        pairs: how often both arms run at each length, after a warm-up of each.
        progress: hears of finished runs, of all, and what is under way; may raise to stop.
        seen: hears after each pair what has come of all until then.

    Raises:
        KernelError: attention that never comes by or that stock cannot compute, or lengths that all do not fit.
    """
    calls = layers_of(model, make_cache)
    if not calls:
        raise KernelError(f"{name} does not use mlx-lm's attention function.", "Its kernels cannot be exchanged.")
    for call in calls:
        right = stock.takes(call.config, device())
        if not right:
            raise KernelError(f"There is nothing to compare with: {right.reason}.", "%patch_kernels explain says more.")
    steps = _Steps(progress, len(lengths) * (pairs + 1) * 2)
    rows: list[Row] = []
    runs: list[dict[str, Any]] = []
    stopped, here = "", machine()
    for length in sorted(lengths):
        stopped = _too_large(rows, calls, length, prefill_step)
        if stopped:
            break
        arms = _Arms(model, _prompt(length, vocabulary), make_cache, prefill_step, steps)
        made: list[tuple[Run, Run]] = []
        for number, pair in enumerate(_alternating(arms, pairs)):
            made += [pair] if number else []  # the first is the warm-up
            if seen is not None and number:
                seen(Bench(name, here, kv_bits, (*rows, _row(length, made, arms.paths))))
        rows.append(_row(length, made, arms.paths))
        runs += [{"length": length, "stock": asdict(theirs), "patched": asdict(ours)} for ours, theirs in made]
    if not rows:
        raise KernelError(f"Nothing was compared: {stopped}.", "Give shorter --lengths.")
    return Bench(name, here, kv_bits, tuple(rows), stopped, runs)


class _Steps:
    """Tells of every run, and within it of every piece of a prompt and every token, so that it can be stopped there."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self.done = progress, total, 0

    def tell(self, doing: str) -> None:
        if self._progress is not None:
            self._progress(self.done, self._total, doing)


class _Arms:
    """The two ways to run one prompt, and the calls by path of the patched one."""

    def __init__(self, model: Any, prompt: list[int], make_cache: MakeCache, prefill_step: int, steps: _Steps) -> None:
        self._model, self._prompt, self._make_cache, self._step = model, prompt, make_cache, prefill_step
        self._steps = steps
        self.paths: Counter[str] = Counter()

    def stock(self) -> Run:
        with unpatched():
            return self._run("stock")

    def patched(self) -> Run:
        patch: AbstractContextManager[Dispatcher] = patch_mlx_lm()
        with patch as dispatcher:
            before = Counter(dispatcher.counts)
            run = self._run("patched")
            self.paths.update(dispatcher.counts - before)
        return run

    def _run(self, arm: str) -> Run:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        mx.clear_cache()
        mx.reset_peak_memory()
        began, times, tokens = time.perf_counter(), [], []
        steps = generate_step(
            mx.array(self._prompt),
            self._model,
            max_tokens=TOKENS,
            prompt_cache=self._make_cache(),
            prefill_step_size=self._step,
            prompt_progress_callback=lambda done, total: self._steps.tell(f"{arm}, prompt {done} of {total}"),
        )
        for token, _ in steps:
            times.append(time.perf_counter())
            tokens.append(int(token))
            self._steps.tell(f"{arm}, token {len(tokens)} of {TOKENS}")
        self._steps.done += 1
        decode = (len(times) - 1) / (times[-1] - times[0])
        return Run(len(self._prompt) / (times[0] - began), decode, mx.get_peak_memory(), tuple(tokens))


def _alternating(arms: _Arms, pairs: int) -> Iterator[tuple[Run, Run]]:
    """(patched, stock) runs in the order A B, B A, …; the first pair is the warm-up, in which new shapes are tuned."""
    for i in range(pairs + 1):
        if i % 2 == 0:
            ours = arms.patched()
            stock = arms.stock()
        else:
            stock = arms.stock()
            ours = arms.patched()
        yield ours, stock


def _row(length: int, made: Sequence[tuple[Run, Run]], paths: Counter[str]) -> Row:
    ours, stock = [pair[0] for pair in made], [pair[1] for pair in made]
    return Row(
        length=length,
        stock_prefill=float(np.median([run.prefill for run in stock])),
        prefill=float(np.median([run.prefill for run in ours])),
        prefill_ratio=Ratio.of([(a.prefill, b.prefill) for a, b in made]),
        stock_decode=float(np.median([run.decode for run in stock])),
        decode=float(np.median([run.decode for run in ours])),
        decode_ratio=Ratio.of([(a.decode, b.decode) for a, b in made]),
        stock_peak=max(run.peak for run in stock),
        peak=max(run.peak for run in ours),
        difference=_first_difference(ours[0].tokens, stock[0].tokens),
        paths=dict(paths),
    )


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)


def _too_large(rows: Sequence[Row], calls: Sequence[Line], length: int, step: int) -> str:
    """Why `length` may not fit; empty if it does.

    The first is judged by the scores and the KV cache that it needs at least, the others by the peak of the one before,
    which grows with the square of the length in the worst case.
    """
    if rows:
        last = rows[-1]
        needed = max(last.peak, last.stock_peak) * (length / last.length) ** 2
    else:
        shapes = {(call.layer, call.config.num_heads): call.config for call in calls}.values()
        kept = max(2 * 4 * c.num_kv_heads * c.head_dim * length for c in shapes) * max(call.calls for call in calls)
        needed = kept + max(2 * 4 * c.num_heads * min(step, length) * length for c in shapes)
    free = hardware.memory_free()
    if needed <= 0.8 * free:
        return ""
    return f"{length} tokens might need {hardware.human_bytes(int(needed))}, {hardware.human_bytes(free)} are free"


def _prompt(length: int, vocabulary: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(length).integers(0, vocabulary, length)]
