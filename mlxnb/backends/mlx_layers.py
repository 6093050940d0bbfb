"""What can be done with one layer's cache of mlx-lm without feeding it: copy it, cut it, weigh it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

# Numbers that go with the arrays of each kind of cache, by mlx-lm's own names.
COUNTS: dict[str, tuple[str, ...]] = {
    "KVCache": ("offset",),
    "QuantizedKVCache": ("offset", "group_size", "bits"),
    "RotatingKVCache": ("offset", "_idx", "keep", "max_size"),
    "ChunkedKVCache": ("offset", "start_position", "chunk_size"),
    "ArraysCache": (),
}


def kind(cache: Any) -> str | None:
    """Its name in COUNTS, None for a class that is not known here. A subclass may do anything, so it is not known."""
    from mlx_lm.models import cache as classes

    known = {getattr(classes, name): name for name in COUNTS}
    return known.get(type(cache))


def leaves(caches: Any) -> Iterator[Any]:
    """Every cache with arrays of its own: those inside a CacheList one by one."""
    from mlx_lm.models.cache import CacheList

    for cache in caches:
        if type(cache) is CacheList:
            yield from leaves(cache.caches)
        else:
            yield cache


def copied(cache: Any) -> Any:
    """A cache with array objects of its own.

    `cache.keys[...] = x` gives the very same Python object another content. A new object over the same data is enough
    to stay apart: MLX copies the data when one of them is written to. (`mx.array(a)` would copy it at once.)
    """
    from mlx_lm.models.cache import ArraysCache, CacheList

    made = copy.copy(cache)
    if type(cache) is CacheList:
        made.caches = tuple(copied(part) for part in cache.caches)
    elif type(cache) is ArraysCache:
        made.cache = list(_own(cache.cache))
        made.left_padding, made.lengths = _own(cache.left_padding), _own(cache.lengths)
    else:
        made.keys, made.values = _own(cache.keys), _own(cache.values)
    return made


def _own(tree: Any) -> Any:
    from mlx.utils import tree_map

    return tree_map(copy.copy, tree)


def cut(cache: Any, length: int) -> Any | None:
    """A copy with the first `length` tokens only, None where it cannot be had. Views of the same arrays: nothing moves.

    A rotating cache can be cut while it holds all that the window sees at `length`: all of a prompt, or, after a
    prefill in chunks, more rows than the window has.
    """
    from mlx.utils import tree_map
    from mlx_lm.models.cache import ArraysCache, CacheList

    if type(cache) is CacheList:
        parts = [cut(part, length) for part in cache.caches]
        return None if any(part is None for part in parts) else CacheList(*parts)
    if type(cache) is ArraysCache or kind(cache) is None:
        return None
    if cache.empty() or length == cache.offset:
        return copied(cache)
    dropped = _dropped(cache, length)
    if dropped is None or not 0 <= length <= cache.offset:
        return None
    made, left = copy.copy(cache), length - dropped
    sides = (cache.keys, cache.values)
    made.keys, made.values = tree_map(lambda a: a[..., :left, :], sides) if left else (None, None)
    made.offset = length
    if hasattr(made, "_idx"):
        made._idx = left
    return made


def _dropped(cache: Any, length: int) -> int | None:
    """How many rows before `length` it has let go of; None where the model would look at one of them from there.

    For a rotating cache that is where fewer rows than the window are left before `length`. Once it writes over its
    oldest rows that holds for every length but its own, so the rows of one that can be cut lie in order.
    """
    if not hasattr(cache, "_idx"):
        return 0 if getattr(cache, "start_position", 0) == 0 else None
    dropped = int(cache.offset - cache._idx)
    return dropped if dropped == 0 or length - dropped >= cache.max_size else None


def rows(cache: Any) -> int:
    """How many rows of its buffer are in use."""
    held = cache.offset - getattr(cache, "start_position", 0)
    return min(held, cache.keys.shape[2]) if hasattr(cache, "_idx") else held


def settle(cache: Any) -> int:
    """Give every array memory of its own, where it is a view of a longer one, and return the bytes of all.

    MLX does not tell how much a view keeps alive: a cut cache the whole of what it was cut from, the last inputs of a
    convolution all of a prefill chunk. `mx.contiguous` copies those, and shares what fills its memory already.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.models.cache import ArraysCache

    names = ("cache",) if type(cache) is ArraysCache else ("keys", "values")
    for name in names:
        compact = tree_map(lambda a: None if a is None else mx.contiguous(a), getattr(cache, name))
        setattr(cache, name, compact)
    arrays = [array for _, array in tree_flatten([getattr(cache, name) for name in names]) if array is not None]
    mx.eval(arrays)
    return sum(array.nbytes for array in arrays)
