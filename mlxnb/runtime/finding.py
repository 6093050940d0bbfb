"""Finds a model on one backend or another, by the name that a request gives, and says why one has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..backends.base import Backend, Cancelled
from ..backends.select import Candidates
from ..decision import Absent, Rejected
from ..errors import BackendMissingError, MlxnbError, ModelError, UnsupportedModelError, in_words
from ..models import ModelSource
from ..models.resolve import folder_of


class NotItsOwnError(UnsupportedModelError):
    """A backend has no such model in a format that it reads. Under `auto` it was then none to be tried with it, and is
    passed over without a word; a chain that a person named answers for each of its parts.
    """

    def plainly(self) -> MlxnbError:
        """The same for a person, once there is no other backend to go on to."""
        return UnsupportedModelError(self.message, self.remedy)


class NotThereError(NotItsOwnError):
    """What would have the model is not there, such as a server that is not started."""

    def plainly(self) -> MlxnbError:
        """See NotItsOwnError."""
        return BackendMissingError(self.message, self.remedy)


def folder_named(name: str) -> Path | None:
    """See folder_of; what is no local model's name may still be one of a server's."""
    try:
        return folder_of(name)
    except ModelError:
        return None


def once(look: Callable[[], ModelSource]) -> Callable[[], ModelSource]:
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


def found_by(backend: Backend, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource:
    raised: list[BaseException] = []

    def looked() -> ModelSource:
        try:
            return here()
        except BaseException as err:
            raised.append(err)
            raise

    try:
        found = backend.find(name, looked, named)
    except Exception as err:  # a library or a server fails in its own ways; how the look here fails is no fault of it
        if isinstance(err, MlxnbError | Cancelled) or err in raised:
            raise
        raise UnsupportedModelError(f"{backend.name} could not look for {name}: {in_words(err)}.") from err
    if isinstance(found, Rejected):
        reason = found.reason if found.reason.startswith(name) else f"{found.reason[:1].upper()}{found.reason[1:]}"
        kind = NotThereError if isinstance(found, Absent) else NotItsOwnError
        raise kind(f"{reason}.", f"Try to {found.remedy}.")
    return found


def first_that_has(chain: Candidates, name: str, here: Callable[[], ModelSource]) -> Candidates:
    """A chain that nobody named, cut to what a strict request may take: the first that has the model in its format."""
    for backend in chain.backends:
        try:
            found_by(backend, name, here, named=False)
        except NotItsOwnError:
            continue
        except MlxnbError:
            break  # there is no such model, or it cannot be fetched: whoever loads it hears so
        return replace(chain, backends=(backend,))
    return replace(chain, backends=chain.backends[:1])


def is_unseen(backend: Backend, name: str, here: Callable[[], ModelSource]) -> bool:
    """Whether a backend has no model of that name for `auto`."""
    try:
        return isinstance(backend.find(name, here, False), Rejected)
    except Exception:  # noqa: BLE001 - a backend's probe: whoever asks it in earnest hears what is wrong
        return False


def leads_elsewhere(backend: Backend, source: ModelSource, here: Callable[[], ModelSource]) -> bool:
    """Whether a backend finds another server, or another model of it, by the name of one that it found before. One that
    it does not find now may only be slow to answer, which the request itself has more patience with.
    """
    try:
        now = backend.find(source.name, here, True)
    except Exception:  # noqa: BLE001 - a backend's probe: whoever asks it in earnest hears what is wrong
        return False
    return isinstance(now, ModelSource) and (now.url, now.served_as) != (source.url, source.served_as)
