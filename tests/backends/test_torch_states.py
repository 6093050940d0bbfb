"""States of the torch backend, copied, cut, stored and restored, go on as a fresh prefill of the same tokens does."""

from functools import cache

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.decision import Rejected
from mlxnb.models import ModelSource
from tests.backends.fed import Examples, Fed, bits, check_copies, check_cut, check_empty, damaged
from tests.backends.hybrids import HYBRIDS, make_hybrid

torch = pytest.importorskip("torch")

PLAIN = ["pocket", "deepseek-v3"]
SLIDING = ["mistral-window", "gemma3"]
RECURRENT = ["qwen3-next", "falcon-h1", "lfm2"]


class TorchFed(Fed):
    def __init__(self, model):
        from mlxnb.backends.torch_states import TorchStates

        self.model = model.model
        self.states = TorchStates(self.model)

    def fresh(self):
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def feed(self, state, tokens):
        with torch.inference_mode():
            ids = torch.tensor([list(tokens)])
            out = self.model(input_ids=ids, past_key_values=state, use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())

    def seen(self, state):
        from mlxnb.backends.torch_layers import tensors

        return [tensor.float().numpy() for layer in state.layers for tensor in tensors(layer).values()]


@pytest.fixture(scope="module")
def fed(checkpoint, tmp_path_factory):
    from mlxnb.backends.torch import TorchBackend

    @cache
    def load(name):
        if name == "pocket":
            path = mlxnb.pocket.path()
        elif name in HYBRIDS:
            path = make_hybrid(name, tmp_path_factory.mktemp(name))
        else:
            path = checkpoint(name)
        made = TorchFed(TorchBackend().load(ModelSource(name, path, "path"), dtype="float32"))
        torch.set_num_threads(1)  # two threads on busy cores wait for one another
        made.window = 12 if name in SLIDING else None
        made.recurrent = name in RECURRENT
        return made

    before = torch.get_num_threads()
    yield load
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
@settings(max_examples=15)
@given(data=st.data(), tokens=Examples.tokens, pieces=Examples.pieces, more=Examples.more)
def test_a_cut_state_is_that_of_a_fresh_prefill(fed, name, data, tokens, pieces, more):
    model = fed(name)
    length = data.draw(st.integers(1, len(tokens)))
    was_cut = check_cut(model, tokens, pieces, more, length, tolerance=2e-5)
    event(f"cut: {was_cut}")
    if length == len(tokens) or not (model.window or model.recurrent):
        assert was_cut
    elif model.recurrent:
        assert not was_cut
    else:
        assert was_cut == (len(tokens) < model.window)  # whether the window has moved on


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
@settings(max_examples=8)
@given(tokens=Examples.tokens, pieces=Examples.pieces, more=Examples.more, other=Examples.more)
def test_copies_never_change_one_another(fed, name, tokens, pieces, more, other):
    check_copies(fed(name), tokens, pieces, more, other)


@pytest.mark.parametrize("name", PLAIN + SLIDING + RECURRENT)
def test_an_empty_state_stays_one(fed, name):
    check_empty(fed(name))


@pytest.mark.parametrize("name", ["pocket", "gemma3", "falcon-h1", "lfm2"])
def test_what_was_damaged_is_refused(fed, name):
    states = fed(name).states
    stored = states.arrays(fed(name).prefill(list(range(20, 40)), [20]))
    states.state(*stored)
    for what, (arrays, meta) in damaged(stored).items():
        with pytest.raises((ValueError, KeyError, TypeError)):
            pytest.fail(f"{what}: {states.state(arrays, meta)}")


@pytest.mark.parametrize("name", ["pocket", "gemma3", "lfm2"])
def test_a_state_of_another_model_is_refused(fed, name):
    for other in set(PLAIN + SLIDING + RECURRENT) - {name}:
        stored = fed(other).states.arrays(fed(other).prefill([7, 8, 9], [3]))
        with pytest.raises(ValueError):
            fed(name).states.state(*stored)


def test_bfloat16_comes_back_bit_for_bit():
    from mlxnb.backends.torch import TorchBackend

    source = ModelSource("pocket", mlxnb.pocket.path(), "pocket")
    model = TorchFed(TorchBackend().load(source, dtype="bfloat16"))
    state = model.prefill(list(range(30, 60)), [30])
    arrays, meta = stored = model.states.arrays(state)
    assert {array.dtype for array in arrays.values()} == {"BF16"}
    assert bits(model.states.arrays(model.states.state(arrays, meta))) == bits(stored)
    assert model.greedy(model.states.state(arrays, meta), [70, 71]) == model.greedy(state, [70, 71])


def test_a_copy_shares_what_is_never_written_to(fed):
    model = fed("qwen3-next")
    state = model.prefill(list(range(20, 60)), [40])
    linear, full = model.states.copy(state).layers[:2]
    assert full.keys.data_ptr() == state.layers[1].keys.data_ptr()
    assert linear.conv_states[0].data_ptr() != state.layers[0].conv_states[0].data_ptr()
    assert linear.recurrent_states[0].data_ptr() != state.layers[0].recurrent_states[0].data_ptr()


def test_nbytes_is_what_a_state_keeps_alive(fed):
    """A state cut from a long one lets go of it."""
    model = fed("pocket")
    state = model.prefill(list(range(20, 420)), [400])
    part = model.states.trim(state, 30)
    assert part.layers[0].keys.data_ptr() == state.layers[0].keys.data_ptr()  # cutting moves nothing
    assert model.states.nbytes(part) * 400 == model.states.nbytes(state) * 30
    held = {t.untyped_storage().nbytes() for layer in part.layers for t in (layer.keys, layer.values)}
    assert held == {part.layers[0].keys.nbytes}


def test_a_window_lets_go_of_the_piece_it_came_from(fed):
    model = fed("mistral-window")
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
    refused = fed("pocket").states.reusable()
    assert isinstance(refused, Rejected)
    assert "Other" in refused.reason
    with pytest.raises(ValueError, match="Other"):
        fed("pocket").states.arrays(fed("pocket").fresh())


def test_a_model_that_keeps_its_state_in_its_modules_is_not_reused(fed):
    refused = fed("recurrent-gemma").states.reusable()
    assert isinstance(refused, Rejected)
    assert "keep nothing in the cache" in refused.reason


def test_what_can_be_reused_is_said(fed):
    said = {name: fed(name).states.reusable() for name in ("pocket", "gemma3", "qwen3-next", "lfm2")}
    assert all(said.values())
    assert "any part" in said["pocket"].reason
    assert "sliding window" in said["gemma3"].reason
    assert "recurrent" in said["qwen3-next"].reason
    assert "recurrent" in said["lfm2"].reason
    assert [name for name in said if fed(name).states.cuttable] == ["pocket"]
