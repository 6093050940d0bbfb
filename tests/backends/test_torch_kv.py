"""Properties of the KV layer that grows in place: whatever is copied, cut and fed, it holds what DynamicLayer would."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from mlxnb.backends.torch_kv import STEP, expect, growing_layer, new_cache
from mlxnb.backends.torch_layers import copied, cut, kind, settle

HEADS, WIDTH = 2, 4


def tokens(start: int, number: int):
    """Keys and values that tell which token they are of; never twice the same."""
    keys = torch.arange(start, start + number).float().view(1, 1, number, 1).expand(1, HEADS, number, WIDTH)
    return keys, -keys


def empty(expected: int = 0):
    layer = growing_layer()()
    layer.expected = expected
    return layer


def feed(layer, keys, values):
    layer.update(keys, values)
    return layer


STEPS = st.lists(
    st.tuples(st.sampled_from(["feed", "copy", "cut", "crop", "settle"]), st.integers(0, 9), st.integers(1, 300)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150)
@given(STEPS, st.sampled_from([0, 40, 1000]))
def test_it_holds_what_a_dynamic_layer_would(steps, expected):
    pairs = [(empty(expected), DynamicLayer())]
    fed = 0
    for what, which, number in steps:
        ours, theirs = pairs[which % len(pairs)]
        held = theirs.get_seq_length()
        if what == "feed":
            new = tokens(fed, number)
            fed += number
            feed(ours, *new), feed(theirs, *new)
        elif what == "copy":
            pairs.append((copied(ours), copied(theirs)))
        elif what == "cut":
            pairs.append((cut(ours, min(number, held)), cut(theirs, min(number, held))))
        elif what == "settle" and held:
            settle(ours)
        elif what == "crop" and held > number:
            ours.crop(-number), theirs.crop(-number)
        for a, b in pairs:
            assert a.get_seq_length() == b.get_seq_length()
            assert a.get_mask_sizes(3) == b.get_mask_sizes(3)
            if b.get_seq_length():
                assert torch.equal(a.keys, b.keys)
                assert torch.equal(a.values, b.values)


def test_a_token_is_written_behind_the_others_and_nothing_moves():
    layer = feed(empty(100), *tokens(0, 90))
    where = layer.keys.data_ptr()
    for i in range(90, 100):
        assert feed(layer, *tokens(i, 1)).keys.data_ptr() == where
    moved = feed(layer, *tokens(100, 1)).keys.data_ptr()  # the room is full: one move, and new room
    assert moved != where
    for i in range(101, 101 + STEP - 1):
        assert feed(layer, *tokens(i, 1)).keys.data_ptr() == moved


def test_what_was_cut_to_a_part_lets_go_of_the_rest():
    layer = feed(empty(1050), *tokens(0, 1000))
    row = 2 * HEADS * WIDTH * 4  # bytes of a token
    assert sum(settle(layer).values()) == 1050 * row
    part = cut(layer, 100)
    assert sum(settle(part).values()) == 100 * row


def test_only_layers_that_keep_every_token_grow():
    config = LlamaConfig(num_hidden_layers=2, sliding_window=8, layer_types=["full_attention", "sliding_attention"])
    cache = new_cache(config)
    expect(cache, 300)
    full, sliding = cache.layers
    assert full.expected == 300
    assert (type(full), type(sliding)) == (growing_layer(), DynamicSlidingWindowLayer)
    assert kind(full) == "DynamicLayer"  # to be stored like one


def test_what_is_kept_holds_no_more_than_it_tells():
    """A finished state goes to a cache with its room: where that is large it is given up, the buffers with it."""
    layer = feed(empty(1000), *tokens(0, 10))
    told = settle(layer)
    reachable = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors_of(layer)}
    assert reachable == told
    assert sum(told.values()) == 10 * 2 * HEADS * WIDTH * 4


def _tensors_of(layer):
    held = [*vars(layer).values()]
    return [t for each in held for t in (each if isinstance(each, tuple) else (each,)) if isinstance(t, torch.Tensor)]


def test_what_another_put_in_the_place_of_the_keys_is_what_grows():
    """transformers' own beam search and batch calls replace keys and values."""
    ours, theirs = (feed(layer, *tokens(0, 3)) for layer in (empty(50), DynamicLayer()))
    for layer in (ours, theirs):
        layer.keys, layer.values = layer.keys.flip(1) + 100, layer.values.flip(1) - 100
        feed(layer, *tokens(3, 1))
    assert torch.equal(ours.keys, theirs.keys)
    assert torch.equal(ours.values, theirs.values)
    for layer in (ours, theirs):
        layer.batch_repeat_interleave(2)
        layer.update(*(t.repeat(2, 1, 1, 1) for t in tokens(4, 1)))
    assert torch.equal(ours.keys, theirs.keys)


def test_it_is_fed_inside_inference_mode_and_outside():
    layer = empty(50)
    with torch.inference_mode():
        feed(layer, *tokens(0, 3))
    feed(layer, *tokens(3, 1))
    assert layer.keys[0, 0, :, 0].tolist() == [0, 1, 2, 3]
