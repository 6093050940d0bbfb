"""How many rows of a batch are tried at once, by what memory has allowed so far."""

from __future__ import annotations

# Steps without trouble after which twice as many rows are tried again, and twice that after each trouble.
GROW_AFTER = 64


class Width:
    """At most `most` rows; fewer after memory ran short, and slowly more again."""

    def __init__(self, most: int) -> None:
        self._most = self.rows = most
        self._calm, self._patience = 0, GROW_AFTER

    def step(self) -> None:
        """A step came to its end."""
        self._calm += 1
        if self._calm >= self._patience and self.rows < self._most:
            self.rows, self._calm = min(self._most, 2 * self.rows), 0

    def short(self, rows: int) -> None:
        """Memory ran short: so many rows from now on. A row that joins in vain has computed its prompt in vain."""
        self.rows, self._calm, self._patience = max(1, rows), 0, 2 * self._patience
