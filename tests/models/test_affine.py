"""Affine quantisation in torch against MLX's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlxnb.models.affine import BITS, GROUPS, dequantise, quantise

mx = pytest.importorskip("mlx.core")
torch = pytest.importorskip("torch")

WEIGHTS = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([128, 256])),
    elements=st.floats(-8, 8, width=16) | st.sampled_from([0.0, -0.0, 1e-9, 3.0]),
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@settings(max_examples=40)
@given(weights=WEIGHTS, bits=st.sampled_from(BITS), group=st.sampled_from(GROUPS))
def test_the_words_scales_and_biases_are_mlx_s(dtype, weights, bits, group):
    ours = quantise(torch.from_numpy(weights).to(getattr(torch, dtype)), group, bits)
    theirs = mx.quantize(mx.array(weights).astype(getattr(mx, dtype)), group_size=group, bits=bits)
    assert np.array_equal(ours[0].view(torch.int32).numpy().view(np.uint32), np.array(theirs[0]))
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert str(a.dtype).removeprefix("torch.") == dtype
        assert np.array_equal(a.float().numpy(), np.array(b.astype(mx.float32)), equal_nan=True)


@settings(max_examples=40)
@given(weights=WEIGHTS, bits=st.sampled_from(BITS), group=st.sampled_from(GROUPS))
def test_float32_is_unpacked_as_mlx_does(weights, bits, group):
    packed, scales, biases = quantise(torch.from_numpy(weights), group, bits)
    whole = dequantise(packed, scales, biases, bits, torch.float32)
    words = mx.array(packed.view(torch.int32).numpy().view(np.uint32))
    theirs = mx.dequantize(words, mx.array(scales.numpy()), mx.array(biases.numpy()), group_size=group, bits=bits)
    assert np.allclose(whole.numpy(), np.array(theirs), rtol=0, atol=1e-6)
    # Half a step of each group, and what rounding the edge to a whole step moves.
    steps = scales.abs().repeat_interleave(group, dim=-1)
    assert bool(((whole - torch.from_numpy(weights)).abs() <= steps * 1.01 + 1e-6).all())


def test_half_precision_is_rounded_once():
    """MLX rounds the product and then the sum; ours is never further from the exact value."""
    torch.manual_seed(0)
    packed, scales, biases = quantise(torch.randn(64, 256).bfloat16(), 64, 4)
    exact = dequantise(packed, scales, biases, 4, torch.float32)
    ours = dequantise(packed, scales, biases, 4, torch.bfloat16).float()
    half = (scales.float(), biases.float())
    words = mx.array(packed.view(torch.int32).numpy().view(np.uint32))
    theirs = mx.dequantize(words, *(mx.array(t.numpy()).astype(mx.bfloat16) for t in half), group_size=64, bits=4)
    theirs = torch.from_numpy(np.array(theirs.astype(mx.float32)))
    assert bool(((ours - exact).abs() <= (theirs - exact).abs()).all())
    assert float((ours - exact).abs().max()) < float((theirs - exact).abs().max())


def test_a_large_weight_is_worked_on_in_parts(monkeypatch):
    weights = torch.randn(37, 128)
    whole = quantise(weights, 32, 3)
    monkeypatch.setattr("mlxnb.models.affine.AT_ONCE", 512)
    parts = quantise(weights, 32, 3)
    assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(whole, parts, strict=True))
    assert torch.equal(dequantise(*whole, 3, torch.float32), dequantise(*parts, 3, torch.float32))
