"""The parts of a decode step with the time that each took, its layers added up."""

from __future__ import annotations

from . import Inside


def by_part(inside: Inside) -> list[tuple[str, float]]:
    """Parts and their seconds, the longest first."""
    took: dict[str, float] = {}
    for share in inside.shares:
        took[share.part] = took.get(share.part, 0.0) + share.seconds
    return sorted(took.items(), key=lambda part: -part[1])
