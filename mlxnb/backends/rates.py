"""How fast each backend had a model on this machine, remembered by the model's shape and the backend's version."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from .. import hardware
from ..config import cache_dir
from ..decision import Rejected
from ..errors import MlxnbError
from ..models import ModelSource, inspect
from ..models.mark import Mark, mark_of
from ..records import Record, Records
from ..request import Precision
from ..result import Timings

# The request that a backend is judged by: so many prompt tokens to compute, and so many to answer.
PROMPT, ANSWER = 256, 128

# Two backends whose typical requests differ by less are equally fast as far as such measurements tell.
TIE = 0.10

KEPT = 5  # runs of which the median holds

# Tokens computed and decoded from which a generation tells how fast its model is.
LEAST_PROMPT, LEAST_DECODED = 64, 16

# What a backend computes with: a new version of one of them is measured anew.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "mlx": ("mlx", "mlx-lm"),
    "torch": ("torch", "transformers"),
    "llamacpp": ("llama-cpp-python",),
    "onnx": ("onnxruntime-genai", "onnxruntime"),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second of prefill and of decode: the medians of the last `runs`, the newest at `at`, in seconds since
    the epoch, on `device`.
    """

    prefill: float
    decode: float
    device: str = ""
    at: float = 0.0
    runs: int = 1

    @property
    def typical(self) -> float:
        """Seconds that a request of PROMPT and ANSWER tokens takes at these rates."""
        return PROMPT / self.prefill + ANSWER / self.decode


class RateBook:
    """What was measured, by backend, model and precision; without `records`, for as long as the book is kept. Every
    method belongs to the engine's thread.
    """

    def __init__(self, records: Records | None = None) -> None:
        self._records = records
        self._own: dict[str, Record] = {}

    def get(self, backend: str, source: ModelSource, precision: Precision) -> Rates | Rejected | None:
        """The rates of a model on a backend, or why it has none there; None where it was not measured yet."""
        record = self._read(_key(backend, source, precision))
        try:
            return None if record is None else _read(backend, record)
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, backend: str, source: ModelSource, precision: Precision, rates: Rates) -> None:
        """Remember one more run."""
        key = _key(backend, source, precision)
        record = self._read(key) or {}
        kept = {name: _last(record.get(name), getattr(rates, name)) for name in ("prefill", "decode")}
        self._write(key, {**kept, "device": rates.device, "at": time.time()})

    def refuse(self, rejected: Rejected, source: ModelSource, precision: Precision) -> None:
        """Remember that a backend cannot run a model, so that nobody measures it there again."""
        found = {"failed": rejected.reason, "remedy": rejected.remedy, "at": time.time()}
        self._write(_key(rejected.subject, source, precision), found)

    def _read(self, key: str) -> Record | None:
        return self._own.get(key) if self._records is None else self._records.get(key)

    def _write(self, key: str, record: Record) -> None:
        if self._records is None:
            self._own[key] = record
        else:
            self._records.put(key, record)


def rate_book() -> RateBook:
    """The book in the cache folder, one for the process."""
    return _book_in(cache_dir())


def of_run(timings: Timings, device: str) -> Rates | None:
    """The rates of a finished generation; None where it was too short to tell, or had its model loaded first: a first
    run pays for what is compiled.
    """
    prefill, decode, computed = timings.prefill_rate, timings.decode_rate, timings.prompt_tokens - timings.reused_tokens
    long_enough = computed >= LEAST_PROMPT and len(timings.token_times) > LEAST_DECODED
    if not long_enough or timings.load_time or not prefill or not decode:
        return None
    return Rates(prefill, decode, device, time.time())


def by_speed(names: Sequence[str], rates: Mapping[str, Rates]) -> list[str]:
    """Backends with the fastest first. Those that are as fast as it within TIE, and those that were not measured, keep
    the places that they have to each other in `names`.
    """
    left, ordered = [name for name in names if name in rates], []
    while left:
        fastest = min(rates[name].typical for name in left)
        ordered.append(next(name for name in left if rates[name].typical <= fastest * (1 + TIE)))
        left.remove(ordered[-1])
    known = iter(ordered)
    return [next(known) if name in rates else name for name in names]


def in_words(rates: Mapping[str, Rates]) -> str:
    """The figures that a choice was made by."""
    parts = [f"{name} {each.typical:.2g} s" for name, each in sorted(rates.items(), key=lambda item: item[1].typical)]
    return f"{', '.join(parts)} for {PROMPT} + {ANSWER} tokens"


def _read(backend: str, record: Record) -> Rates | Rejected:
    if "failed" in record:
        return Rejected(backend, str(record["failed"]), str(record["remedy"]))
    prefill, decode = (median(map(float, record[name])) for name in ("prefill", "decode"))
    if not prefill > 0 or not decode > 0:
        raise ValueError("a rate of nothing")
    return Rates(prefill, decode, str(record["device"]), float(record["at"]), len(record["decode"]))


def _last(before: object, rate: float) -> list[float]:
    return [*(before if isinstance(before, list) else []), rate][-KEPT:]


def _key(backend: str, source: ModelSource, precision: Precision) -> str:
    versions = ", ".join(_version(name) for name in LIBRARIES.get(backend, ()))
    return " · ".join(["rates", _machine(), f"{backend} {versions}".strip(), _shape(source), str(precision)])


def _shape(source: ModelSource) -> str:
    """What a model's speed depends on, as far as its files tell: two models of one shape are equally fast."""
    if source.format == "served":
        return f"served {source.url} {source.served_as}"
    if source.format == "safetensors":
        return _read_shape(source.path, mark_of(source.path))
    sizes = sorted((name, size) for name, size, *_ in mark_of(source.path))
    return f"{source.format} {sizes}"


@lru_cache(64)
def _read_shape(folder: Path, mark: Mark) -> str:
    try:
        c = inspect(folder)
    except MlxnbError:
        return f"unread {folder}"
    parts = (c.model_type, c.layers, c.heads, c.kv_heads, c.head_dim, c.parameters, c.weight_bytes, c.dtype)
    return " ".join(map(str, (*parts, c.quantization or "")))


@cache
def _machine() -> str:
    gpus = [f"{gpu.name} {gpu.driver}".strip() for gpu in hardware.accelerators()]
    return ", ".join([hardware.chip(), f"{hardware.cores().usable} cores", *gpus])


@cache
def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"no {library}"


@cache
def _book_in(folder: Path) -> RateBook:
    return RateBook(Records(folder / "rates", "Measured speeds"))
