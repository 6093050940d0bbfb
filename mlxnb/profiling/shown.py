"""Shows how far a profile is: what is measured, which run of how many, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import OptionError
from ..render.numbers import duration
from ..render.work import WorkCell
from .profile import Progress

# Seconds between two updates: drawing more often would cost what is being measured.
INTERVAL = 0.4

Heard = Callable[[Progress], None]
# What a caller may ask for: shown, not shown, or told to a function.
Wanted = bool | Heard | None


@contextmanager
def shown(title: str, wanted: Wanted = None) -> Iterator[Heard | None]:
    """What to call with each Progress of a profile: a line in the cell or on the terminal, gone when it ends.

    Raises:
        OptionError: `wanted` is something else.
    """
    if callable(wanted):
        yield wanted
    elif wanted is False:
        yield None
    elif wanted is not None and wanted is not True:
        raise OptionError(f"progress is {wanted!r}.", "It takes True, False, or a function of a Progress.")
    else:
        with WorkCell(title, interval=INTERVAL) as cell:
            yield lambda now: cell.update(now.done, now.total, words(now))


def words(now: Progress) -> str:
    """What goes on, and how long it may still take."""
    left = f"about {duration(round(now.left) if now.left > 10 else now.left)} left" if now.left else ""
    return " · ".join(filter(None, [now.doing, left]))
