"""States of the mlx backend, copied, cut, stored and restored, go on as a fresh prefill of the same tokens does."""

from functools import cache

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.decision import Rejected
from mlxnb.models import ModelSource
from tests.backends.fed import Examples, Fed, bits, check_copies, check_cut, check_empty, damaged
from tests.backends.hybrids import make_hybrid

mx = pytest.importorskip("mlx.core")
pytest.importorskip("torch")  # makes the tiny checkpoints

PLAIN = ["pocket", "pocket-8", "pocket-4", "deepseek-v3"]
SLIDING = ["mistral-window", "gemma3"]
RECURRENT = ["qwen3-next", "falcon-h1"]


class MlxFed(Fed):
    def __init__(self, model, bits=None):
        from mlxnb.backends.mlx_states import MlxStates

        self.model, self.bits = model, bits
        self.states = MlxStates(model.model)

    def fresh(self):
        return self.model.new_cache(self.bits)

    def feed(self, state, tokens):
        logits = self.model.model(mx.array([list(tokens)]), cache=state)[0, -1]
        return int(logits.argmax().item())

    def seen(self, state):
        from mlxnb.backends.mlx_layers import leaves

        return [np.array(array.astype(mx.float32)) for cache in leaves(state) for array in _seen(cache)]


def _seen(cache):
    from mlx_lm.models.cache import ArraysCache, QuantizedKVCache, RotatingKVCache

    if isinstance(cache, ArraysCache):
        return cache.cache
    if isinstance(cache, RotatingKVCache):
        last = min(cache.offset, cache.max_size)
        return [cache._temporal_order(side)[..., -last:, :] for side in (cache.keys, cache.values)]
    sides = cache.keys_and_values()
    if isinstance(cache, QuantizedKVCache):
        return [mx.dequantize(*side, group_size=cache.group_size, bits=cache.bits) for side in sides]
    # Rows that are not in use must not show.
    return [side[..., : cache.offset, :] for side in sides]


@pytest.fixture(scope="module")
def fed(checkpoint, tmp_path_factory):
    from mlxnb.backends.mlx import MlxBackend

    @cache
    def load(name):
        if name.startswith("pocket"):
            path = mlxnb.pocket.path()
        elif name in RECURRENT:
            path = make_hybrid(name, tmp_path_factory.mktemp(name))
        else:
            path = checkpoint(name)
        kv_bits = int(name[-1]) if name in ("pocket-8", "pocket-4") else None
        made = MlxFed(MlxBackend().load(ModelSource(name, path, "path"), dtype="float32"), kv_bits)
        made.window = 12 if name in SLIDING else None
        made.recurrent = name in RECURRENT
        return made

    return load


# Pieces of other lengths are computed in another order; a code of a quantised cache may then be the next one.
TOLERANCE = {"pocket-8": 0.1, "pocket-4": 1.5}


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
@settings(max_examples=15)
@given(data=st.data(), tokens=Examples.tokens, pieces=Examples.pieces, more=Examples.more)
def test_a_cut_state_is_that_of_a_fresh_prefill(fed, name, data, tokens, pieces, more):
    model = fed(name)
    length = data.draw(st.integers(1, len(tokens)))
    was_cut = check_cut(model, tokens, pieces, more, length, TOLERANCE.get(name, 2e-5))
    event(f"cut: {was_cut}")
    if length == len(tokens) or not (model.window or model.recurrent):
        assert was_cut
    elif model.recurrent:
        assert not was_cut
    elif len(tokens) <= model.window:
        assert was_cut  # the window has not moved on


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
@settings(max_examples=8)
@given(tokens=Examples.tokens, pieces=Examples.pieces, more=Examples.more, other=Examples.more)
def test_copies_never_change_one_another(fed, name, tokens, pieces, more, other):
    check_copies(fed(name), tokens, pieces, more, other)


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
def test_an_empty_state_stays_one(fed, name):
    check_empty(fed(name))


@pytest.mark.parametrize("name", ["pocket", "pocket-8", "gemma3", "falcon-h1"])
def test_what_was_damaged_is_refused(fed, name):
    states = fed(name).states
    stored = states.arrays(fed(name).prefill(list(range(20, 40)), [20]))
    states.state(*stored)
    for what, (arrays, meta) in damaged(stored).items():
        with pytest.raises((ValueError, KeyError, TypeError)):
            pytest.fail(f"{what}: {states.state(arrays, meta)}")


def test_a_count_that_only_looks_like_a_number_is_refused(fed):
    states = fed("pocket").states
    arrays, meta = states.arrays(fed("pocket").prefill([7]))
    states.state(arrays, meta)
    with pytest.raises(ValueError, match="counts"):
        states.state(arrays, {"layers": meta["layers"].replace('"offset": 1', '"offset": true')})


@pytest.mark.parametrize("name", ["pocket", "gemma3"])
def test_a_state_of_another_model_is_refused(fed, name):
    for other in set(PLAIN + SLIDING + RECURRENT) - {name, "pocket-8", "pocket-4"}:
        stored = fed(other).states.arrays(fed(other).prefill([7, 8, 9], [3]))
        with pytest.raises(ValueError):
            fed(name).states.state(*stored)


def test_bfloat16_comes_back_bit_for_bit():
    from mlxnb.backends.mlx import MlxBackend

    model = MlxFed(MlxBackend().load(ModelSource("pocket", mlxnb.pocket.path(), "pocket"), dtype="bfloat16"))
    tokens = list(range(30, 60))
    state = model.prefill(tokens, [30])
    arrays, meta = stored = model.states.arrays(state)
    assert {array.dtype for array in arrays.values()} == {"BF16"}
    assert {array.shape[2] for array in arrays.values()} == {30}  # and not the 256 rows of the buffer
    assert bits(model.states.arrays(model.states.state(arrays, meta))) == bits(stored)
    assert model.greedy(model.states.state(arrays, meta), [70, 71]) == model.greedy(state, [70, 71])


def test_a_copy_shares_memory_until_it_is_fed(fed):
    model = fed("pocket")
    state = model.prefill(list(range(20, 220)), [200])
    size = model.states.nbytes(state)
    before = mx.get_active_memory()
    copies = [model.states.copy(state) for _ in range(10)]
    mx.eval([side for made in copies for cache in made for side in (cache.keys, cache.values)])
    assert mx.get_active_memory() - before < size / 10
    model.feed(copies[0], [5])
    assert size * 0.9 < mx.get_active_memory() - before < size * 1.5


@pytest.mark.parametrize("name", ["pocket", "pocket-8", "mistral-window", "falcon-h1"])
def test_nbytes_is_what_a_state_keeps_alive(fed, name):
    """A state cut from a long one lets go of it; one whose window follows a long piece lets go of the piece's rest."""
    model = fed(name)
    model.states.nbytes(model.prefill([1], [1]))  # whatever is allocated once
    mx.synchronize()
    before = mx.get_active_memory()
    state = model.prefill(list(range(20, 420)), [400])
    if not (model.window or model.recurrent):
        state = model.states.trim(state, 30)
    said = model.states.nbytes(state)
    mx.synchronize()
    alive = mx.get_active_memory() - before
    assert said <= alive < said * 1.1 + 30_000
    assert model.states.nbytes(model.states.copy(state)) == said


def test_a_class_that_is_not_known_is_not_reused(fed):
    from mlx_lm.models.cache import KVCache

    class Other(KVCache):
        pass

    class Model:
        def make_cache(self):
            return [KVCache(), Other()]

    from mlxnb.backends.mlx_states import MlxStates

    refused = MlxStates(Model()).reusable()
    assert isinstance(refused, Rejected)
    assert "Other" in refused.reason
    with pytest.raises(ValueError, match="Other"):
        MlxStates(Model()).arrays([Other()])


def test_what_can_be_reused_is_said(fed):
    said = {name: fed(name).states.reusable() for name in ("pocket", "gemma3", "qwen3-next")}
    assert all(said.values())
    assert "any part" in said["pocket"].reason
    assert "sliding window" in said["gemma3"].reason
    assert "recurrent" in said["qwen3-next"].reason
    assert [name for name in said if fed(name).states.cuttable] == ["pocket"]
