"""Prompt lookup: what followed the last tokens where they stood before, in the prompt or the answer, may follow again.

Source: Saxena, "Prompt Lookup Decoding" (https://github.com/apoorvumang/prompt-lookup-decoding), 2023.
"""

from __future__ import annotations

LONGEST = 3  # tokens that are looked up together; fewer where those were not there before

# What a proposal grows to by itself: few enough rows that they cost little more than one; not tuned by measurement.
MOST = 8


class PromptLookup:
    """A Proposer that takes what came after the latest occurrence of the last three, two or one tokens.

    How much it proposes follows how well it did: twice as much after a proposal that was right throughout, half as much
    after one that was not. Down at nothing it still guesses, for itself, and begins again with the first right guess,
    so that text that repeats nothing costs next to no wasted rows.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most if most is not None else MOST
        self._width = 1
        self._history: list[int] = []
        # For each length, every run of so many tokens that has a successor: where the latest one ends.
        self._ends: list[dict[tuple[int, ...], int]] = [{} for _ in range(LONGEST)]
        self._unsaid: tuple[int, int] | None = None  # a place and the token guessed for it, where none was proposed

    def propose(self, history: list[int], most: int) -> list[int]:
        """See Proposer."""
        self._read(history)
        if self._unsaid is not None and history[self._unsaid[0]] == self._unsaid[1]:
            self._width = 1
        self._unsaid = None
        width = min(max(self._width, 1), most)
        found = self._follow(width)
        if self._width or not found:
            return found
        self._unsaid = len(history), found[0]
        return []

    def verified(self, proposed: int, accepted: int) -> None:
        """See Proposer."""
        if accepted < proposed:
            self._width = max(accepted, self._width // 2)
        elif proposed:
            self._width = min(self._most, max(self._width, 2 * proposed))

    def close(self, history: list[int]) -> None:
        """See Proposer."""

    def _read(self, history: list[int]) -> None:
        """Enter the runs that have got a successor since the last time."""
        for end in range(max(len(self._history), 1), len(history)):
            for length, ends in enumerate(self._ends, 1):
                if end >= length:
                    ends[tuple(history[end - length : end])] = end
        self._history += history[len(self._history) :]

    def _follow(self, width: int) -> list[int]:
        """`width` tokens from the latest place like this one on. Where it is so near that they reach what is not
        known yet, the text between goes round.
        """
        here = self._history
        for length in range(min(LONGEST, len(here)), 0, -1):
            end = self._ends[length - 1].get(tuple(here[-length:]))
            if end is not None:
                period = len(here) - end
                return [here[end + i % period] for i in range(width)]
        return []
