"""Who hears how far a batch is while its caller waits: a function of the caller's, or the bar of a front, or nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import OptionError
from .batch import Progress

# Seconds that a batch may take before a bar appears that nobody asked for.
PATIENCE = 1.0


class Bar(Protocol):
    """Shows how far a batch is. All calls come from the thread that waits for it."""

    def __call__(self, progress: Progress) -> None:
        """Show it now, or leave it out where the last one was a moment ago."""

    def close(self) -> None:
        """Nothing more will come: what is left is a quiet line that says how it ended."""


# What a caller may ask for: shown, not shown, told to a function, or shown where it takes long.
Wanted = bool | Callable[[Progress], object] | None


@contextmanager
def shown(wanted: Wanted, make: Callable[[], Bar] | None) -> Iterator[Callable[[Progress], object] | None]:
    """What to call with each Progress of a batch that begins now; None where nobody wants to hear of it.

    `make` makes the bar of whatever shows things in this process, if anything does.

    Raises:
        OptionError: `wanted` is something else.
    """
    check_wanted(wanted)
    if callable(wanted):
        yield wanted
        return
    if wanted is False or make is None:
        yield None
        return
    late = _Late(make, 0.0 if wanted else PATIENCE)
    try:
        yield late
    finally:
        late.close()


def check_wanted(wanted: Wanted) -> None:
    """Refuse what nobody can be told by.

    Raises:
        OptionError: naming it.
    """
    if not callable(wanted) and wanted is not None and not isinstance(wanted, bool):
        raise OptionError(f"progress is {wanted!r}.", "It takes True, False, or a function of a Progress.")


class _Late:
    """A bar that is made when its time has come."""

    def __init__(self, make: Callable[[], Bar], patience: float) -> None:
        self._make, self._from = make, time.monotonic() + patience
        self._bar: Bar | None = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None:
            if time.monotonic() < self._from:
                return
            self._bar = self._make()
        self._bar(progress)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
