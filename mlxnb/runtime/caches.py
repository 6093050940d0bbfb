"""What the engine keeps of earlier work: finished answers and KV states, with their counts and their commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet, ref

from .. import hardware
from ..backends.local import LocalModel
from ..cache import (
    Journals,
    Ledger,
    Pin,
    Pinned,
    PrefixCache,
    PrefixDisk,
    Prefixes,
    ResultCache,
    Seen,
    Tally,
    Usage,
    WarnOnce,
    budget,
    model_identity,
    prefix_namespace,
    pressure,
    repeats,
    replay,
    result_key,
)
from ..cache.disk import states_of
from ..cache.prefix import Place
from ..config import settings
from ..decision import Decision, Rejected
from ..errors import OptionError
from ..models import ModelSource
from ..request import Precision
from ..result import Result
from .job import Job

T = TypeVar("T")

# How notes begin that tell of one run and nothing of its answer.
OF_THE_RUN = (
    "prefix cache ",
    "attention measured ",
    "taken where it is in memory",
    "not batched: ",
    "chosen by ",
    "memory ran short ",
)

NO_STATES = "the model of the last question keeps no KV states here"
ASK_FIRST = "ask something, then pin it"


def _limits() -> tuple[int, int, float | None]:
    """Bytes of answers and of KV states on disk, and the seconds that they count, by the settings."""
    now = settings()
    lifetime = None if now.cache_days is None else now.cache_days * 86400.0
    return now.cache_answers_mb * 1_000_000, now.cache_states_mb * 1_000_000, lifetime


def as_kept(result: Result) -> Result:
    """A Result without what tells of its run alone, and without what it was parsed into: that may be anything, and is
    parsed anew when the Result is found.
    """
    p = result.provenance
    notes = tuple(note for note in p.notes if not note.startswith(OF_THE_RUN))
    return replace(result, value=None, provenance=replace(p, notes=notes))


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the engine began, what is held now, and where. Sizes in bytes.

    `results` and `prefixes` are by model. Each place by its name ("results", "rows", "memory", "disk"): `held` what is
    there (None where that cannot be told now), `limits` what it may take, `evictions`. `models` is what is there by
    model and place, under the empty string what is of a model that nobody knows the name of. `pins` are all that are
    kept, also for models that are not loaded or gone; `history` the last lookups.
    """

    results: dict[str, Tally]
    prefixes: dict[str, Tally]
    held: dict[str, Usage | None]
    models: dict[str, dict[str, Usage]]
    limits: dict[str, int]
    evictions: dict[str, int]
    pins: tuple[Pinned, ...]
    history: tuple[Seen, ...]
    folder: Path


class Caches:
    """The result cache and the prefix cache of one engine. What touches KV states runs on the engine's thread."""

    def __init__(self, call: Callable[[Callable[[], Any]], Any], folder: Path | None = None) -> None:
        self._call = call
        self.folder = folder if folder is not None else settings().cache_dir
        warn = WarnOnce()
        self._ledger = Ledger()
        answers, states, lifetime = _limits()
        self._results = ResultCache(self.folder / "results.sqlite", answers, lifetime, warn, stats=self._ledger)
        self.journals = Journals(self.folder / "rows", answers, lifetime, warn)
        self._memory = PrefixCache(self._budget, self._ledger)
        self._disk = PrefixDisk(self.folder / "prefixes", states, warn, lifetime=lifetime)
        self.prefixes = Prefixes(self._memory, self._disk, self._ledger)
        self._free: int | None = None  # bytes of a device with memory of its own, as it was last asked
        # What a pin keeps, or why there is nothing to pin.
        self._last: tuple[LocalModel, str, list[int]] | Rejected = Rejected("pin", "nothing was asked yet", ASK_FIRST)
        self._asked = 0.0  # when that prompt was given: those of a batch do not finish in order
        self._joined: WeakSet[LocalModel] = WeakSet()
        # The result key of the job that runs, on the backend that it is tried on.
        self._keyed: tuple[ref[Job], tuple[Rejected, ...], str | None] | None = None
        # As the engine's thread last left them, for the others to read.
        self._pins: tuple[Pin, ...] = ()
        self._in_memory: dict[str, Usage] = {}  # by model

    # For every thread.

    def stats(self) -> CacheStats:
        """Counts and sizes, now."""
        answers, on_disk = self._results.usage(), self._disk.usage_by_model()
        places: dict[str, dict[str, Usage]] = {
            "results": answers or {},
            "rows": self.journals.usage(),
            "memory": self._in_memory,
            "disk": {model: Usage(*counted) for model, counted in on_disk.items()},
        }
        results, prefixes = self._ledger.by_model("result"), self._ledger.by_model("prefix")
        return CacheStats(
            results=results,
            prefixes=prefixes,
            held={
                place: None if place == "results" and answers is None else sum(by_model.values(), Usage())
                for place, by_model in places.items()
            },
            models={
                model: {place: by_model.get(model, Usage()) for place, by_model in places.items()}
                for model in sorted({model for by_model in places.values() for model in by_model})
            },
            limits={
                "results": self._results.limit,
                "rows": self.journals.limit,
                "memory": self._budget(),
                "disk": self._disk.limit,
            },
            evictions={
                "results": sum(tally.evictions for tally in results.values()),
                "memory": sum(tally.evictions for tally in prefixes.values()),
                "disk": self._disk.evictions,
            },
            pins=tuple(self.prefixes.pinned(self._pins)),
            history=tuple(self._ledger.history()),
            folder=self.folder,
        )

    def hit_rates(self, kind: Any, window: int = 20) -> list[tuple[float, float]]:
        """(seconds since the epoch, hit rate of the last `window` lookups) of "result" or "prefix"."""
        return self._ledger.hit_rates(kind, window)

    def resize(self) -> None:
        """Take over what the settings say of the budgets on disk now; what is over them goes at once.

        Raises:
            OptionError: one of these settings is wrong; nothing changes.
        """
        answers, states, lifetime = _limits()
        self._results.resize(answers, lifetime)
        self.journals.resize(answers, lifetime)
        self._disk.resize(states, lifetime)

    @property
    def in_memory(self) -> dict[str, Usage]:
        """The KV states in memory, by the name of their model, as the engine's thread last left them."""
        return dict(self._in_memory)

    def recent_hits(self, kind: Any, window: int) -> tuple[int, int]:
        """(hits, lookups) among the last `window` lookups of "result" or "prefix"."""
        return self._ledger.recent_hits(kind, window)

    def clear(self) -> int:
        """Drop every answer, the rows of tables too, and every KV state that is not pinned, in memory and on disk; how
        many went.
        """
        in_memory = self._call(lambda: self._noted(self._memory.clear)).entries
        return int(in_memory) + self._results.clear() + self.journals.clear() + self._disk.clear()

    def pin(self, name: str) -> Decision:
        """Keep the KV state of the last prompt, whatever else comes, also across restarts."""
        return self._call(lambda: self._noted(lambda: self._pin(name)))

    def unpin(self, name: str) -> Decision:
        """Let a pin go."""
        return self._call(lambda: self._noted(lambda: self.prefixes.unpin(name)))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what is on its way to the disk is there, at most `timeout` seconds."""
        return self._disk.flush(timeout)

    # On the engine's thread.

    def join(self, model: Any, source: ModelSource, precision: Precision) -> None:
        """Let a model that was just loaded use and fill the prefix cache, if it can."""
        if not isinstance(model, LocalModel):
            return
        try:
            loaded_in = f" as {precision}" if str(precision) else ""
            identity = model_identity(source.path, source.revision) + loaded_in
            if precision.adapter is not None:
                model.adapter = model_identity(Path(precision.adapter))
                identity += f" with {model.adapter}"  # in it too, so that one adapter's states go without the other's
            model.identity = identity
        except OSError:
            return  # without a name for its content nothing of it may be kept
        model.prefixes = self.prefixes
        self._joined.add(model)
        self.note()

    def leave(self, model: Any) -> None:
        """The model is going: its states in memory are of no use any more, unless it is loaded by another name too."""
        if isinstance(model, LocalModel) and model.identity:
            self._joined.discard(model)
            own = model.identity, model.info.backend
            if own not in ((other.identity, other.info.backend) for other in self._joined):
                self.prefixes.forget(*own)
        if isinstance(self._last, tuple) and self._last[0] is model:
            self._last = Rejected("pin", f"{model.info.name} was unloaded since the last question", ASK_FIRST)
        self.note()

    def find(self, model: Any, job: Job, load_time: float = 0.0) -> Result | None:
        """The finished answer to a job's request, if there is one and it may be used."""
        key = self._key(model, job)
        if key is None or job.fresh or self._awaited(model, job):
            return None
        found, name, tokens = self._results.get(key), job.request.model, len(model.prompt(job.request).ids)
        if found is None:
            self._ledger.looked_up("result", name, tokens)
            return None
        times = found.timings.token_times
        took = times[-1] - found.timings.start if times else None
        self._ledger.looked_up("result", name, tokens, tokens, seconds=took)
        return replay(found, job.accepted, time.perf_counter(), load_time)

    def keep(self, model: Any, job: Job, result: Result) -> None:
        """Keep a finished answer, if it may be kept."""
        key = self._key(model, job)
        if key is not None:
            self._results.put(key, as_kept(result))

    def relieve(self, model: Any, job: Job, memory_free: Callable[[], int | None]) -> None:
        """Where a request would leave too little memory, drop what waits to be written, then shrink; both are said.

        `memory_free` tells the bytes free on the model's device, if it has memory of its own; see Backend.
        """
        self._free = memory_free()
        waiting = self._disk.waiting
        if not self._memory.nbytes and not waiting:
            return
        local = model if isinstance(model, LocalModel) else None
        needed = local.needed(job.request) if local is not None else 0
        if local is not None and job.watch.draft is not None:
            needed += job.watch.draft.needed(job.request, len(local.prompt(job.request).ids))
        # What waits goes first, and memory is asked anew: on a CPU it may be the very memory of the states here, which
        # only both together give back.
        if waiting and pressure(waiting, needed=needed):
            number, size = self._disk.drop_waiting()
            if number:
                job.watch.notes.append(f"prefix cache on disk: {states_of(number, size)} not written, memory is short")
                if local is not None:
                    local.give_back()
                self._free = memory_free()
        short = pressure(self._memory.nbytes, self._free, needed=needed)
        if short.shrink_to is not None:
            job.watch.notes.append(str(self._memory.shrink(short.shrink_to, keep=self._reused(local, job))))
            if local is not None:
                local.give_back()  # else the pages stay with the process, and the next request shrinks again

    def _reused(self, model: LocalModel | None, job: Job) -> Place | None:
        """The entry in memory that a request is going to start from."""
        if model is None or model.states is None:
            return None
        return self._memory.reused(model.namespace(job.request), model.prompt(job.request).ids, model.states)

    def finished(self, model: Any, job: Job) -> None:
        """The answer is out: keep what the generation left, and remember the prompt that a pin would keep."""
        while job.watch.afterwards:  # emptied, since a job that someone holds on to must not hold a KV state
            job.watch.afterwards.pop(0)()
        self.remember(model, job)

    def remember(self, model: Any, job: Job) -> None:
        """Remember the prompt that a pin would keep, and take up what was pinned earlier for requests of its kind."""
        verdict = model.keeps(job.request) if isinstance(model, LocalModel) else Rejected("pin", NO_STATES)
        newest = job.accepted >= self._asked
        self._asked = max(job.accepted, self._asked)
        if isinstance(verdict, Rejected) and newest:
            self._last = verdict
        if isinstance(model, LocalModel) and model.states is not None and model.prefixes is not None:
            if job.watch.start is None:  # answered from the cache: how would its state have been kept?
                model.new_state(job.request, job.watch)
            namespace = prefix_namespace(model.answerer(job.watch))
            if verdict and newest:
                self._last = model, namespace, list(model.prompt(job.request).ids)
            self._ledger.label(namespace, model.info.name)
            if job.request.cache != "off":
                # The answer is out: nobody waits while the states of pins are read.
                self.prefixes.meet(namespace, model.states)
        self.note()

    def close(self) -> None:
        """Finish writing, and let go of the files."""
        self._disk.close()
        self._results.close()

    def note(self) -> None:
        """Leave for other threads what they may read."""
        self._pins = tuple(self._memory.pins())
        in_memory: dict[str, Usage] = {}
        for namespace, counted in self._memory.usage().items():
            model = self._ledger.name(namespace)
            in_memory[model] = in_memory.get(model, Usage()) + Usage(*counted)
        self._in_memory = in_memory

    def _budget(self) -> int:
        """Bytes for the states in memory, less what waits to be written where that is in the same memory."""
        shared = self._free is None or hardware.is_apple_silicon()
        waiting = self._disk.waiting if shared else 0
        return max(0, budget(self._memory.nbytes + waiting, self._free) - waiting)

    def _noted(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self.note()

    def _key(self, model: Any, job: Job) -> str | None:
        """The result key of a job, None where its answer is not to be kept; made once, for a lookup and a keeping."""
        if self._keyed is None or self._keyed[0]() is not job or self._keyed[1] is not job.tried:
            self._keyed = ref(job), job.tried, self._new_key(model, job)
        return self._keyed[2]

    def _new_key(self, model: Any, job: Job) -> str | None:
        if not isinstance(model, LocalModel) or not model.identity or not repeats(job.request, job.request.cache):
            return None
        return result_key(job.request, model.prompt(job.request).ids, model.answerer())

    def _awaited(self, model: LocalModel, job: Job) -> bool:
        """Whether a pin waits for what only a prefill of this prompt gives, so that a kept answer must not do."""
        if all(pin.held for pin in self._pins) or not model.keeps(job.request):
            return False
        return self._memory.awaited(model.namespace(job.request), model.prompt(job.request).ids)

    def _pin(self, name: str) -> Decision:
        if not name.strip():
            raise OptionError("A pin needs a name.", "%mlxnb pin NAME")
        if isinstance(self._last, Rejected):
            return replace(self._last, subject=name)
        model, namespace, ids = self._last
        assert model.states is not None
        return self.prefixes.pin(name, namespace, ids, model.states)
