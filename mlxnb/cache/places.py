"""Where in a prompt a snapshot is worth taking, for KV states that cannot be cut back later."""

from __future__ import annotations

from collections.abc import Iterable

# A shorter stretch is prefilled about as quickly as a snapshot is copied.
LEAST_GAP = 64
MOST = 4


def snapshot_places(
    length: int, reused: int = 0, common: int = 0, turns: Iterable[int] = (), least_gap: int = LEAST_GAP
) -> tuple[int, ...]:
    """Lengths, rising, at which prefill should stop and store a copy of its state, for a prompt of `length` tokens.

    Always the prompt without its last token, so that the same prompt asked again leaves one token to feed. Then, as
    far as they lie past the `reused` tokens and at least `least_gap` from one another (a question is often shorter than
    that, so its end does not count): where this prompt parted from
    earlier ones (`common` of a Lookup), for the next will likely part there too, and the ends in tokens of the system
    prompt and of earlier turns (`turns`), the system prompt's and the last ones first, four in all.
    """
    last = length - 1
    if last <= reused:
        return ()
    ends = sorted(set(turns))
    chosen = [last]
    for place in [common, *ends[:1], *reversed(ends[1:])]:
        far = all(abs(place - other) >= least_gap for other in (*chosen[1:], reused))
        if reused < place < last and far and len(chosen) < MOST:
            chosen.append(place)
    return tuple(sorted(chosen))
