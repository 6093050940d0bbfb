"""Which model types can be written as GGUF, and what their config.json means in llama.cpp's terms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import UnsupportedModelError
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from gguf import GGUFWriter

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
TAKE = "Run it on the torch or mlx backend."
YARN_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}  # llama.cpp reads others for few architectures


@dataclass(frozen=True, slots=True)
class Family:
    """How llama.cpp knows a model type: its architecture, the layers that may have a bias there, whether it rotates
    neighbouring pairs of a head's numbers, so that the rows of queries and keys change places, further figures by what
    configurations, new ones and old ones, and the writer of metadata call them, and what it takes for granted of one.
    """

    arch: str
    biases: tuple[str, ...] = ()
    permuted: bool = False
    figures: Mapping[str, str] = field(default_factory=dict)
    granted: Mapping[str, Any] = field(default_factory=dict)


LLAMA = Family("llama", (*QKV, "self_attn.o_proj", *MLP), permuted=True)
FAMILIES: Mapping[str, Family] = {
    "qwen2": Family("qwen2", QKV),
    "qwen3": Family("qwen3", QKV),
    "llama": LLAMA,
    "mistral": LLAMA,
    "olmo2": Family("olmo2"),
    "granite": Family(
        "granite",
        LLAMA.biases,
        permuted=True,
        figures={
            "attention_multiplier": "add_attention_scale",
            "embedding_multiplier": "add_embedding_scale",
            "residual_multiplier": "add_residual_scale",
            "logits_scaling": "add_logit_scale",
        },
    ),
    "qwen3_moe": Family(
        "qwen3moe",
        QKV,
        figures={
            "num_experts|num_local_experts": "add_expert_count",
            "num_experts_per_tok": "add_expert_used_count",
            "moe_intermediate_size": "add_expert_feed_forward_length",
        },
        granted={"norm_topk_prob": True, "mlp_only_layers": [], "decoder_sparse_step": 1},
    ),
}


def family_of(checkpoint: Checkpoint, name: str) -> Family:
    """The family of a model that can be written as GGUF.

    Raises:
        UnsupportedModelError: there is none, or its configuration asks for what llama.cpp does not compute.
    """
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        known = ", ".join(FAMILIES)
        raise UnsupportedModelError(
            f"How llama.cpp stores a {checkpoint.model_type}, which {name} is, is not known here.",
            f"Written as GGUF are {known}; take llama.cpp's own converter for others.",
        )
    config = checkpoint.config
    for key, value in family.granted.items():
        if config.get(key) != value:
            refuse(name, f"{key} {config.get(key)!r}")
    if config.get("hidden_act", "silu") != "silu":
        refuse(name, f"the activation {config['hidden_act']}")
    if rope_of(config).get("partial_rotary_factor", 1.0) != 1.0:
        refuse(name, "rotary embeddings over a part of each head")
    check_rope(rope_of(config), name)
    return family


def refuse(name: str, what: str) -> NoReturn:
    """Raise an UnsupportedModelError: what the model has and llama.cpp does not compute."""
    raise UnsupportedModelError(f"{name} has {what}, which llama.cpp does not compute for it.", TAKE)


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding's parameters, wherever a configuration keeps them."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = {"rope_theta": config.get("rope_theta", 10000.0), **given}
    found["rope_type"] = found.get("rope_type", found.get("type", "default"))
    if "original_max_position_embeddings" not in found and config.get("max_position_embeddings"):
        found["original_max_position_embeddings"] = config["max_position_embeddings"]
    return found


def check_rope(rope: Mapping[str, Any], name: str) -> None:
    """Refuse a scaling that llama.cpp computes otherwise."""
    kind = rope["rope_type"]
    if kind not in ("default", "linear", "llama3", "yarn"):
        refuse(name, f"rotary embeddings scaled as {kind!r}")
    if kind == "yarn":
        for key, usual in YARN_BETAS.items():
            if (rope.get(key) or usual) != usual:
                refuse(name, f"YaRN with {key} {rope[key]}")
        if not rope.get("truncate", True):
            refuse(name, "YaRN without truncation")
        if any(rope.get(key) for key in ("mscale", "mscale_all_dim")):
            refuse(name, "YaRN with mscale")
        usual = 0.1 * math.log(rope["factor"]) + 1
        if not math.isclose(rope.get("attention_factor") or usual, usual, rel_tol=1e-4):
            refuse(name, f"YaRN with the attention factor {rope['attention_factor']}")


def write_figures(writer: GGUFWriter, checkpoint: Checkpoint, family: Family) -> None:
    """Put the figures of a configuration into the metadata.

    llama.cpp looks back without a window in these architectures, so the context ends where the window would begin to
    move: up to there both compute the same.
    """
    from gguf import RopeScalingType

    config, shape = checkpoint.config, checkpoint.shape
    window = window_of(config)
    context = checkpoint.context_length or window
    if not context:
        raise UnsupportedModelError(f"{checkpoint.path.name} does not say how long its context is.", TAKE)
    writer.add_context_length(min(context, window or context))
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(shape.head_dim)
    for keys, method in family.figures.items():
        getattr(writer, method)(next(config[key] for key in keys.split("|") if key in config))
    rope = rope_of(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def window_of(config: Mapping[str, Any]) -> int:
    """Tokens that some layer looks back at most; 0 where every layer sees all."""
    if config.get("use_sliding_window") is False or not config.get("sliding_window"):
        return 0
    types = config.get("layer_types")
    sliding = types is None or any("sliding" in str(kind) for kind in types)
    return int(config["sliding_window"]) if sliding else 0


def llama3_divisors(config: Mapping[str, Any], head_dim: int) -> np.ndarray | None:
    """By what each rotary frequency is divided, float32 [head_dim / 2], where the scaling is Llama 3's; else None.

    Frequencies whose wave is short beside the original context stay, long ones are divided by the factor, and those
    between are mixed. Source: transformers' `_compute_llama3_parameters`, which gives the frequencies themselves.
    """
    rope = rope_of(config)
    if rope["rope_type"] != "llama3":
        return None
    frequencies = rope["rope_theta"] ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high, factor = (float(rope[key]) for key in ("low_freq_factor", "high_freq_factor", "factor"))
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / (kept + (1 - kept) / factor)).astype(np.float32)


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a query or key projection, or its bias, in the order of llama.cpp's rotation of neighbouring pairs:
    the first half of each head's rows on even places, the second on odd ones.
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
