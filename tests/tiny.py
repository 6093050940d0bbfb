"""Tiny random checkpoints of the families people run, as transformers saves them, with configs away from the defaults.

Loaders go wrong where a config says something unusual: another rope base, rope scaling, untied heads, biases. The
weights are drawn wide enough that two different computations give different greedy tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlxnb.pocket

VOCABULARY = 4096  # the pocket model's tokenizer is used throughout

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 40000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 30000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 24.0,
    "beta_slow": 2.0,
}


def rope(theta: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, **more}


def _longrope(head_dim: int) -> dict[str, Any]:
    half = head_dim // 2
    return {
        "rope_type": "longrope",
        "rope_theta": 20000.0,
        "short_factor": [1.0 + 0.05 * i for i in range(half)],
        "long_factor": [2.0 + 0.1 * i for i in range(half)],
        "original_max_position_embeddings": 256,
    }


# name -> (transformers config class, what differs from SHAPE)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", {"rope_parameters": rope(5000.0), "tie_word_embeddings": False}),
    "qwen2-tied-yarn": ("Qwen2Config", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"rope_parameters": rope(7000.0), "head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-untied-bias": (
        "Qwen3Config",
        {"rope_parameters": YARN, "head_dim": 16, "tie_word_embeddings": False, "attention_bias": True},
    ),
    "llama": ("LlamaConfig", {"rope_parameters": LLAMA3, "head_dim": 32, "tie_word_embeddings": True}),
    "llama-yarn-untruncated": (
        "LlamaConfig",
        {"rope_parameters": {**YARN, "truncate": False}, "head_dim": 32, "tie_word_embeddings": True},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {
            "rope_parameters": {
                "sliding_attention": rope(3000.0),
                "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 4.0},
            },
            "head_dim": 32,
            "query_pre_attn_scalar": 20,
            "sliding_window": 12,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "llama-biases": (
        "LlamaConfig",
        {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 3000.0, "factor": 2.0},
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "mistral": (
        "MistralConfig",
        {"rope_parameters": rope(900.0), "head_dim": 32, "sliding_window": None, "tie_word_embeddings": False},
    ),
    "mistral-window": (
        "MistralConfig",
        {"rope_parameters": rope(2500.0), "sliding_window": 12, "tie_word_embeddings": True},
    ),
    "gemma": (
        "GemmaConfig",
        {"rope_parameters": rope(4000.0), "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh"},
    ),
    # Both kinds of soft-capping, away from the defaults; mlx-lm's loader has no window, so the window is never reached.
    "gemma2": (
        "Gemma2Config",
        {
            "rope_parameters": rope(4000.0),
            "head_dim": 32,
            "query_pre_attn_scalar": 20,
            "sliding_window": 4096,
            "attn_logit_softcapping": 20.0,
            "final_logit_softcapping": 40.0,
        },
    ),
    "starcoder2": (
        "Starcoder2Config",
        {"rope_parameters": rope(4000.0), "norm_epsilon": 1e-4, "tie_word_embeddings": False},
    ),
    "phi3": ("Phi3Config", {"rope_parameters": rope(6000.0), "tie_word_embeddings": False, "sliding_window": None}),
    "phi3-partial": (
        "Phi3Config",
        {
            "rope_parameters": rope(6000.0, partial_rotary_factor=0.5),
            "tie_word_embeddings": True,
            "sliding_window": None,
        },
    ),
    "phi3-longrope": (
        "Phi3Config",
        {"rope_parameters": _longrope(16), "original_max_position_embeddings": 256, "sliding_window": None},
    ),
    # Recurrent layers: beside attention layers, and within them.
    "qwen3-next": (
        "Qwen3NextConfig",
        {
            "rope_parameters": rope(5000.0, partial_rotary_factor=0.5),
            "head_dim": 32,
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "full_attention_interval": 2,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_conv_kernel_dim": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "mlp_only_layers": [],
        },
    ),
    "falcon-h1": (
        "FalconH1Config",
        {
            "rope_parameters": rope(5000.0),
            "head_dim": 32,
            "mamba_d_ssm": 64,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_n_groups": 1,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_chunk_size": 16,
        },
    ),
    "deepseek-v3": (
        "DeepseekV3Config",
        {
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
            "num_key_value_heads": 4,
            "q_lora_rank": 24,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 16,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 1.7,
            "norm_topk_prob": True,
            "tie_word_embeddings": False,
        },
    ),
    "deepseek-v3-plain": (
        "DeepseekV3Config",
        {
            "rope_parameters": rope(9000.0),
            "num_key_value_heads": 4,
            "q_lora_rank": None,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 16,
            "qk_nope_head_dim": 16,
            "v_head_dim": 32,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 0.7,
            "norm_topk_prob": False,
            "attention_bias": True,
        },
    ),
}


def make_checkpoint(family: str, folder: Path, seed: int = 0, dtype: str = "float32") -> Path:
    """Save a random model of a family, with the pocket model's tokenizer, into `folder`."""
    return save(*FAMILIES[family], folder, seed, dtype)


def save(class_name: str, differs: dict[str, Any], folder: Path, seed: int = 0, dtype: str = "float32") -> Path:
    """Save a random model of a transformers config class, with what differs from SHAPE."""
    import torch
    import transformers

    config = getattr(transformers, class_name)(**{**SHAPE, **differs}, attn_implementation="eager")
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    _draw_wide(model)
    model.save_pretrained(folder)
    return add_tokenizer(folder)


def _draw_wide(model: Any) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
            else:
                parameter.uniform_(0.6, 1.4)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(-0.7, 0.2)  # negative scores: a group that is left out must stay out


def add_tokenizer(folder: Path) -> Path:
    """Put the pocket model's tokenizer into a checkpoint's folder."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(mlxnb.pocket.path() / name, folder / name)
    return folder


Maker = Callable[[str], Path]


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPENING = TURNS + "<|im_start|>assistant\n<think>"


def make_thinker(folder: Path, template: str = OPENING, tokens: Sequence[str] = ("<think>", "</think>")) -> str:
    """Save a random model with a template that marks thinking, and `tokens` of its own for that, into `folder`. As it
    comes, the template opens a block, which the model would never close.
    """
    from mlxnb.backends.tokenizer import Tokenizer

    more = {"rope_parameters": rope(5000.0), "tie_word_embeddings": False, "vocab_size": VOCABULARY + 8}
    tokenizer = Tokenizer(save("LlamaConfig", more, folder, seed=3))
    tokenizer.inner.add_tokens(list(tokens), special_tokens=True)
    tokenizer.inner.chat_template = template
    tokenizer.inner.save_pretrained(folder)
    return str(folder)
