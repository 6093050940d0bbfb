"""How a model's layers attend, in a few words: grouped heads, windows, latent vectors, layers without attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shape import Shape, language_part, number


def attention_pattern(shape: Shape, config: Mapping[str, Any] | None = None) -> str:
    """Such as "GQA 16:8", "MLA 512", "GQA 8:4, sliding 1024 in 40 of 48 layers" or "GQA 16:2, in 12 of 48 layers".

    Query heads come before the heads of keys and values that they share; MLA comes with the size of its latent vector.
    "" where nothing says.
    """
    if not shape.kv_layers:
        return "none"
    latent = number(language_part(config), "kv_lora_rank") if config else 0
    words = [f"MLA {latent}" if latent else _heads(shape)]
    if shape.kv_layers < shape.layers:
        words.append(f"in {shape.kv_layers} of {shape.layers} layers")
    if shape.windowed_layers:
        words.append(f"sliding {shape.window} in {shape.windowed_layers} of {shape.kv_layers} layers")
    return ", ".join(filter(None, words))


def _heads(shape: Shape) -> str:
    if not shape.heads:
        return ""
    if shape.kv_heads == shape.heads:
        return f"MHA {shape.heads}"
    return f"{'MQA' if shape.kv_heads == 1 else 'GQA'} {shape.heads}:{shape.kv_heads}"
