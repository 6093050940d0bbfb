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
    if family == "deepseek_v3":
        _route_within_groups(model)
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


def _route_within_groups(model: Any) -> None:
    """Experts of the groups that were left out must never be picked. mlx-lm gives them the score 0, which beats an
    expert whose score is below its negative correction bias; one expert alone keeps its score where it should be 1.

    Source: DeepSeek-V3 (https://arxiv.org/abs/2412.19437), section 2.1.2, and its published inference code.
    """
    import mlx.core as mx

    gates = [layer.mlp.gate for layer in model.layers if hasattr(layer.mlp, "gate")]
    if not gates:
        return

    class Gate(type(gates[0])):  # type: ignore[misc]
        def __call__(self, x: Any) -> tuple[Any, Any]:
            scores = mx.sigmoid((x @ self.weight.T).astype(mx.float32))
            choice = scores + self.e_score_correction_bias
            left_out = self.n_group - self.topk_group
            if left_out > 0:
                grouped = mx.unflatten(choice, axis=-1, shape=(self.n_group, -1))
                rank = mx.topk(grouped, 2, axis=-1).sum(axis=-1, keepdims=True)
                worst = mx.argpartition(rank, kth=left_out - 1, axis=-2)[..., :left_out, :]
                choice = mx.flatten(mx.put_along_axis(grouped, worst, mx.array(-mx.inf), axis=-2), -2, -1)
            experts = mx.argpartition(-choice, kth=self.top_k - 1, axis=-1)[..., : self.top_k]
            weights = mx.take_along_axis(scores, experts, axis=-1)
            if self.norm_topk_prob:
                weights = weights / weights.sum(axis=-1, keepdims=True)
            return experts, weights * self.routed_scaling_factor

    for gate in gates:
        gate.__class__ = Gate


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
