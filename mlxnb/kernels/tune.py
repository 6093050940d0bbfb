"""Chooses a path for a shape by trying: every candidate is first shown equal to float64, then timed against stock."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..comparison import Pairs, Ratio, alternate
from ..decision import Accepted, Decision, Rejected
from ..errors import KernelError
from ..records import Record, Records
from . import stock
from .call import Call
from .cases import Case
from .config import AttentionConfig
from .device import device, machine
from .dispatch import Choice
from .drawn import drawn
from .paths import PATHS, STOCK, Path
from .policy import should_optimize
from .problem import Problem, problem
from .proof import allowed_error
from .store import shared_store

# A path must win by this much: a ratio nearer to 1 is not worth another code path. Stock wins ties.
WORTH = 1.03
# Work of one attention that is measured on the spot, in multiply-adds; larger shapes go by a smaller one. MLX's CPU
# build does 0.3 GFLOP/s where its products are quantised and in bfloat16, so that this is a tenth of a second.
LARGEST = {"cpu": 2**25, "metal": 2**36, "cuda": 2**36}
PAIRS, MORE_PAIRS = 3, 8  # of timing a candidate: more, unless the first tell already
PLAIN = (0.9, 1.5)  # ratios below or above which they do
ROWS, KEYS = 8, 2048  # queries that are compared with float64, and keys: numpy would take a minute over 100,000


@dataclass(frozen=True, slots=True)
class Trial:
    """One path on one shape: relative error of it and of stock (None where stock cannot), and its rate over stock's."""

    path: str
    decision: Decision
    error: float | None = None
    stock_error: float | None = None
    ratio: Ratio | None = None
    seconds: float | None = None
    stock_seconds: float | None = None


class Measured:
    """A Tuner that remembers in Records."""

    def __init__(self, store: Records | None = None, paths: Sequence[Path] = PATHS) -> None:
        self.device = device()
        self.machine = machine()
        self.store = store if store is not None else shared_store()
        self._paths = paths

    def known(self, config: AttentionConfig) -> Choice | None:
        """See Tuner.known. What was found for another version of a path is no longer known."""
        record = self.store.get(self._key(config)) or {}
        name, reason = record.get("path"), str(record.get("reason", ""))
        if name == STOCK.name:
            return Choice(STOCK, Rejected("optimised attention", reason), bool(record.get("failed")))
        path = next((p for p in self._paths if p.name == name and p.takes(config, self.device)), None)
        return Choice(path, Accepted(path.name, reason)) if path else None

    def measure(self, config: AttentionConfig) -> Choice:
        """See Tuner.measure."""
        stands_for = representative(config, self.device)
        trials = try_all(stands_for, self._paths, self.device)
        choice = choose(trials, self._paths)
        before = self._taken(config)
        self.store.put(self._key(config), _record(stands_for, choice, trials))
        if before not in (None, choice.path.name):
            self._new_stamp()
        return choice

    def stamp(self) -> str:
        """See Tuner.stamp. Remembered with the choices, so that it is the same in the next process."""
        record = self.store.get(f"{self.machine} | stamp") or {}
        return str(record.get("stamp") or self._new_stamp())

    def _new_stamp(self) -> str:
        stamp = secrets.token_hex(8)
        self.store.put(f"{self.machine} | stamp", {"stamp": stamp})
        return stamp

    def _taken(self, config: AttentionConfig) -> str | None:
        """The path that calls of the shape's class took until now; None where none was taken before a measurement."""
        known = self.known(config)
        if known is not None:
            return known.path.name
        shortest = replace(representative(config, self.device), kv_len=_steps_down(config.kv_len))
        return None if should_optimize(shortest) else STOCK.name

    def _key(self, config: AttentionConfig) -> str:
        stands_for = representative(config, self.device)
        versions = ",".join(f"{p.name}={p.version()}" for p in self._paths if p.takes(stands_for, self.device))
        return f"{self.machine} | {versions} | {tuple(asdict(stands_for).values())}"


def representative(config: AttentionConfig, device: str) -> AttentionConfig:
    """The shape that is measured for `config`: lengths in steps, and shortened until the device does it quickly."""
    steps = (1, 8, 64, 512, 2048)
    length = next((step for step in steps if config.query_len <= step), steps[-1])
    stands_for = replace(config, query_len=length, kv_len=max(length, 1 << (config.kv_len - 1).bit_length()))
    while _work(stands_for) > LARGEST[device] and stands_for.kv_len > 256:
        kv_len = stands_for.kv_len // 2
        stands_for = replace(stands_for, kv_len=kv_len, query_len=min(stands_for.query_len, kv_len))
    if _work(stands_for) > LARGEST[device]:
        stands_for = replace(stands_for, query_len=min(stands_for.query_len, 64))
    return stands_for


def _steps_down(kv_len: int) -> int:
    """The fewest keys in the class of `kv_len` keys."""
    return (1 << (kv_len - 1).bit_length()) // 2 + 1


def _work(config: AttentionConfig) -> int:
    return 2 * config.batch * config.num_heads * config.query_len * config.kv_len * config.head_dim


def try_all(config: AttentionConfig, paths: Sequence[Path], device: str) -> list[Trial]:
    """A Trial of every path on made-up arrays of the shape, equality on as many keys as float64 does quickly."""
    kv_len = min(config.kv_len, KEYS)
    posed = problem(Case.of(replace(config, kv_len=kv_len, query_len=min(config.query_len, kv_len))), ROWS)
    call, stock_error = drawn(config), None
    if stock.takes(config, device):
        stock_error = posed.error(STOCK.run(posed.call))
    return [_try(path, config, posed, call, stock_error, device) for path in paths]


def _try(
    path: Path, config: AttentionConfig, posed: Problem, call: Call, stock_error: float | None, device: str
) -> Trial:
    decision = path.takes(config, device)
    if not decision:
        return Trial(path.name, decision)
    try:
        error = posed.error(path.run(posed.call))
    except (KernelError, ValueError, RuntimeError) as err:  # the last two from MLX: a kernel that does not compile
        return Trial(path.name, Rejected(path.name, f"does not run: {' '.join(str(err).split())[:300]}"))
    limit = allowed_error(config.dtype, stock_error)
    if error > limit:
        reason = f"not equal: relative error {error:.2g} against float64, {limit:.2g} allowed"
        return Trial(path.name, Rejected(path.name, reason), error, stock_error)
    if stock_error is None:
        return Trial(path.name, Accepted(path.name, "stock cannot compute this"), error)
    return _timed(path, time_against_stock(path, call), error, stock_error)


def _timed(path: Path, rates: Pairs, error: float, stock_error: float) -> Trial:
    ratio = Ratio.of(rates)
    won = ratio.median >= WORTH and ratio.low > 1
    reason = f"{ratio.median:.2f}× stock ({ratio.low:.2f} – {ratio.high:.2f}, {ratio.pairs} pairs)"
    decision: Decision = Accepted(path.name, reason) if won else Rejected(path.name, f"not faster: {reason}")
    ours, theirs = (sorted(pair[i] for pair in rates)[len(rates) // 2] for i in (0, 1))
    return Trial(path.name, decision, error, stock_error, ratio, 1 / ours, 1 / theirs)


def time_against_stock(path: Path, call: Call) -> Pairs:
    """Calls per second of a path and of stock, in pairs."""
    repeats = _repeats(call)

    def pairs(count: int, warm_up: int) -> Pairs:
        return alternate(lambda: _rate(path, call, repeats), lambda: _rate(STOCK, call, repeats), count, warm_up)

    rates = pairs(PAIRS, 1)
    ratios = [ours / theirs for ours, theirs in rates]
    if max(ratios) < PLAIN[0] or min(ratios) > PLAIN[1]:
        return rates
    return rates + pairs(MORE_PAIRS, 0)


def _repeats(call: Call) -> int:
    """Calls that take some milliseconds together, so that the clock and the start of a stream weigh little."""
    once = 1 / _rate(STOCK, call, 1)
    return max(1, min(32, int(0.004 / once)))


def _rate(path: Path, call: Call, repeats: int) -> float:
    import mlx.core as mx

    began = time.perf_counter()
    mx.eval([path.run(call) for _ in range(repeats)])
    return repeats / (time.perf_counter() - began)


def choose(trials: Sequence[Trial], paths: Sequence[Path]) -> Choice:
    """The fastest path among those that won; else stock, with the best reason there is."""
    by_name = {path.name: path for path in paths}
    won = [trial for trial in trials if trial.decision]
    if won:
        best = max(won, key=lambda trial: trial.ratio.median if trial.ratio else 0.0)
        return Choice(by_name[best.path], best.decision)
    tried = [trial for trial in trials if trial.error is not None] or list(trials)
    reason = "; ".join(str(trial.decision) for trial in tried) or "no path of ours takes this shape"
    return Choice(STOCK, Rejected("optimised attention", reason), failed=all(t.ratio is None for t in trials))


def _record(config: AttentionConfig, choice: Choice, trials: Sequence[Trial]) -> Record:
    return {
        "path": choice.path.name,
        "reason": choice.decision.reason,
        "failed": choice.failed,
        "shape": asdict(config),
        "trials": [_trial(trial) for trial in trials],
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    made = asdict(trial)
    made["decision"] = {"accepted": bool(trial.decision), "reason": trial.decision.reason}
    return made
