"""The models in memory: found again by name, backend and precision, loaded along a chain, given back on unload."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from .. import hardware
from ..backends.base import AS_ASKED, Backend, LoadedModel, ModelInfo
from ..backends.select import Candidates, candidates
from ..decision import Rejected
from ..errors import (
    BackendError,
    MlxnbError,
    ModelError,
    ModelNotFoundError,
    ModelTooLargeError,
    OptionError,
    UnsupportedModelError,
)
from ..models import Checkpoint, ModelSource, check_fits, inspect, resolve
from ..models.fit import KV_ALLOWANCE
from ..models.mark import Mark, mark_of
from ..models.resolve import folder_of
from ..request import AS_STORED, DTYPES, Precision
from .caches import Caches

# What sends a request on to the next backend of its chain; anything else is wrong with the model wherever it runs.
LEAD_ON = (UnsupportedModelError, ModelNotFoundError, ModelTooLargeError, BackendError)
CHANGED = "its folder has changed since it was loaded, so it was loaded anew"

# One load at a time in the process, whichever engine asks: a thread that imports transformers beside another may get
# half of it, and two loads at once would each count on the same free memory.
_loading = Lock()

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory as one request sees it: in the precision that it asked for, after the backends passed over."""

    model: LoadedModel
    info: ModelInfo
    source: ModelSource
    precision: Precision
    passed_over: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()

    def goes_by(self, name: str) -> bool:
        """Whether it is meant by a name, or by the path of its folder."""
        return name == self.source.name or Path(os.path.abspath(os.path.expanduser(name))) == self.source.path


@dataclass(slots=True, eq=False)
class InMemory:
    """One copy of a model. `serves`: every precision that it is the answer to, with what to say of it then.

    A model that could not be quantised as asked, or was stored so already, is what it would be unasked: one copy.
    """

    model: LoadedModel
    source: ModelSource
    mark: Mark
    passed_over: tuple[Rejected, ...]
    serves: dict[Precision, ModelInfo]

    @property
    def info(self) -> ModelInfo:
        """What it is, whoever asked."""
        return self.model.info.unasked or self.model.info

    def goes_by(self, name: str, folder: Path | None) -> bool:
        """Whether `name`, which stands for `folder` now if for any, is this model."""
        if folder is not None:
            return _is_folder(self.source) and folder == self.source.path
        return name == self.source.name and (not _is_folder(self.source) or not self.source.path.exists())


class LoadedModels:
    """Every method but `infos` belongs to the engine's thread."""

    def __init__(self, backends: Mapping[str, Backend], caches: Caches | None = None) -> None:
        self._backends = backends
        self._caches = caches
        self._loaded: tuple[InMemory, ...] = ()
        self._checked: set[Path] | None = None
        self.loads = 0  # how often a model was read, ever

    def infos(self) -> list[ModelInfo]:
        """What is loaded now; safe on any thread, since the tuple is only ever replaced."""
        return [copy.info for copy in self._loaded]

    def get(
        self,
        name: str,
        backend: str = "auto",
        precision: Precision = AS_STORED,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Loaded:
        """The loaded model, loading it first if need be. With `auto` a model in memory is taken where it is.

        Raises:
            ModelError: it cannot be found, read, or does not fit.
            BackendError: no backend takes it.
            OptionError: with `strict`, it could not be quantised as asked.
        """
        chain, before = candidates(backend, self._backends, strict), self._loaded
        notes = self._leave_changed(folder := _folder(name))
        found = self._in_memory(name, folder, chain, precision)
        here = _once(lambda: resolve(name, progress=progress))
        loaded = found or self._load(name, here, chain, precision, strict, notes)
        if strict:
            try:
                _check_as_asked(loaded)
            except OptionError:
                self._leave([copy for copy in self._loaded if copy not in before])
                raise
        return loaded

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

    def _in_memory(self, name: str, folder: Path | None, chain: Candidates, precision: Precision) -> Loaded | None:
        for place, candidate in enumerate(chain.backends):
            for copy in self._loaded:
                if copy.info.backend == candidate.name and precision in copy.serves and copy.goes_by(name, folder):
                    return _found(copy, chain, place, precision)
        return None

    def _load(
        self,
        name: str,
        here: Callable[[], ModelSource],
        chain: Candidates,
        precision: Precision,
        strict: bool = False,
        notes: tuple[str, ...] = (),
    ) -> Loaded:
        refused: list[Rejected] = []
        errors: list[MlxnbError] = []
        for backend in chain.backends:
            try:
                source = _found_by(backend, name, here, chain.named)
                mark = mark_of(source.path) if source.format != "served" else ()
                model = self._load_on(backend, source, precision, strict)
            except LEAD_ON as err:
                refused.append(Rejected(backend.name, err.message, err.remedy))
                errors.append(err)
                continue
            copy = self._kept(InMemory(model, source, mark, (*chain.passed_over, *refused), {}), precision)
            return Loaded(copy.model, copy.serves[precision], source, precision, copy.passed_over, notes)
        raise _none_could(name, errors, refused)

    def _kept(self, new: InMemory, precision: Precision) -> InMemory:
        """A model that was just loaded; or, where it came to the same as one in memory, that one."""
        self.loads += 1
        said, unasked = new.model.info, new.model.info.unasked
        if unasked is None:
            new.serves[precision] = said
        else:
            asked, precision = precision, Precision(precision.dtype)
            folder = new.source.path if _is_folder(new.source) else None
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
            with _loading:
                if source.format == "safetensors":
                    self._check_fits(inspect(source.path), backend, precision, strict)
                return backend.load(source, precision)
        except MlxnbError:
            raise
        except Exception as err:  # a library fails in its own ways: on import, or on files it does not understand
            reason = " ".join(f"{type(err).__name__}: {err}".split())
            message = f"{backend.name} could not load {source.name}: {reason}."
            raise UnsupportedModelError(message, "Fetch the model again if its files may be damaged.") from err

    def _check_fits(self, checkpoint: Checkpoint, backend: Backend, precision: Precision, strict: bool) -> None:
        """Refuse what the backend has no way to load; with `strict`, what does not fit as it is asked for."""
        dtype = precision.dtype
        tokens = min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
        on_device = backend.memory_free()
        free = hardware.memory_free() if on_device is None else min(on_device, hardware.memory_free())
        # Without a dtype, and when quantised, the weights stay as they are stored.
        per_weight = None if dtype is None or checkpoint.quantization else DTYPES[dtype]
        try:
            check_fits(checkpoint, tokens=tokens, bytes_per_weight=per_weight, free=free)
        except ModelTooLargeError as err:
            way = backend.smaller_way(checkpoint, precision)
            if way and (not strict or way.subject == AS_ASKED):
                return
            here = sorted({info.name for info in self.infos()})
            if not here:
                raise
            remedy = f"{err.remedy} In memory now, to unload: {', '.join(here)}."
            raise ModelTooLargeError(err.message, remedy) from None

    def unload(self, name: str) -> list[ModelInfo]:
        """Give back every copy of a model; what was unloaded.

        Raises:
            ModelNotFoundError: nothing of that name is loaded.
        """
        folder = Path(os.path.abspath(os.path.expanduser(str(name))))
        going = [copy for copy in self._loaded if name == copy.source.name or folder == copy.source.path]
        if not going:
            here = ", ".join(sorted({info.name for info in self.infos()})) or "nothing"
            raise ModelNotFoundError(f"{name} is not loaded.", f"Loaded now: {here}.")
        return self._leave(going)

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


def _folder(name: str) -> Path | None:
    """See folder_of; what is no local model's name may still be one of a server's."""
    try:
        return folder_of(name)
    except ModelError:
        return None


def _once(look: Callable[[], ModelSource]) -> Callable[[], ModelSource]:
    """`look`, done when first called and remembered, also where it failed."""
    found: list[ModelSource | MlxnbError] = []

    def here() -> ModelSource:
        if not found:
            try:
                found.append(look())
            except MlxnbError as err:
                found.append(err)
        if isinstance(found[0], MlxnbError):
            raise found[0]
        return found[0]

    return here


def _found_by(backend: Backend, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource:
    found = backend.find(name, here, named)
    if isinstance(found, Rejected):
        raise UnsupportedModelError(f"{found.reason[:1].upper()}{found.reason[1:]}.", f"Try to {found.remedy}.")
    return found


def _none_could(name: str, errors: list[MlxnbError], refused: list[Rejected]) -> MlxnbError:
    """What to raise where no backend of a chain took a model: their one trouble, or all of their reasons."""
    troubles = {(type(err), err.message): err for err in errors if not isinstance(err, UnsupportedModelError)}
    if len(errors) == 1 or len({kind for kind, _ in troubles}) == 1:
        return next(iter(troubles.values()), errors[0])
    reasons = "; ".join(f"{r.subject}: {r.reason.rstrip('.')}" for r in refused)
    return UnsupportedModelError(f"No backend here can run {name}. {reasons}.")


def _is_folder(source: ModelSource) -> bool:
    return source.kind in ("path", "local")


def _check_as_asked(loaded: Loaded) -> None:
    """A strict request takes no model that came in another precision than it asked for."""
    for refused in loaded.info.refused:
        remedy = f"{refused.remedy[:1].upper()}{refused.remedy[1:]}" if refused.remedy else "Leave it out, or strict."
        raise OptionError(f"{refused.subject} of {loaded.info.name} was refused: {refused.reason}.", remedy)


def _found(copy: InMemory, chain: Candidates, place: int, precision: Precision) -> Loaded:
    """A model in memory as this request sees it: only backends that come before its own in this chain count."""
    before = {backend.name for backend in chain.backends[:place]}
    refused = tuple(r for r in copy.passed_over if r.subject in before)
    merely_elsewhere = before - {r.subject for r in refused}
    note = (f"taken where it is in memory, before {', '.join(sorted(merely_elsewhere))}",) if merely_elsewhere else ()
    return Loaded(copy.model, copy.serves[precision], copy.source, precision, (*chain.passed_over, *refused), note)
