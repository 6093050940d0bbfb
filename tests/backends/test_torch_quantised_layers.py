"""The quantised linear layers for torch: how far off they may be, and that a row's result is its own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from mlxnb.backends import torch_int4, torch_int8
from mlxnb.backends.torch_int4 import GROUP, Int4Linear
from mlxnb.backends.torch_int8 import LEVELS, Int8Linear

LAYERS = {"int8": Int8Linear, "int4": Int4Linear}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@st.composite
def cases(draw):
    """A linear layer that both kinds take, and rows of inputs for it, some of them all zero."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from(DTYPES))
    inputs, outputs = GROUP * draw(st.integers(1, 6)), 16 * draw(st.integers(1, 9))
    linear = torch.nn.Linear(inputs, outputs, bias=draw(st.booleans())).to(dtype).requires_grad_(False)
    x = torch.randn(draw(st.integers(1, 70)), inputs) * 10.0 ** draw(st.integers(-2, 2))
    x[draw(st.integers(0, len(x) - 1))] *= draw(st.sampled_from([0.0, 1.0]))
    return linear, x.to(dtype)


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=60)
@given(case=cases(), data=st.data())
def test_a_row_comes_out_the_same_to_the_bit_whatever_is_beside_it(kind, case, data):
    linear, x = case
    layer = LAYERS[kind](linear)
    together = layer(x)
    start = data.draw(st.integers(0, len(x) - 1))
    end = data.draw(st.integers(start + 1, len(x)))
    assert torch.equal(layer(x[start:end]), together[start:end])
    assert torch.equal(layer(x[None, start:end]), together[None, start:end])


@settings(max_examples=60)
@given(case=cases())
def test_int8_is_off_by_no_more_than_the_two_roundings(case):
    """Half a step of the weight for each input, half a step of the input for each weight, and their product."""
    linear, x = case
    layer, exact = Int8Linear(linear), torch.nn.functional.linear(x.double(), linear.weight.double())
    exact = exact if linear.bias is None else exact + linear.bias.double()
    steps_w = linear.weight.double().abs().amax(1) / LEVELS / 2
    steps_x = x.double().abs().amax(1, keepdim=True) / LEVELS / 2
    off = x.double().abs().sum(1, keepdim=True) * steps_w + steps_x * linear.weight.double().abs().sum(1)
    bound = 1.001 * (off + linear.in_features * steps_w * steps_x) + exact.abs() * torch.finfo(x.dtype).eps + 1e-6
    assert bool(((layer(x).double() - exact).abs() <= bound).all())


@settings(max_examples=60)
@given(case=cases())
def test_int4_weights_are_off_by_half_a_step_and_what_bfloat16_rounds(case):
    """A scale and a zero in bfloat16 have 8 bits: 15 steps may miss an end by 15 / 2^9 of one, a zero by 2^-9."""
    linear, _ = case
    numbers, scale, zero = torch_int4.quantise(linear.weight)
    assert (int(numbers.min()), int(numbers.max())) <= (0, 15)
    steps, zeros = (part.double().repeat_interleave(GROUP, 1) for part in (scale, zero))
    rounded = (numbers.double() - 8) * steps + zeros
    bound = steps * (0.5 + 15 / 2**9 + 8 / 2**9) + zeros.abs() / 2**8 + 1e-7
    assert bool(((rounded - linear.weight.double()).abs() <= bound).all())


@settings(max_examples=60)
@given(case=cases())
def test_int4_multiplies_by_the_weights_that_it_rounded_to(case):
    """Inputs and results are rounded to bfloat16: 2^-8 of each product at most, and of the result."""
    linear, x = case
    numbers, scale, zero = torch_int4.quantise(linear.weight)
    steps, zeros = (part.double().repeat_interleave(GROUP, 1) for part in (scale, zero))
    weight = (numbers.double() - 8) * steps + zeros
    exact = torch.nn.functional.linear(x.double(), weight)
    bias = 0 if linear.bias is None else linear.bias.double()
    bound = (x.double().abs() @ weight.abs().t() + exact.abs() + (exact + bias).abs()) / 2**7 + 1e-6
    assert bool(((Int4Linear(linear)(x).double() - (exact + bias)).abs() <= bound).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_of_zeros_and_a_row_of_zeros_give_the_bias(kind, dtype):
    linear = torch.nn.Linear(64, 32).to(dtype).requires_grad_(False)
    zeros = torch.zeros(2, 64, dtype=dtype)
    assert torch.equal(LAYERS[kind](linear)(zeros), linear.bias.expand(2, 32))
    linear.weight.zero_()
    assert torch.allclose(LAYERS[kind](linear)(torch.randn(2, 64).to(dtype)), linear.bias.expand(2, 32), atol=1e-5)


def test_int8_weights_in_parts_are_those_of_the_whole(monkeypatch):
    linear = torch.nn.Linear(32, 100).requires_grad_(False)
    whole = Int8Linear(linear)
    monkeypatch.setattr(torch_int8, "ROWS_AT_ONCE", 7)
    parts = Int8Linear(linear)
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), parts.buffers(), strict=True))


def test_making_one_leaves_the_full_weights_alone():
    """A tied embedding reads on in them."""
    for layer in LAYERS.values():
        linear = torch.nn.Linear(64, 32)
        before = linear.weight.clone()
        layer(linear)
        assert torch.equal(linear.weight, before)


@pytest.mark.parametrize("rows", [1, 3, 16, 17, 40])
def test_padding_the_rows_that_cuda_asks_for_changes_nothing(rows):
    linear, x = torch.nn.Linear(64, 32).requires_grad_(False), torch.randn(rows, 64)
    layer = Int8Linear(linear)
    plain = layer(x)
    layer._least_rows = torch_int8.CUDA_ROWS
    assert torch.equal(layer(x), plain)


def test_int4_says_which_shapes_it_takes():
    takes = torch_int4.takes
    assert takes(torch.nn.Linear(64, 32))
    assert not takes(torch.nn.Linear(48, 32))
    assert not takes(torch.nn.Linear(64, 40))
    assert not takes(torch.nn.Linear(64, 32, device="meta"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [32, 96, 256, 1024, 3072])
def test_the_trial_accepts_a_layer_of_any_width(width, dtype):
    from mlxnb.backends import torch_quantize

    torch.manual_seed(width)
    linear = torch.nn.Linear(width, 64).to(dtype).requires_grad_(False)
    assert [torch_quantize._trial(linear, kind) for kind in LAYERS] == [None, None]
    rows = torch_quantize._inputs(width).abs()
    largest, usual = rows.amax(1), rows.median(1).values
    assert largest[1:].tolist() == [20, 50]
    assert bool((usual < 1).all())


def test_the_trial_sees_what_only_a_few_large_inputs_show(monkeypatch):
    from mlxnb.backends import torch_quantize

    linear = torch.nn.Linear(512, 64).requires_grad_(False)
    monkeypatch.setattr(torch_quantize, "_layer_class", lambda kind: lambda full: lambda x: full(x.clamp(-8, 8)))
    assert "off the full precision" in torch_quantize._trial(linear, "int8")
