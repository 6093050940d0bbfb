"""Each kind of mlx-lm's caches, fed with rows that name their position: a cut one is what a shorter one is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

mx = pytest.importorskip("mlx.core")

from mlxnb.backends.mlx_layers import copied, cut, kind, settle  # noqa: E402

WINDOW = 6
KINDS = ["KVCache", "QuantizedKVCache", "RotatingKVCache", "RotatingKVCache keep", "ChunkedKVCache"]


def fresh(name):
    from mlx_lm.models import cache

    return {
        "KVCache": lambda: cache.KVCache(),
        "QuantizedKVCache": lambda: cache.QuantizedKVCache(group_size=32, bits=8),
        "RotatingKVCache": lambda: cache.RotatingKVCache(max_size=WINDOW),
        "RotatingKVCache keep": lambda: cache.RotatingKVCache(max_size=WINDOW, keep=2),
        "ChunkedKVCache": lambda: cache.ChunkedKVCache(WINDOW),
    }[name]()


def feed(cache, number, step=0.0):
    """Rows for the next `number` positions, as a model would feed them; those that attention sees, in order."""
    positions = mx.arange(cache.offset, cache.offset + number)[None, None, :, None]
    rows = mx.broadcast_to(positions, (1, 2, number, 32)) + mx.arange(2)[None, :, None, None] / 2
    if hasattr(cache, "maybe_trim_front"):
        cache.maybe_trim_front()
    rows = rows.astype(mx.float32) + step
    cache.update_and_fetch(rows, -rows)
    return seen(cache)


def fed(name, pieces):
    cache = fresh(name)
    for piece in pieces:
        feed(cache, piece)
    return cache


def seen(cache):
    """Keys of one head by position, as far back as the model looks."""
    if cache.empty():
        return []
    if kind(cache) == "QuantizedKVCache":
        keys = mx.dequantize(*cache.keys_and_values()[0], group_size=32, bits=8)
    elif kind(cache) == "RotatingKVCache":
        keys = cache._temporal_order(cache.keys)
        last = min(cache.offset, WINDOW)
        keys = mx.concatenate([keys[..., : cache.keep, :], keys[..., keys.shape[2] - last + cache.keep :, :]], axis=2)
    elif kind(cache) == "ChunkedKVCache":
        keys = cache.keys_and_values()[0][..., -WINDOW:, :]
    else:
        keys = cache.keys_and_values()[0][..., : cache.offset, :]
    return keys[0, 0, :, 0].tolist()


PIECES = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150)
@given(pieces=PIECES, more=PIECES, data=st.data())
def test_a_cut_cache_is_a_shorter_one(name, pieces, more, data):
    whole = fed(name, pieces)
    total, before = sum(pieces), seen(whole)
    length = data.draw(st.integers(0, total))
    part = cut(whole, length)
    if part is None:
        assert name not in ("KVCache", "QuantizedKVCache")
        assert total > WINDOW
        assert length < total
        return
    shorter = fed(name, [length] if length else [])
    assert part.offset == length == shorter.offset
    if data.draw(st.booleans(), "settle"):
        settle(part)
    assert seen(part) == seen(shorter)
    for piece in more:
        assert feed(part, piece) == feed(shorter, piece)
    assert seen(whole) == before


@given(pieces=PIECES, length=st.integers(1, 40))
def test_a_window_is_cut_as_long_as_all_it_sees_is_there(pieces, length):
    """The rows say which positions are there. Cutting must use that, or a prefill's last piece could never be cut."""
    whole = fed("RotatingKVCache", pieces)
    if length > sum(pieces):
        assert cut(whole, length) is None
        return
    rows = set(whole.keys[0, 0, : min(whole.offset, whole.keys.shape[2]), 0].tolist())
    in_order = whole._idx == min(whole.offset, whole.keys.shape[2])
    expected = length == whole.offset or (in_order and rows >= set(range(max(0, length - WINDOW), length)))
    assert (cut(whole, length) is not None) == expected


@pytest.mark.parametrize("name", KINDS)
@given(pieces=PIECES, more=PIECES, settled=st.booleans())
def test_a_copy_stays_apart(name, pieces, more, settled):
    """Fed by turns, with other rows for the same positions."""
    one, again, other = fed(name, pieces), fed(name, pieces), fed(name, pieces)
    made = copied(one)
    if settled:
        settle(made)
    for piece in more:
        assert feed(made, piece) == feed(again, piece)
        assert feed(one, piece, step=0.25) == feed(other, piece, step=0.25)
    assert seen(made) == seen(again)
    assert seen(one) == seen(other)
