"""The models in memory: found again by name, backend and precision, loaded along a chain, given back on unload."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..backends.base import Backend, Cancelled, LoadedModel, ModelInfo
from ..backends.memory import memory_ran_out
from ..backends.panics import panics_as_errors
from ..backends.rates import RateBook, of_run
from ..backends.select import SERVER, Candidates, candidates
from ..config import settings
from ..decision import Rejected
from ..errors import (
    BackendError,
    MlxnbError,
    ModelNotFoundError,
    ModelTooLargeError,
    OptionError,
    UnsupportedModelError,
)
from ..models import ModelSource, inspect, resolve
from ..models.adapter import read_adapter
from ..models.mark import mark_of
from ..quiet import LOADING
from ..request import AS_STORED, Precision, Request
from ..result import Result
from .caches import Caches
from .contest import Contest, measuring_is_off
from .finding import NotItsOwnError, first_that_has, folder_named, found_by, is_unseen, leads_elsewhere, once
from .in_memory import InMemory, Loaded, as_found, is_folder
from .making_room import MakingRoom
from .residency import Clock, Residency, Resident, in_seconds

# What sends a request on to the next backend of its chain; anything else is wrong with the model wherever it runs.
LEAD_ON = (UnsupportedModelError, ModelNotFoundError, ModelTooLargeError, BackendError)
CHANGED = "its folder has changed since it was loaded, so it was loaded anew"
RETRAINED = "its adapter has changed since it was loaded, so it was loaded anew"
MOVED = "the name leads to another server by now"

Progress = Callable[[int, int], None]


class LoadedModels:
    """Every method but `infos` and `residents` belongs to the engine's thread."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        caches: Caches | None = None,
        rates: RateBook | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._backends = backends
        self._caches = caches
        self.rates = rates  # None where nothing is measured or remembered
        self.tell: Callable[[str], None] = lambda text: None  # hears what is under way beside loading
        self._residency = Residency(clock)
        self.in_use = self._residency.in_use  # whatever is got within stays until its end
        self._room = MakingRoom(self._residency, lambda: self._loaded, lambda copy: self._leave([copy]))
        self._loaded: tuple[InMemory, ...] = ()
        self._checked: set[Path | str] | None = None
        self.loads = 0  # how often a model was read, ever

    def infos(self) -> list[ModelInfo]:
        """What is loaded now; safe on any thread, since the tuple is only ever replaced."""
        return [copy.info for copy in self._loaded]

    def residents(self) -> list[Resident]:
        """The same with what is known of their stay; safe on any thread too."""
        return self._residency.residents(self._loaded)

    def get(
        self,
        name: str,
        backend: str = "auto",
        precision: Precision = AS_STORED,
        strict: bool = False,
        progress: Progress | None = None,
        tried: Collection[str] = (),
        keep_alive: float | str | None = None,
    ) -> Loaded:
        """The loaded model, loading it first if need be. With `auto` a model in memory is taken where it is. `tried`
        are backends that failed the request already, or were passed over for it.

        Where memory is short for it, models that are idle are given back, the one not used for longest first; the
        notes name them. `keep_alive`: see Request; None leaves what holds for a model that is in memory.

        Raises:
            ModelError: it cannot be found, read, or does not fit.
            BackendError: no backend takes it.
            OptionError: with `strict`, it could not be quantised as asked.
            AdapterError: the adapter cannot be read, or is for another model.
        """
        if precision.adapter is not None:
            read_adapter(Path(precision.adapter))  # what is wrong with it is so on every backend
        chain, before = candidates(backend, self._backends, strict, name).without(tried), self._loaded
        here = once(lambda: resolve(name, progress=progress))
        if strict and not chain.named:
            chain = first_that_has(chain, name, here)
        notes = (*self._leave_changed(folder := folder_named(name)), *self._leave_moved(name, here))
        notes = (*notes, *self._leave_retrained(precision.adapter))
        found = self._in_memory(name, folder, chain, precision)
        loaded = found or self._load_fastest(name, here, chain, precision, strict, notes, progress)
        if strict:
            try:
                _check_as_asked(loaded)
            except OptionError:
                self._leave([copy for copy in self._loaded if copy not in before])
                raise
        self._residency.use(self._copy(loaded).stay, None if keep_alive is None else in_seconds(keep_alive))
        return loaded

    def release(self, loaded: Loaded) -> None:
        """Whoever uses it within `in_use` now needs it no longer."""
        for copy in self._loaded:
            if copy.model is loaded.model:
                self._residency.release(copy.stay)

    def holding(self, model: LoadedModel) -> AbstractContextManager[None]:
        """Within, a model in memory has a user."""
        stay = next((copy.stay for copy in self._loaded if copy.model is model), None)
        return self._residency.holding(stay) if stay is not None else nullcontext()

    def _copy(self, loaded: Loaded) -> InMemory:
        return next(copy for copy in self._loaded if copy.model is loaded.model)

    def in_memory(self, name: str, backend: str, precision: Precision) -> Loaded | None:
        """A model that is in memory on a backend, as `get` would give it, without loading it."""
        return self._in_memory(name, folder_named(name), candidates(backend, self._backends), precision)

    def has_others(self, name: str, backend: str, strict: bool, tried: Collection[str]) -> bool:
        """Whether a model's chain has a backend beside those that were tried."""
        try:
            return bool(candidates(backend, self._backends, strict, name).without(tried).backends)
        except BackendError:
            return False  # what was there a moment ago is gone

    def ran(self, loaded: Loaded, request: Request, result: Result) -> None:
        """A generation came to its end: remember how fast it was, where it was a plain one on this machine."""
        names = ("draft", "kv_bits", "schema", "adapter", "logprobs", "prefill_step")
        # A budget for thinking is asked before each token.
        plain = all(getattr(request, name) is None for name in names) and not isinstance(request.think, int)
        plain = plain and not result.provenance.attention_calls
        if self.rates is None or loaded.source.format == "served" or not plain:
            return
        rates = of_run(result.timings, loaded.info.device)
        if rates is not None and not measuring_is_off():
            self.rates.add(loaded.info.backend, loaded.source, loaded.precision, rates)

    @contextmanager
    def for_now(self, name: str, backend: str = "auto") -> Iterator[Loaded]:
        """A model as `get` gives it. One that was not in memory before is given back at the end."""
        before = self._loaded
        try:
            yield self.get(name, backend)
        finally:
            self._leave([copy for copy in self._loaded if copy not in before])

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within, a folder is looked at once: a model that rows of a batch are computed with is not taken from them."""
        self._checked = set()
        try:
            yield
        finally:
            self._checked = None

    def _leave_changed(self, folder: Path | None) -> tuple[str, ...]:
        """Give back what was loaded from a folder that holds something else by now; what to say of it."""
        if folder is None or (self._checked is not None and folder in self._checked):
            return ()
        if self._checked is not None:
            self._checked.add(folder)
        here = [copy for copy in self._loaded if copy.source.path == folder]
        now = mark_of(folder) if here else ()
        changed = [copy for copy in here if now and copy.mark != now]
        self._leave(changed)
        return (CHANGED,) if changed else ()

    def _leave_retrained(self, adapter: str | None) -> tuple[str, ...]:
        """Give back what was loaded with an adapter whose folder holds something else by now; what to say of it."""
        if adapter is None or (self._checked is not None and adapter in self._checked):
            return ()
        if self._checked is not None:
            self._checked.add(adapter)
        here = [copy for copy in self._loaded if any(each.adapter == adapter for each in copy.serves)]
        now = mark_of(Path(adapter)) if here else ()
        changed = [copy for copy in here if now and copy.adapter_mark != now]
        self._leave(changed)
        return (RETRAINED,) if changed else ()

    def _leave_moved(self, name: str, here: Callable[[], ModelSource]) -> tuple[str, ...]:
        """Give back what a server has under a name that leads elsewhere by now, or prompts would go to where they are
        no longer meant to; what to say of it.
        """
        served = [copy for copy in self._loaded if copy.source.format == "served" and copy.source.name == name]
        if not served or (self._checked is not None and name in self._checked):
            return ()
        if self._checked is not None:
            self._checked.add(name)
        moved = [copy for copy in served if leads_elsewhere(self._backends[copy.info.backend], copy.source, here)]
        self._leave(moved)
        return (MOVED,) if moved else ()

    def _in_memory(self, name: str, folder: Path | None, chain: Candidates, precision: Precision) -> Loaded | None:
        for place, candidate in enumerate(chain.backends):
            for copy in self._loaded:
                if not chain.named and copy.only_named:
                    continue
                if copy.info.backend == candidate.name and precision in copy.serves and copy.goes_by(name, folder):
                    return as_found(copy, chain, place, precision)
        return None

    def _load_fastest(
        self,
        name: str,
        here: Callable[[], ModelSource],
        chain: Candidates,
        precision: Precision,
        strict: bool,
        notes: tuple[str, ...],
        progress: Progress | None,
    ) -> Loaded:
        """`_load` along a chain in the order of speed, as far as that is known."""
        if self.rates is None or precision.adapter is not None:  # what is measured is remembered of the model alone
            return self._load(name, here, chain, precision, strict, notes)
        with self.contest(name, here, precision, progress) as contest:
            chain = contest.in_order(chain)
            notes = (*notes, contest.note) if contest.note else notes
            loaded = self._load(name, here, chain, precision, strict, notes, contest.take)
            for copy in self._loaded:
                if copy.model is loaded.model:
                    copy.slower = frozenset(contest.slower_than(loaded.info.backend))
            return loaded

    @contextmanager
    def contest(
        self, name: str, here: Callable[[], ModelSource], precision: Precision, progress: Progress | None
    ) -> Iterator[Contest]:
        """What measures a model on several backends; nothing of it is left in memory that was not taken."""

        on_disk = once(lambda: resolve(name, download=False))

        def find(backend: Backend, download: bool) -> ModelSource | None:
            try:
                return found_by(backend, name, here if download else on_disk, named=False)
            except MlxnbError:
                return None  # whoever asks it in earnest hears why

        def load(backend: Backend, source: ModelSource) -> LoadedModel:
            return self._load_on(backend, source, precision, strict=True)

        def check() -> None:
            if progress is not None:
                progress(0, 0)

        book = self.rates if self.rates is not None else RateBook()
        contest = Contest(book, precision, find, load, check, self.tell)
        try:
            yield contest
        finally:
            contest.close()

    def _load(
        self,
        name: str,
        here: Callable[[], ModelSource],
        chain: Candidates,
        precision: Precision,
        strict: bool = False,
        notes: tuple[str, ...] = (),
        taken: Callable[[Backend], LoadedModel | None] = lambda backend: None,
    ) -> Loaded:
        refused: list[Rejected] = []
        errors: list[MlxnbError] = []
        stay = self._residency.begin(in_seconds(settings().keep_alive))
        tried: list[Rejected] = []
        for backend in chain.backends:
            try:
                source = found_by(backend, name, here, chain.named)
                mark = mark_of(source.path) if source.format != "served" else ()
                adapter_mark = mark_of(Path(precision.adapter)) if precision.adapter else ()
                load = partial(self._load_on, backend, source, precision, strict)
                size = sum(nbytes for _, nbytes, *_ in mark)
                model, went = self._room.for_model(
                    backend, source, size, precision, partial(_first_of, taken, backend, load)
                )
            except LEAD_ON as err:
                refused.append(Rejected(backend.name, err.message, err.remedy))
                errors.append(err)
                if chain.named or not isinstance(err, NotItsOwnError):
                    tried.append(refused[-1])
                continue
            passed_over = (*chain.passed_over, *tried)
            only_named = chain.named and is_unseen(backend, name, here)
            unseen = frozenset(
                each.name
                for each in self._backends.values()
                if each.name == SERVER or is_unseen(each, name, partial(_same, source))
            )
            new = InMemory(model, source, mark, passed_over, {}, stay, only_named=only_named, unseen=unseen)
            new.adapter_mark = adapter_mark
            copy = self._kept(new, precision)
            return Loaded(copy.model, copy.serves[precision], source, precision, copy.passed_over, (*notes, *went))
        raise _none_could(name, errors, refused)

    def _kept(self, new: InMemory, precision: Precision) -> InMemory:
        """A model that was just loaded; or, where it came to the same as one in memory, that one."""
        self.loads += 1
        said, unasked = new.model.info, new.model.info.unasked
        if unasked is None:
            new.serves[precision] = said
        else:
            asked, precision = precision, replace(precision, quantize=None)
            folder = new.source.path if is_folder(new.source) else None
            for copy in self._loaded:
                same = copy.info.backend == said.backend and copy.goes_by(new.source.name, folder)
                if same and precision in copy.serves:
                    copy.serves[asked] = said
                    new.model.close()
                    return copy
            new.serves |= {precision: unasked, asked: said}
        if self._caches is not None:
            self._caches.join(new.model, new.source, precision)
        self._loaded = (*self._loaded, new)
        return new

    def _load_on(self, backend: Backend, source: ModelSource, precision: Precision, strict: bool) -> LoadedModel:
        try:
            with LOADING, panics_as_errors():  # one at a time in the process, whichever engine asks
                if source.format == "safetensors":
                    self._room.check_fits(inspect(source.path), backend, precision, strict)
                return backend.load(source, precision)
        except (MlxnbError, Cancelled):
            raise
        except Exception as err:  # a library fails in its own ways: on import, or on files it does not understand
            reason = " ".join(f"{type(err).__name__}: {err}".split())
            if memory_ran_out(err):
                message = f"Memory ran out while {backend.name} loaded {source.name}: {reason}."
                raise ModelTooLargeError(message, "Unload another model, or take fewer bits: --quantize int8.") from err
            message = f"{backend.name} could not load {source.name}: {reason}."
            raise UnsupportedModelError(message, "Fetch the model again if its files may be damaged.") from err

    def keep(self, name: str, pinned: bool = True) -> list[ModelInfo]:
        """Pin every copy of a model, or no longer; which they are.

        Raises:
            ModelNotFoundError: nothing of that name is loaded.
        """
        copies = self._by_name(name)
        for copy in copies:
            copy.stay.pinned = pinned
        return [copy.info for copy in copies]

    def give_back_idle(self, wanted: Callable[[], Collection[str | None]] = tuple) -> float | None:
        """Give back what was idle for its keep_alive, but for what goes by a name in `wanted`, asked only where needed;
        the seconds until the next will have been, None where none will.
        """
        over = self._residency.over(self._loaded)
        names = wanted() if over else ()
        self._leave([copy for copy in over if copy.source.name not in names])
        return self._residency.next_end([copy for copy in self._loaded if copy not in over])

    def unload(self, name: str) -> list[ModelInfo]:
        """Give back every copy of a model; what was unloaded.

        Raises:
            ModelNotFoundError: nothing of that name is loaded.
        """
        return self._leave(self._by_name(name))

    def _by_name(self, name: str) -> list[InMemory]:
        folder = Path(os.path.abspath(os.path.expanduser(str(name))))
        found = [copy for copy in self._loaded if name == copy.source.name or folder == copy.source.path]
        if not found:
            here = ", ".join(sorted({info.name for info in self.infos()})) or "nothing"
            raise ModelNotFoundError(f"{name} is not loaded.", f"Loaded now: {here}.")
        return found

    def close(self) -> None:
        """Give everything back."""
        self._leave(self._loaded)

    def _leave(self, going: Collection[InMemory]) -> list[ModelInfo]:
        self._loaded = tuple(copy for copy in self._loaded if copy not in going)
        for copy in going:
            if self._caches is not None:
                self._caches.leave(copy.model)
            copy.model.close()
        return [copy.info for copy in going]


def _first_of(
    taken: Callable[[Backend], LoadedModel | None], backend: Backend, load: Callable[[], LoadedModel]
) -> LoadedModel:
    """The model that was loaded already, to be measured, or what `load` gives."""
    return taken(backend) or load()


def _none_could(name: str, errors: list[MlxnbError], refused: list[Rejected]) -> MlxnbError:
    """What to raise where no backend of a chain took a model: their one trouble, or all of their reasons."""
    troubles = {(type(err), err.message): err for err in errors if not isinstance(err, UnsupportedModelError)}
    if len(errors) == 1 or len({kind for kind, _ in troubles}) == 1:
        one = next(iter(troubles.values()), errors[0])
        return one.plainly() if isinstance(one, NotItsOwnError) else one
    reasons = "; ".join(f"{r.subject}: {r.reason.rstrip('.')}" for r in refused)
    return UnsupportedModelError(f"No backend here can run {name}. {reasons}.")


def _check_as_asked(loaded: Loaded) -> None:
    """A strict request takes no model that came in another precision than it asked for."""
    for refused in loaded.info.refused:
        remedy = f"{refused.remedy[:1].upper()}{refused.remedy[1:]}" if refused.remedy else "Leave it out, or strict."
        raise OptionError(f"{refused.subject} of {loaded.info.name} was refused: {refused.reason}.", remedy)


def _same(source: ModelSource) -> ModelSource:
    return source
