"""Attention of one token over grouped heads on a CPU: the queries that share a key head are rows of one product."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..decision import Accepted, Decision, Rejected
from .cpu_time import times_as_fast

NAME = "mlxnb_packed"
KV_LEN, ROUNDS = 512, 5
FASTER = 2.0  # in bfloat16 it is far more, in float32 less: a choice that noise decides would change with each load
SUBJECT = "packed heads"


def packed(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """transformers' sdpa attention; where one token a row attends, under one mask for all heads [B, 1, 1, L] or none,
    query heads [B, H, 1, D] go in as [B, K, H/K, D].

    torch's CPU kernel takes each query head alone otherwise: in bfloat16 over 1,024 tokens, 16 heads of 128 on 8 took
    3.1 ms so, 0.34 ms packed, on one core of an AMD EPYC. The sums are the same, in float32, in another order.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = not any(options.get(name) is not None for name in ("position_bias", "cache"))
    if attention_mask is not None:  # the heads of a group would need a mask each where it is not the same for all
        plain = plain and attention_mask.dim() == 4 and attention_mask.shape[1:3] == (1, 1)
    if not plain or query.shape[2] != 1 or query.shape[1] == key.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    batch, heads, _, width = query.shape
    rows = query.reshape(batch, key.shape[1], heads // key.shape[1], width)
    scale = options.get("scaling")
    made = torch.nn.functional.scaled_dot_product_attention(rows, key, value, attention_mask, scale=scale)
    return made.reshape(batch, heads, 1, value.shape[-1]).transpose(1, 2), None


def take_packed(model: Any) -> Decision:
    """Let a model that was just loaded attend so, where that is measured faster here and gives the same."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    verdict = _worth(model)
    if verdict:
        AttentionInterface.register(NAME, packed)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return verdict


def _worth(model: Any) -> Decision:
    import torch

    config = model.config
    heads, kv_heads = (getattr(config, f"num_{kind}_heads", None) for kind in ("attention", "key_value"))
    if model.device.type != "cpu" or getattr(config, "_attn_implementation", "") != "sdpa":
        return Rejected(SUBJECT, "the model does not attend through torch's kernel for CPUs")
    if not heads or not kv_heads or heads == kv_heads or heads % kv_heads:
        return Rejected(SUBJECT, "no query heads share a key head")
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    with torch.inference_mode():
        same = torch.Generator().manual_seed(0)
        query = torch.randn(1, heads, 1, width, generator=same).to(model.dtype)
        key = torch.randn(1, kv_heads, KV_LEN, width, generator=same).to(model.dtype)
        what = f"{SUBJECT} {heads} {kv_heads} {width} {model.dtype}"
        ratio = times_as_fast(what, partial(_theirs, query, key), partial(_ours, query, key), ROUNDS)
        apart = float((_ours(query, key) - _theirs(query, key)).abs().max())
        if not apart <= torch.finfo(model.dtype).eps * float(key.abs().max()):
            return Rejected(SUBJECT, f"the results differ here by {apart:.2g}")
    if ratio < FASTER:
        return Rejected(SUBJECT, f"measured at {ratio:.2f} of the speed of torch's own grouping")
    return Accepted(SUBJECT, f"measured {ratio:.1f} times as fast as torch's own grouping")


class _Grouped:
    """What sdpa_attention_forward asks of a module."""

    is_causal = True
    num_key_value_groups = 2  # any number but 1


def _ours(query: Any, key: Any) -> Any:
    return packed(_Grouped, query, key, key, None)[0]


def _theirs(query: Any, key: Any) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(_Grouped, query, key, key, None)[0]
