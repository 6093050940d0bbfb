"""How mlx-lm 0.32 names and shapes the weights of each model type, where that is not as in the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Names, shapes and values as in the original; at most a tied head and rotary tables were left out.
SAME = frozenset(
    {"cohere", "gemma", "gemma2", "gemma3_text", "glm4", "granite", "llama", "mistral", "nemotron", "olmo2", "phi",
     "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm", "starcoder2"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of a layer: `stacked` before the projection in MLX, `single` before the expert's number elsewhere.

    `projections`: the original's name of a projection, where mlx-lm has another.
    """

    stacked: str = "mlp.switch_mlp."
    single: str = "mlp.experts."
    projections: Mapping[str, str] = field(default_factory=dict)


EXPERTS: Mapping[str, Experts] = {
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe", "deepseek_v3"), Experts()),
    "mixtral": Experts(
        "block_sparse_moe.switch_mlp.",
        "block_sparse_moe.experts.",
        {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"},
    ),
}

# Norms that transformers adds one to when it computes, and mlx-lm when it converts.
PLUS_ONE = frozenset({"qwen3_next"})
PLUS_ONE_NAMES = (
    ".input_layernorm.weight",
    ".post_attention_layernorm.weight",
    "model.norm.weight",
    ".q_norm.weight",
    ".k_norm.weight",
)

# Latent attention whose second projection mlx-lm splits into one for the queries and one for the values.
LATENT = frozenset({"deepseek_v3"})

KNOWN = SAME | EXPERTS.keys()
