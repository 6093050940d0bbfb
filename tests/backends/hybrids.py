"""Tiny random models with recurrent layers that only one backend runs, or that keep a state outside the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import FAMILIES, rope, save

HYBRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lfm2": (
        "Lfm2Config",
        {
            "rope_parameters": rope(5000.0),
            "norm_eps": 1e-5,
            "conv_L_cache": 3,
            "block_auto_adjust_ff_dim": False,
            "layer_types": ["conv", "full_attention", "conv"],
        },
    ),
    "recurrent-gemma": (
        "RecurrentGemmaConfig",
        {"head_dim": 16, "lru_width": 64, "attention_window_size": 12, "hidden_activation": "gelu_pytorch_tanh"},
    ),
}


def make_hybrid(name: str, folder: Path) -> Path:
    """Save one of these, or of FAMILIES, with the pocket model's tokenizer, into `folder`."""
    return save(*{**FAMILIES, **HYBRIDS}[name], folder)
