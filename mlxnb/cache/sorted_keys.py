"""Token sequences in order, so that those with the longest common prefix are found next to each other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

from .states import common_prefix, length_of


class SortedKeys:
    """A sorted set of keys (see `key_of`). In this order no sequence shares more with another than its neighbours do,
    so a search is one bisection, where a trie of Python dictionaries would take some 200 bytes a token.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys = sorted(set(keys))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._keys))

    def __contains__(self, key: bytes) -> bool:
        place = bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key

    def add(self, key: bytes) -> None:
        """Take a key in."""
        if key not in self:
            insort(self._keys, key)

    def discard(self, key: bytes) -> None:
        """Drop a key, if it is there."""
        if key in self:
            del self._keys[bisect_left(self._keys, key)]

    def nearest(self, key: bytes) -> Iterator[tuple[int, bytes]]:
        """(tokens in common, stored key) for all that share any, the longest first; do not change the set meanwhile."""
        right = bisect_left(self._keys, key)
        left = right - 1
        on_left, on_right = self._common(left, key), self._common(right, key)
        while on_left or on_right:
            if on_left >= on_right:
                yield on_left, self._keys[left]
                left -= 1
                on_left = self._common(left, key)
            else:
                yield on_right, self._keys[right]
                right += 1
                on_right = self._common(right, key)

    def beginning_with(self, key: bytes) -> Iterator[bytes]:
        """The stored keys that begin with `key`, itself included; do not change the set meanwhile."""
        place = bisect_left(self._keys, key)
        while place < len(self._keys) and self._keys[place].startswith(key):
            yield self._keys[place]
            place += 1

    def prefixes_of(self, key: bytes) -> Iterator[bytes]:
        """The stored keys that `key` goes on from, itself left out, the longest first; as above."""
        place = bisect_left(self._keys, key)
        while place and (common := self._common(place - 1, key)):
            found = self._keys[place - 1]
            if common == length_of(found):
                yield found
                place -= 1
            else:
                # Any shorter prefix comes no later in the order than what these two have in common.
                place = bisect_right(self._keys, key[: 4 * common])

    def _common(self, place: int, key: bytes) -> int:
        return common_prefix(self._keys[place], key) if 0 <= place < len(self._keys) else 0
