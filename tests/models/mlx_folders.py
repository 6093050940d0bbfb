"""Checkpoints that mlx-lm can read by itself, and its own conversions of them, for comparing with ours."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from mlxnb.backends.mlx_config import as_mlx_lm_reads_it
from tests.tiny import FAMILIES, make_checkpoint, rope, save

# Further model types, beside those of tests.tiny, whose weights mlx-lm keeps by the original's names or stacks.
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "rope_parameters": rope(4000.0)}
PARTIAL = {"rope_parameters": rope(4000.0, partial_rotary_factor=0.5)}
PLAIN = {"rope_parameters": rope(4000.0)}
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("CohereConfig", {**PLAIN, "use_qk_norm": False}),
    "gemma2": ("Gemma2Config", {**PLAIN, "head_dim": 32, "query_pre_attn_scalar": 20, "sliding_window": 64}),
    "glm4": ("Glm4Config", {**PARTIAL, "head_dim": 32}),
    "granite": ("GraniteConfig", {**PLAIN, "intermediate_size": 128}),
    "mixtral": ("MixtralConfig", {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "nemotron": ("NemotronConfig", PARTIAL),
    "olmo2": ("Olmo2Config", PLAIN),
    "olmoe": ("OlmoeConfig", EXPERTS),
    "phi": ("PhiConfig", PARTIAL),
    "qwen2-moe": (
        "Qwen2MoeConfig",
        {**EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "mlp_only_layers": []},
    ),
    "qwen3-moe": ("Qwen3MoeConfig", {**EXPERTS, "head_dim": 32, "moe_intermediate_size": 32, "mlp_only_layers": []}),
    "seed-oss": ("SeedOssConfig", {**PLAIN, "head_dim": 32}),
    "smollm3": ("SmolLM3Config", PLAIN),
    "stablelm": ("StableLmConfig", PARTIAL),
    "starcoder2": ("Starcoder2Config", PLAIN),
}


def make(family: str, folder: Path, dtype: str = "float32") -> Path:
    """A tiny checkpoint with the rotary settings where mlx-lm itself looks for them."""
    if family in FAMILIES:
        make_checkpoint(family, folder, dtype=dtype)
    else:
        save(*TYPES[family], folder, dtype=dtype)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    rotary = config.get("rope_parameters") or {}
    stated = {name: rotary[name] for name in ("rope_theta", "partial_rotary_factor") if name in rotary}
    usual = {"norm_topk_prob": True}
    if config["model_type"] != "mixtral":
        usual["num_experts"] = config.get("num_local_experts", 4)
    # transformers leaves out what equals its own defaults; mlx-lm asks for some of it.
    file.write_text(json.dumps({**usual, **config, **stated, **as_mlx_lm_reads_it(config)}))
    return folder


def converted(source: Path, target: Path, **options: Any) -> Path:
    """mlx-lm's own conversion, without its words."""
    import mlx_lm

    with contextlib.redirect_stdout(io.StringIO()):
        mlx_lm.convert(str(source), str(target), **options)
    return target
