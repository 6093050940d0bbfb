"""How each backend stands on this machine with one model: ready, possible or missing, and how fast it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..backends.base import Backend
from ..backends.rates import Rates, by_speed
from ..backends.select import in_order
from ..decision import Absent, Rejected
from ..errors import MlxnbError, in_words
from ..models import ModelSource
from ..request import Precision
from .contest import Contest, Entrant
from .loaded import LoadedModels

Status = Literal["ready", "possible", "missing"]

# Steps done, steps in all, and what is under way; what it raises ends a measurement.
Steps = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """One backend. "ready": it takes the model now; "possible": what it runs on is here, and `remedy` makes it take the
    model; "missing": it is not installed, and `remedy` installs it. `device` is what it computed on, empty where that
    is not known yet. `rates` are None where the model was not measured on it, and `rates_reason` says why it cannot be.
    """

    backend: str
    status: Status
    reason: str
    remedy: str = ""
    device: str = ""
    rates: Rates | None = None
    rates_reason: str = ""
    loaded: bool = False


def standings(
    models: LoadedModels,
    backends: Mapping[str, Backend],
    name: str,
    here: Callable[[], ModelSource],
    precision: Precision,
    steps: Steps | None = None,
) -> list[Standing]:
    """Every backend, in the order that `auto` takes them; with `steps` they are measured first, each that takes the
    model now or can make its own of it. That loads it where it is not in memory. On the engine's thread.
    """
    order = [backends[each] for each in in_order(backends)]
    at = [(0, "")]

    def progress(done: int, total: int) -> None:
        if steps is not None:
            steps(at[0][0], len(order), at[0][1])

    with models.contest(name, here, precision, progress) as contest:
        found = []
        for place, backend in enumerate(order):
            at[0] = place, f"measuring {backend.name}" if steps is not None else ""
            found.append(_standing(models, backend, name, here, precision, contest, steps is not None))
    rates = {each.backend: each.rates for each in found if each.rates is not None and each.status == "ready"}
    names = by_speed([each.backend for each in found], rates)
    ranks = {"ready": 0, "possible": 1, "missing": 2}
    return sorted(found, key=lambda each: (ranks[each.status], names.index(each.backend)))


def _standing(
    models: LoadedModels,
    backend: Backend,
    name: str,
    here: Callable[[], ModelSource],
    precision: Precision,
    contest: Contest,
    measure: bool,
) -> Standing:
    decision = backend.available()
    if isinstance(decision, Rejected):
        status: Status = "missing" if isinstance(decision, Absent) else "possible"
        return Standing(backend.name, status, decision.reason, decision.remedy)
    found = _source(backend, name, here, named=False)
    if isinstance(found, ModelSource):
        entrant, standing = Entrant(backend, found), Standing(backend.name, "ready", decision.reason)
    else:
        standing = Standing(backend.name, "possible", found.reason, found.remedy)
        own = _source(backend, name, here, named=True) if measure else None
        as_it_is = _here(here)
        if as_it_is is None or isinstance(own, Rejected):
            return standing
        entrant = Entrant(backend, own or as_it_is, as_it_is)
    loaded = models.in_memory(name, backend.name, precision)
    if measure:
        known: Rates | Rejected | None = contest.measure(entrant, model=loaded.model if loaded else None)
        contest.close()  # one at a time is in memory for this
    else:
        known = contest.known(entrant)
    standing = replace(standing, loaded=loaded is not None, device=loaded.info.device if loaded else "")
    if isinstance(known, Rates):
        return replace(standing, rates=known, device=standing.device or known.device)
    if known is not None:
        return replace(standing, rates_reason=known.reason, remedy=standing.remedy or known.remedy)
    return standing


def _here(here: Callable[[], ModelSource]) -> ModelSource | None:
    try:
        return here()
    except MlxnbError:
        return None


def _source(backend: Backend, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
    try:
        return backend.find(name, here, named)
    except MlxnbError as err:
        return Rejected(backend.name, err.message.rstrip("."), err.remedy)
    except Exception as err:  # noqa: BLE001 - a probe: a library that fails in its own ways is a row that says so
        return Rejected(backend.name, in_words(err))
