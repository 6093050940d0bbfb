"""The clock of a profile: the engine's monotonic clock, counted from the beginning of the profile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ...result import Timings


@dataclass(frozen=True, slots=True)
class Clock:
    """Called, it gives the seconds since it was made. `origin` is that moment on `time.perf_counter`."""

    origin: float = field(default_factory=time.perf_counter)

    def __call__(self) -> float:
        return time.perf_counter() - self.origin

    def relative(self, timings: Timings) -> Timings:
        """Timings of a Result, counted from the beginning."""
        seen = timings.first_visible
        return replace(
            timings,
            accepted=timings.accepted - self.origin,
            start=timings.start - self.origin,
            token_times=tuple(at - self.origin for at in timings.token_times),
            first_visible=None if seen is None else seen - self.origin,
        )
