"""How far a profile is, and how long it takes yet by what was measured so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..report import Case, Run


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a profile is: what goes on now, requests done of all, and the seconds that are probably left."""

    doing: str
    done: int
    total: int
    left: float | None


class Pace:
    """What rounds took, and what those that are left take by that: of a case that ran already the mean of its rounds,
    of another one its tokens at the mean rates of prefill and decode.
    """

    def __init__(self) -> None:
        self._took: dict[int, list[float]] = {}
        self._prefill, self._decode = [0.0, 0], [0.0, 0]  # seconds and tokens

    def add(self, case: int, seconds: float, runs: Iterable[Run]) -> None:
        """A round of a case took so long."""
        self._took.setdefault(case, []).append(seconds)
        for run in runs:
            times = run.timings
            if times is not None and times.token_times:
                self._prefill[0] += times.token_times[0] - times.start
                self._prefill[1] += times.prompt_tokens - times.reused_tokens
                self._decode[0] += times.token_times[-1] - times.token_times[0]
                self._decode[1] += run.generation_tokens

    def left(self, rounds: Iterable[tuple[int, Case]]) -> float | None:
        """Seconds for those rounds; None before anything was measured that tells."""
        parts = [self._round(index, case) for index, case in rounds]
        known = [part for part in parts if part is not None]
        return sum(known) / len(known) * len(parts) if known else (0.0 if not parts else None)

    def _round(self, index: int, case: Case) -> float | None:
        took = self._took.get(index)
        if took:
            return sum(took) / len(took)
        if not self._prefill[1] or not self._decode[1]:
            return None
        prefill = (case.prompt_tokens or 0) * self._prefill[0] / self._prefill[1]
        return case.concurrency * (prefill + case.max_tokens * self._decode[0] / self._decode[1])
