"""Says once what is wrong with a cache: the work goes on without it, and a person should know why it is slower."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from threading import Lock


class CacheWarning(UserWarning):
    """A cache cannot be used, or lost something; every answer is still right, only slower."""


class WarnOnce:
    """Calls `say(message)` at most once for each subject, from any thread; without `say` it is a CacheWarning."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or _warn
        self._said: set[str] = set()
        self._lock = Lock()

    def every_time(self, message: str) -> None:
        """Say `message` also where the same was said before: it answers a command."""
        self._say(message)

    def __call__(self, subject: str, message: str) -> None:
        """Say `message` unless something was said about `subject` before."""
        with self._lock:
            if subject in self._said:
                return
            self._said.add(subject)
        self._say(message)


def _warn(message: str) -> None:
    # Under `-W error` a warning is an exception, which must not reach a generation.
    with contextlib.suppress(CacheWarning):
        warnings.warn(message, CacheWarning, stacklevel=3)
