"""What is particular to states of the mlx backend: their memory, and which classes of caches are known."""

import pytest

from mlxnb.decision import Rejected

mx = pytest.importorskip("mlx.core")


def test_a_count_that_only_looks_like_a_number_is_refused(fed):
    states = fed("mlx", "pocket").states
    arrays, meta = states.arrays(fed("mlx", "pocket").prefill([7]))
    states.state(arrays, meta)
    with pytest.raises(ValueError, match="counts"):
        states.state(arrays, {"layers": meta["layers"].replace('"offset": 1', '"offset": true')})


def test_a_copy_shares_memory_until_it_is_fed(fed):
    model = fed("mlx", "pocket")
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
    model = fed("mlx", name)
    model.states.nbytes(model.prefill([1], [1]))  # whatever is allocated once
    mx.synchronize()
    before = mx.get_active_memory()
    state = model.prefill(list(range(20, 420)), [400])
    if name.startswith("pocket"):
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
