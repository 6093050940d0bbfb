"""A decision is a value: something was accepted, or it was rejected for a reason and with a remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accepted:
    """A yes. `subject` is what was decided on (a backend, a kernel, a model), `reason` why, in a few words."""

    subject: str
    reason: str = ""

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}" if self.reason else self.subject


@dataclass(frozen=True, slots=True)
class Rejected:
    """A no, with the reason and what a person can do about it (often one command)."""

    subject: str
    reason: str
    remedy: str = ""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}" + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True, slots=True)
class Absent(Rejected):
    """A no because something optional is not on this machine: worth knowing, nothing to worry about."""


Decision = Accepted | Rejected
