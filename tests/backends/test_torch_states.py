"""What is particular to states of the torch backend: their memory, and which classes of layers are known."""

import pytest

from mlxnb.decision import Rejected

pytest.importorskip("torch")


def test_a_copy_shares_what_is_never_written_to(fed):
    model = fed("torch", "qwen3-next")
    state = model.prefill(list(range(20, 60)), [40])
    linear, full = model.states.copy(state).layers[:2]
    assert full.keys.data_ptr() == state.layers[1].keys.data_ptr()
    assert linear.conv_states[0].data_ptr() != state.layers[0].conv_states[0].data_ptr()
    assert linear.recurrent_states[0].data_ptr() != state.layers[0].recurrent_states[0].data_ptr()


def test_nbytes_is_what_a_state_keeps_alive(fed):
    """A state cut from a long one lets go of it."""
    model = fed("torch", "pocket")
    state = model.prefill(list(range(20, 420)), [400])
    part = model.states.trim(state, 30)
    assert part.layers[0].keys.data_ptr() == state.layers[0].keys.data_ptr()  # cutting moves nothing
    assert model.states.nbytes(part) * 400 == model.states.nbytes(state) * 30
    held = {t.untyped_storage().nbytes() for layer in part.layers for t in (layer.keys, layer.values)}
    assert held == {part.layers[0].keys.nbytes}


def test_a_window_lets_go_of_the_piece_it_came_from(fed):
    model = fed("torch", "mistral-window")
    state = model.prefill(list(range(20, 420)), [400])
    before = state.layers[0].keys.untyped_storage().nbytes()
    said = model.states.nbytes(state)
    layer = state.layers[0]
    assert said == sum(t.untyped_storage().nbytes() for each in state.layers for t in (each.keys, each.values))
    assert layer.keys.untyped_storage().nbytes() * 400 == before * 11
    assert model.greedy(state, [9, 8]) == model.greedy(model.prefill(list(range(20, 420)), [400]), [9, 8])


def test_a_class_that_is_not_known_is_not_reused(fed, monkeypatch):
    from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, DynamicLayer

    class Other(DynamicLayer):
        pass

    monkeypatch.setitem(DYNAMIC_LAYER_TYPE_MAPPING, "full_attention", Other)
    refused = fed("torch", "pocket").states.reusable()
    assert isinstance(refused, Rejected)
    assert "Other" in refused.reason
    with pytest.raises(ValueError, match="Other"):
        fed("torch", "pocket").states.arrays(fed("torch", "pocket").fresh())


def test_a_model_that_keeps_its_state_in_its_modules_is_not_reused(fed):
    refused = fed("torch", "recurrent-gemma").states.reusable()
    assert isinstance(refused, Rejected)
    assert "keep nothing in the cache" in refused.reason
