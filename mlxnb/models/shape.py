"""Reads the figures that decide a model's memory and context from its config.json, whatever the family calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .headers import refuse, short

# Where models that also see or hear keep the configuration of their language part.
NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "kv_n_heads", "n_head_kv")
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
           "max_context_length", "model_max_length")  # fmt: skip
NO_ATTENTION = ("mamba", "falcon_mamba", "rwkv")  # A state of fixed size; Mamba 2 calls its parts heads all the same.
# Latent attention that mlx-lm 0.32 and Transformers 5.23 both cache as the latent vector.
LATENT = ("deepseek_v3", "glm4_moe_lite", "kimi_k2", "kimi_linear")
SANE_CONTEXT = 10**9  # Tokenizers write 1e30 where they know of no limit.


@dataclass(frozen=True, slots=True)
class Shape:
    """A language model's figures; 0 where config.json does not say.

    `head_dim` is the size of a key in one head. `kv_width` is how many numbers a layer keeps for one token, keys and
    values of all heads together. `kv_layers` of the `layers` keep any (linear attention and state-space layers keep
    none), and `windowed_layers` of those keep only the last `window` tokens. `context` is in tokens.
    """

    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    kv_width: int = 0
    kv_layers: int = 0
    windowed_layers: int = 0
    window: int = 0
    context: int = 0


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The figures of a config.json.

    Raises:
        DamagedModelError: a figure is no whole number, or is negative.
    """
    text = language_part(config)
    layers = number(text, *LAYERS)
    heads = 0 if str(config.get("model_type")).startswith(NO_ATTENTION) else number(text, *HEADS)
    kv_heads, head_dim = _kv_heads(text, heads), _head_dim(text, heads)
    kv_layers, windowed_layers = _keeping_layers(text, layers)
    return Shape(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        kv_width=_kv_width(text, kv_heads, head_dim),
        kv_layers=kv_layers,
        windowed_layers=windowed_layers,
        window=number(text, "sliding_window"),
        context=_context(text),
    )


def language_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the language model itself: nested in those of models that also see or hear."""
    for _ in NESTED:  # Models nest them once or twice; a hostile file may nest them a thousand times.
        inner = next((config[key] for key in NESTED if isinstance(config.get(key), dict) and config[key]), None)
        if inner is None:
            break
        # The outer values hold where the inner part leaves them out.
        config = {**{key: value for key, value in config.items() if key not in NESTED}, **inner}
    return config


def number(config: Mapping[str, Any], *names: str) -> int:
    """The first of these entries that is there, as a whole number; the largest of a per-layer list; 0 for none."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        values = value if isinstance(value, list) and value else [value]
        if not all(_is_count(n) for n in values):
            refuse("config.json", f"has {name} = {short(value)}, which is no whole number of at least 0")
        return int(max(values))
    return 0


def _is_count(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and 0 <= value < 2**53


def _context(text: Mapping[str, Any]) -> int:
    # Nonsense counts as not stated: some write -1 or 1e30 where there is no limit.
    stated = (int(text[name]) for name in CONTEXT if _is_count(text.get(name)))
    return next((length for length in stated if 0 < length < SANE_CONTEXT), 0)


def _kv_heads(text: Mapping[str, Any], heads: int) -> int:
    # Falcon and GPT-BigCode share one key and value head, whatever else the configuration repeats.
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return min(1, heads)
    inner = text.get("attn_config")
    stated = number(text, *KV_HEADS) or (number(inner, *KV_HEADS) if isinstance(inner, dict) else 0)
    return stated or heads


def _head_dim(text: Mapping[str, Any], heads: int) -> int:
    if number(text, "kv_lora_rank"):  # Multi-head latent attention: a part with position, a part without.
        return number(text, "qk_nope_head_dim") + number(text, "qk_rope_head_dim")
    return number(text, *HEAD_DIM) or (number(text, *HIDDEN) // heads if heads else 0)


def _kv_width(text: Mapping[str, Any], kv_heads: int, head_dim: int) -> int:
    """Numbers that a layer keeps for one token: METRICS' 2 · kv_heads · head_dim, but for latent attention.

    There some families keep only the latent vector. The others keep whole heads in mlx-lm, in Transformers or in both,
    and whole heads are the safe figure.
    """
    rank = number(text, "kv_lora_rank")
    if rank and text.get("model_type") in LATENT:
        return rank + number(text, "qk_rope_head_dim")
    return kv_heads * (head_dim + (number(text, "v_head_dim") if rank else head_dim))


def _keeping_layers(text: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """How many layers keep keys and values, and how many of those keep only a window of them."""
    types = text.get("layer_types")
    windowed = bool(number(text, "sliding_window")) and text.get("use_sliding_window") is not False
    if isinstance(types, list) and len(types) == layers:
        local = sum("sliding" in str(name) or "chunked" in str(name) for name in types)
        full = sum("full" in str(name) or name == "attention" for name in types)
        if full + local:  # Words that mean nothing here are taken for plain attention, the larger case.
            return full + local, local if windowed else 0
    # Hybrids such as Qwen3-Next: one layer of attention in so many, the others linear.
    return layers // max(1, number(text, "full_attention_interval")), 0
