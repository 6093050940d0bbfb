"""Linear layers done as one: what each part gives, in any order of calls, and which layers of a model are joined."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from mlxnb.backends import torch_quantize
from mlxnb.backends.torch_int4 import GROUP, Int4Linear
from mlxnb.backends.torch_int8 import Int8Linear
from mlxnb.backends.torch_joined import Joined, Part, join

LAYERS = {"int8": Int8Linear, "int4": Int4Linear}


@st.composite
def cases(draw):
    """Two or three linear layers of one input width, and rows of inputs."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    inputs, bias = GROUP * draw(st.integers(1, 4)), draw(st.booleans())
    outputs = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    linears = [torch.nn.Linear(inputs, 16 * n, bias=bias).to(dtype).requires_grad_(False) for n in outputs]
    return linears, torch.randn(1, draw(st.integers(1, 40)), inputs).to(dtype)


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=40)
@given(case=cases(), data=st.data())
def test_parts_are_the_layers_to_the_bit_in_any_order_of_calls(kind, case, data):
    linears, x = case
    alone = [LAYERS[kind](linear) for linear in linears]
    parts = Joined(LAYERS[kind](join(linears)), [linear.out_features for linear in linears]).parts()
    inputs = [x, x.clone(), -x]
    picks = st.tuples(st.integers(0, len(parts) - 1), st.integers(0, len(inputs) - 1))
    for part, given_input in data.draw(st.lists(picks, min_size=1, max_size=8)):
        got = parts[part](inputs[given_input])
        assert torch.equal(got, alone[part](inputs[given_input]))
        assert got.is_contiguous()


def test_the_first_part_works_out_all_and_nothing_is_held_after_the_last():
    linears = [torch.nn.Linear(32, 16).requires_grad_(False) for _ in range(3)]
    layer, calls = Int8Linear(join(linears)), []
    layer.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    parts = Joined(layer, [16] * 3).parts()
    x = torch.randn(2, 32)
    for part in (parts[1], parts[0], parts[2]):
        part(x)
    assert len(calls) == 1
    joined = parts[0].joined
    assert (joined._input, joined._waiting) == (None, [None] * 3)
    parts[2](x)
    assert len(calls) == 2


def test_a_layer_that_fails_leaves_nothing_of_another_input():
    linears = [torch.nn.Linear(32, 16).requires_grad_(False) for _ in range(2)]
    parts = Joined(Int8Linear(join(linears)), [16] * 2).parts()
    good, bad = torch.randn(2, 32), torch.randn(2, 31)
    parts[0](good)
    with pytest.raises(RuntimeError):
        parts[1](bad)
    assert torch.equal(parts[1](good), Int8Linear(linears[1])(good))


def llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=128, **shape, **changes)).eval().requires_grad_(False)


def joined_names(model):
    return {name for name, module in model.named_modules() if isinstance(module, Part)}


PROJECTIONS = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_model_answers_to_the_bit_as_with_each_layer_alone(kind, monkeypatch):
    ids = torch.arange(12)[None]
    joined, alone = llama(attention_bias=True), llama(attention_bias=True)
    assert torch_quantize.quantise(joined, kind)
    monkeypatch.setattr("mlxnb.backends.torch_siblings.SIBLINGS", ())
    assert torch_quantize.quantise(alone, kind)
    assert joined_names(joined) == {f"model.layers.{i}.{name}" for i in range(2) for name in PROJECTIONS}
    assert joined_names(alone) == set()
    assert torch.equal(joined(ids).logits, alone(ids).logits)
    sizes = [sum(buffer.nbytes for buffer in model.buffers()) for model in (joined, alone)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.001)  # what stands in three places is counted once


def test_siblings_that_are_given_different_tensors_stay_apart():
    """As where keys and values are of other states than queries."""
    model = llama()
    for layer in model.model.layers:
        for projection in (layer.self_attn.v_proj, layer.mlp.gate_proj):
            projection.register_forward_pre_hook(lambda module, given: (given[0].clone(),))
    assert torch_quantize.quantise(model, "int8")
    assert joined_names(model) == set()


def test_siblings_of_which_one_is_never_called_stay_apart():
    """As where a layer attends to the keys and values of an earlier one."""
    model = llama()
    unused = model.model.layers[1].mlp
    unused.forward = lambda x: unused.down_proj(unused.act_fn(unused.gate_proj(x)))
    assert torch_quantize.quantise(model, "int8")
    assert joined_names(model) == {f"model.layers.{i}.{x}" for i in range(2) for x in PROJECTIONS} - {
        "model.layers.1.mlp.gate_proj",
        "model.layers.1.mlp.up_proj",
    }


def test_siblings_that_are_quantised_otherwise_stay_apart():
    """64 inputs are groups of 32 for int4; 40 outputs of the key head are not rows of 16 for its kernel."""
    model = llama(num_key_value_heads=1, head_dim=40)
    assert torch_quantize.quantise(model, "int4")
    assert {name.rpartition(".")[2] for name in joined_names(model)} == {"gate_proj", "up_proj"}
