"""Where the time of one token goes: the real decode loop, with its parts timed one after the other, and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from ...backends.base import Cancelled, Watch
from ...backends.local import LocalModel
from ...backends.reuse import Feed
from ...backends.row import Row
from ...decision import Rejected
from ...errors import OptionError
from ...request import Request
from ...runtime.job import Job
from ...runtime.outcome import Outcome
from ..report import Inside, Share
from .inside_parts import DETOKENISING, PARTS, Key, Ledger

if TYPE_CHECKING:
    from ...backends.base import LoadedModel
    from ...runtime import Engine

SUBJECT = "time inside a token"
STRETCH = 4  # steps of a pass: how busy a machine is changes, and both kinds should have their share of it
WARM_UP = 2  # tokens of a pass that do not count: the one after the prompt, and a first step on a new KV state

# Why the others cannot be looked into.
CLOSED = {
    "llamacpp": "llama.cpp computes a whole step in one call",
    "onnx": "ONNX Runtime computes a whole step in one call",
    "server": "the server computes it in another process",
}


class Way(Protocol):
    """How one backend's decode loop is run with its parts timed. `refused` tells where a model has no known parts."""

    def refused(self) -> Rejected | None: ...

    def prefill(self, ids: list[int], request: Request, watch: Watch) -> Feed:
        """A Feed that holds all tokens but the last.

        Raises:
            Cancelled: `watch` was cancelled.
        """
        ...

    def free(self, ids: list[int], request: Request, limit: int, feed: Feed) -> Iterator[int]:
        """The tokens as a request gets them."""
        ...

    def timed(self, ids: list[int], request: Request, limit: int, feed: Feed, ledger: Ledger) -> Iterator[int]:
        """The same with every part charged to `ledger`; the model is as it was once the iterator is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Walk:
    """One pass: the seconds of each part in each of its steps, and the tokens that came of it."""

    steps: tuple[dict[Key, float], ...]
    tokens: tuple[int, ...]


def look_inside(
    engine: Engine, request: Request, steps: int = 16, context: int | None = None, model: int = 0
) -> Inside | Rejected:
    """Time the parts of a decode step of the request's model, on the engine's thread.

    The prompt is repeated or cut to `context` tokens, or taken as it is. `steps` steps are taken with a wait after each
    part and as many without, in turns (A B B A). Times are averages over the middle half of the steps, by how long each
    took: so interruptions do not count, and the parts add up to `synchronised`. A draft model and the caches are left
    out. `model` is what the Inside says of itself.

    An interrupt ends it between two tokens or two pieces of the prompt.

    Raises:
        OptionError: `steps` or `context` is less than 1.
        PromptError, ModelError, BackendError: the model cannot be loaded or the prompt not be used.
    """
    for name, value in (("steps", steps), ("context", 1 if context is None else context)):
        if value < 1:
            raise OptionError(f"{name} is {value}.", "It takes 1 or more.")
    stop = Event()

    def look(loaded: LoadedModel) -> Inside | Rejected:
        way = way_into(loaded)
        if isinstance(way, Rejected):
            return way
        assert isinstance(loaded, LocalModel)
        ids = _ids(loaded, request, context)
        most = loaded.info.context_length
        ahead = (min(steps, STRETCH) if copies(loaded) else steps) + WARM_UP
        if most is not None and len(ids) + ahead > most:
            reason = f"{len(ids)} tokens and {ahead} more do not fit into a context of {most}"
            return Rejected(SUBJECT, reason, "take a shorter prompt")
        return _looked(loaded, way, ids, plain(request), steps, model, stop)

    try:
        return engine.call_with(request.model, look, request.backend, request.dtype, request.quantize, request.adapter)
    except BaseException:
        stop.set()
        raise


def way_into(loaded: LoadedModel) -> Way | Rejected:
    """How the parts of a loaded model are timed, or why they cannot be."""
    backend = loaded.info.backend
    if not isinstance(loaded, LocalModel) or backend not in ("torch", "mlx"):
        reason = CLOSED.get(backend, f"the {backend} backend does not show its parts")
        return Rejected(SUBJECT, reason, "take --backend mlx or torch")
    way = _ways()[backend](loaded)
    refused = way.refused()
    return way if refused is None else refused


def _ways() -> dict[str, Callable[[Any], Way]]:
    from .inside_mlx import MlxInside
    from .inside_torch import TorchInside

    return {"torch": TorchInside, "mlx": MlxInside}


def _ids(model: LocalModel, request: Request, context: int | None) -> list[int]:
    ids = model.prompt(request).ids
    return ids if context is None else (ids * -(-context // len(ids)))[:context]


def plain(request: Request) -> Request:
    """The request without what is no part of a plain step, and with a seed, so that each pass draws the same."""
    sampling = request.sampling
    if sampling.seed is None:
        sampling = replace(sampling, seed=0)
    return replace(request, sampling=sampling, draft=None, draft_tokens=None, cache="off")


def _looked(
    model: LocalModel, way: Way, ids: list[int], request: Request, steps: int, number: int, stop: Event
) -> Inside:
    states = feeds(model, way, ids, request, stop)
    walks: dict[bool, list[Walk]] = {False: [], True: []}
    for timed, count in turns(steps, STRETCH if copies(model) else steps):
        walks[timed].append(walk(model, way, ids, request, count, next(states), timed, stop=stop))
    middle = {timed: middle_half([step for each in walks[timed] for step in each.steps]) for timed in walks}
    free = sum(sum(step.values()) for step in middle[False]) / len(middle[False])
    shares = _shares(middle[True])
    return Inside(number, len(ids), steps, shares, sum(share.seconds for share in shares), free)


def turns(steps: int, stretch: int) -> Iterator[tuple[bool, int]]:
    """Passes as (timed, steps): so many steps of each kind in stretches of that length, in the order A B B A A B …"""
    for number, start in enumerate(range(0, steps, stretch)):
        for timed in (False, True) if number % 2 == 0 else (True, False):
            yield timed, min(stretch, steps - start)


def copies(model: LocalModel) -> bool:
    """Whether a KV state of this model can be copied, so that its prompt need not be fed for each pass."""
    return model.states is not None and model.stretches_beyond is None


def feeds(model: LocalModel, way: Way, ids: list[int], request: Request, stop: Event | None = None) -> Iterator[Feed]:
    """KV states that hold the prompt but for its last token: copies of one, where this model's can be copied."""
    watch = Watch(cancelled=stop or Event())
    base = way.prefill(ids, request, watch) if copies(model) else None
    while True:
        if model.stretches_beyond is not None:
            yield Feed(model.new_state(request, watch))
        elif base is None or model.states is None:
            yield way.prefill(ids, request, watch)
        else:
            yield replace(base, state=model.states.copy(base.state))


def walk(
    model: LocalModel,
    way: Way,
    ids: list[int],
    request: Request,
    steps: int,
    feed: Feed,
    timed: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    stop: Event | None = None,
) -> Walk:
    """Decode so many tokens from `feed` and those before them, as the engine does, down to what it hands on.

    Raises:
        Cancelled: `stop` was set.
    """
    job = Job(request, unstarted=lambda job: Outcome(job).result())
    outcome, row, ledger = Outcome(job), Row(model.tokenizer, request, False, job.watch), Ledger(clock)
    limit = steps + WARM_UP
    tokens = way.timed(ids, request, limit, feed, ledger) if timed else way.free(ids, request, limit, feed)
    done, said = [], []
    try:
        for token in tokens:
            done.append(ledger.cut())
            said.append(token)
            with ledger.part(DETOKENISING):
                chunk = row.feed(token)
            if chunk is not None:  # a token that ends the turn does not end this: the next one costs the same
                outcome.add(chunk)
                job.put(chunk)
            row.over()
            if stop is not None and stop.is_set():
                raise Cancelled
    finally:
        tokens.close()  # type: ignore[attr-defined]
    return Walk(tuple(done[WARM_UP:]), tuple(said))


def middle_half(steps: list[dict[Key, float]]) -> list[dict[Key, float]]:
    """The steps without the quickest and the slowest quarter; one of three, and all of two."""
    out = len(steps) // 4 if len(steps) > 3 else int(len(steps) == 3)
    return sorted(steps, key=lambda step: sum(step.values()))[out : len(steps) - out]


def _shares(steps: list[dict[Key, float]]) -> tuple[Share, ...]:
    """The average of each part over the steps, in the order of the layers."""
    keys = {key for step in steps for key in step}
    found = {key: sum(step.get(key, 0.0) for step in steps) / len(steps) for key in keys}
    return tuple(Share(part, found[part, layer], layer) for part, layer in sorted(keys, key=_place))


def _place(key: Key) -> tuple[int, int, int]:
    part, layer = key
    place = PARTS.index(part)
    if layer is not None:
        return 1, layer, place
    return (0 if part == "embedding" else 2), 0, place
