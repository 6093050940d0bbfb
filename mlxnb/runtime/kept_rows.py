"""Which rows of a table an earlier run has answered, and the keeping of those that are answered now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ..cache import Journal, Journals, as_asked, model_identity, replay, row_key, run_key
from ..cache.key import deciding
from ..config import settings
from ..decision import Rejected
from ..errors import GenerationError, MlxnbError, OptionError
from ..models import resolve
from ..request import Request
from ..result import Result
from .caches import as_kept
from .parsing import parsed


class KeptRows:
    """The journal of the rows that are `asked`; without `journals` nothing is found or kept.

    A row is known by the identity of its model and adapter, all of its request that decides an answer, and how many
    before it ask the same.
    """

    def __init__(self, journals: Journals | None, asked: Sequence[Request | MlxnbError]) -> None:
        self._journals, self._asked = journals, asked
        seen: Counter[Request] = Counter()  # by what decides their answers
        self._nth: dict[int, int] = {}
        for row, request in enumerate(asked):
            if isinstance(request, Request) and request.cache != "off":
                same = deciding(request)
                self._nth[row] = seen[same]
                seen[same] += 1
        self._identities: dict[tuple[str, str | None], str] = {}  # by the names of a model and its adapter
        self._certain, self._kept_any = True, False
        self.refused: Counter[str] = Counter()  # why rows are not kept

    def find(self) -> dict[int, Result]:
        """The rows that were answered, as the answers to these."""
        journal = self._journal
        held = journal.read() if journal is not None else {}
        found: dict[int, Result] = {}
        for row in self._nth if held else ():
            kept = held.get(self._key(row))
            if kept is not None and (answer := _again(kept, self._request(row))) is not None:
                found[row] = answer
        return found

    @property
    def keeps(self) -> bool:
        """Whether rows are kept at all."""
        return self._journals is not None and bool(self._nth)

    def forget(self) -> None:
        """Forget these rows, and no others.

        Raises:
            OptionError: their file cannot be written.
        """
        journal = self._journal
        if journal is None:
            return
        try:
            journal.forget({self._key(row) for row in self._nth})
        except OSError as err:
            remedy = f"See to {journal.path.parent}, or ask with cache off."
            raise OptionError(f"fresh: the rows of earlier runs cannot be forgotten ({err}).", remedy) from err

    def keep(self, row: int, answer: Result) -> None:
        """Keep a row's answer; one that is not whole is none."""
        if row not in self._nth or answer.finish_reason == "interrupted":
            return
        if not self._certain and not self._kept_any:
            self._identities.clear()  # a model that was not here was fetched by now, or is a server's
            self.__dict__.pop("_journal", None)
        self._kept_any = True
        journal = self._journal
        if journal is None:
            return
        request = self._request(row)
        verdict = journal.put(self._key(row), as_kept(answer), as_asked(request))
        if isinstance(verdict, Rejected):
            self.refused[verdict.reason] += 1

    def sync(self) -> None:
        """Have on the disk what was kept."""
        journal = self._journal
        if journal is not None:
            journal.sync()

    @cached_property
    def _journal(self) -> Journal | None:
        if self._journals is None or not self._nth:
            return None
        first = self._request(next(iter(self._nth)))
        try:
            return self._journals.open(run_key(first, self._identity(first)))
        except TypeError as err:
            self.refused[str(err)] += 1
            self._nth.clear()
            return None

    def _key(self, row: int) -> str:
        request = self._request(row)
        return row_key(request, self._identity(request), self._nth[row])

    def _request(self, row: int) -> Request:
        request = self._asked[row]
        assert isinstance(request, Request)
        return request

    def _identity(self, request: Request) -> str:
        """What the model and its adapter are, by their content; by the name what is no file of this machine."""
        asked = request.model, request.adapter
        if asked not in self._identities:
            self._identities[asked] = self._model(request.model) + self._adapter(request.adapter)
        return self._identities[asked]

    def _model(self, name: str) -> str:
        try:
            source = resolve(name, download=False)
            return model_identity(source.path, source.revision)
        except (MlxnbError, OSError):
            self._certain = False
            return f"name:{name} at {settings().server_url}"

    def _adapter(self, folder: str | None) -> str:
        if folder is None:
            return ""
        try:
            return f" with {model_identity(Path(folder))}"
        except OSError:
            self._certain = False
            return f" with name:{folder}"


def _again(kept: Result, request: Request) -> Result | None:
    now = time.perf_counter()
    try:
        return parsed(replay(kept, now, now), request)
    except GenerationError:  # it was kept before its schema's type changed
        return None
