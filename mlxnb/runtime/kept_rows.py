"""Which rows of a table an earlier run has answered, and the keeping of those that are answered now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from ..cache import Journal, Journals, as_asked, model_identity, replay, row_key, run_key
from ..config import settings
from ..decision import Rejected
from ..errors import GenerationError, MlxnbError, OptionError
from ..models import resolve
from ..request import Request
from ..result import Result
from .parsing import parsed


class KeptRows:
    """The journal of the rows that are `asked`; without `journals` nothing is found or kept.

    A row is known by the model's identity, all of its request, and how many before it ask the same.
    """

    def __init__(self, journals: Journals | None, asked: Sequence[Request | MlxnbError]) -> None:
        self._journals, self._asked = journals, asked
        seen: Counter[Request] = Counter()
        self._nth: dict[int, int] = {}
        for row, request in enumerate(asked):
            if isinstance(request, Request) and request.cache != "off":
                self._nth[row] = seen[request]
                seen[request] += 1
        self._identities: dict[str, str] = {}
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
        verdict = journal.put(self._key(row), _as_kept(answer), as_asked(request))
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
        """What the model is, by its content; by its name where it is no file of this machine."""
        if request.model not in self._identities:
            try:
                source = resolve(request.model, download=False)
                self._identities[request.model] = model_identity(source.path, source.revision)
            except (MlxnbError, OSError):
                self._identities[request.model] = f"name:{request.model} at {settings().server_url}"
                self._certain = False
        return self._identities[request.model]


def _as_kept(answer: Result) -> Result:
    """What an answer was parsed into may be anything; it is parsed anew when it is found."""
    return replace(answer, value=None)


def _again(kept: Result, request: Request) -> Result | None:
    now = time.perf_counter()
    try:
        return parsed(replay(kept, now, now), request)
    except GenerationError:  # it was kept before its schema's type changed
        return None
