"""Packed attention gives what transformers' own does, up to rounding, and is taken only where it can be."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mlxnb.backends import torch_attention
from mlxnb.backends.torch_attention import NAME, _theirs, packed, take_packed

MODULE = SimpleNamespace(is_causal=True, num_key_value_groups=2, training=False)


@settings(max_examples=60)
@given(
    batch=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    length=st.sampled_from([1, 1, 1, 2, 7]),
    past=st.integers(0, 300),
    width=st.sampled_from([8, 24, 64]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    scale=st.sampled_from([None, 0.3]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_gives_what_transformers_own_does(batch, kv_heads, group, length, past, width, dtype, scale, masked, seed):
    torch.manual_seed(seed)
    query = torch.randn(batch, kv_heads * group, length, width).to(dtype)
    key, value = (torch.randn(batch, kv_heads, past + length, width).to(dtype) for _ in range(2))
    module = SimpleNamespace(is_causal=True, num_key_value_groups=group)
    mask = None
    if length > 1:
        mask = torch.ones(length, past + length, dtype=torch.bool).tril(past)[None, None].expand(batch, -1, -1, -1)
    elif masked:  # rows of unlike length, as in a batch
        seen = torch.arange(past + 1) <= torch.randint(0, past + 1, (batch, 1))
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(dtype).min).to(dtype)[:, None, None]
    ours, weights = packed(module, query, key, value, mask, scaling=scale, dropout=0.0)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=scale, dropout=0.0)
    assert weights is None
    assert ours.shape == theirs.shape == (batch, length, kv_heads * group, width)
    exact, _ = sdpa_attention_forward(module, *(t.double() for t in (query, key, value)), _double(mask), scaling=scale)
    # Both round their result; float32 sums differ by far less than that in bfloat16.
    bound = 4 * torch.finfo(dtype).eps * value.abs().max().item()
    assert (ours - exact).abs().max() <= bound
    assert (theirs - exact).abs().max() <= bound


def _double(mask):
    return mask if mask is None or mask.dtype == torch.bool else mask.double()


def test_a_mask_for_each_head_or_a_bias_goes_to_transformers_own():
    query, key = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 5, 8)
    mask = torch.tensor([True, False, True, True, True])[None, None, None]
    bias = torch.randn(1, 4, 1, 5)
    each = mask.expand(1, 4, 1, 5)
    for given_mask, options in ((each, {}), (mask, {"position_bias": bias}), (None, {"position_bias": bias})):
        ours = packed(MODULE, query, key, key, given_mask, **options)[0]
        assert torch.equal(ours, sdpa_attention_forward(MODULE, query, key, key, given_mask, **options)[0])


def _apart(query, key):
    return 1.01 * _theirs(query, key)


def model():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 50}
    return AutoModelForCausalLM.from_config(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes))


def test_it_is_taken_where_it_is_faster_and_equal(monkeypatch):
    monkeypatch.setattr(torch_attention, "FASTER", 0.0)
    made = model()
    assert take_packed(made)
    assert made.config._attn_implementation == NAME
    ids = torch.randint(0, 50, (1, 9))
    with torch.inference_mode():
        ours = made(ids).logits
        made.set_attn_implementation("sdpa")
        assert torch.allclose(ours, made(ids).logits, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made, patch: patch.setattr(torch_attention, "FASTER", 1e9), "of the speed of torch's own"),
        (
            lambda made, patch: patch.setattr(torch_attention, "_ours", _apart),
            "results differ",
        ),
        (lambda made, patch: setattr(made.config, "num_key_value_heads", 4), "no query heads share"),
        (lambda made, patch: made.set_attn_implementation("eager"), "does not attend through torch's kernel"),
    ],
)
def test_it_is_left_with_a_reason(monkeypatch, change, reason):
    made = model()
    change(made, monkeypatch)
    before = made.config._attn_implementation
    verdict = take_packed(made)
    assert not verdict
    assert reason in verdict.reason
    assert made.config._attn_implementation == before
