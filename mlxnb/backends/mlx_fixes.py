"""Corrections to models that mlx-lm loads almost right, so that they compute what their config says.

Each is checked against transformers on random checkpoints in float32 (tests/backends/test_families.py).
"""

from __future__ import annotations

from typing import Any

from .mlx_config import window


def correct(model: Any, config: dict[str, Any]) -> LongRope | None:
    """Apply what the model's family needs; the LongRoPE to set before each prompt, where it has one."""
    family = config.get("model_type")
    if family == "mistral":
        _slide_every_layer(model, window(config))
    if family == "gemma":
        _approximate_gelu(model)
    if family == "phi3":
        return LongRope.of(model)
    return None


def readable_context(model: Any, config: dict[str, Any]) -> int | None:
    """Context in tokens up to which a loader that ignores the config's sliding window is exact; None without end."""
    size = window(config)
    slides = any(getattr(layer, "use_sliding", False) for layer in model.layers) or hasattr(model.args, "layer_types")
    return None if size is None or slides else size


def _slide_every_layer(model: Any, size: int | None) -> None:
    """mlx-lm runs Mistral as a Llama, whose loader has no model in which every layer slides."""
    if size is None:
        return
    model.model.sliding_window = size
    model.model.swa_idx = 0
    for layer in model.layers:
        layer.use_sliding = True


def _approximate_gelu(model: Any) -> None:
    """Gemma's GELU is the tanh approximation, also where an old config says `gelu`; mlx-lm computes the exact one."""
    import mlx.nn as nn

    class GemmaMLP(type(model.layers[0].mlp)):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return self.down_proj(nn.gelu_approx(self.gate_proj(x)) * self.up_proj(x))

    for layer in model.layers:
        layer.mlp.__class__ = GemmaMLP


class LongRope:
    """LongRoPE stretches positions only in sequences beyond the original context; mlx-lm stretches them always.

    Source: Ding et al., LongRoPE (https://arxiv.org/abs/2402.13753); transformers switches at the same length.
    """

    def __init__(self, ropes: list[Any], scaling: dict[str, Any], original_context: int) -> None:
        import mlx.core as mx

        self.original_context = original_context
        self._ropes = ropes
        self._long = ropes[0]._freqs
        self._short = self._long / mx.array(scaling["long_factor"]) * mx.array(scaling["short_factor"])

    @classmethod
    def of(cls, model: Any) -> LongRope | None:
        """That of a model, or None where it has none."""
        scaling = model.args.rope_scaling
        if not scaling or scaling.get("type") not in ("longrope", "su"):
            return None
        ropes = [layer.self_attn.rope for layer in model.layers]
        return cls(ropes, scaling, model.args.original_max_position_embeddings)

    def set_for(self, prompt_tokens: int) -> None:
        """Take the frequencies for a prompt of this length."""
        for rope in self._ropes:
            rope._freqs = self._long if prompt_tokens > self.original_context else self._short
