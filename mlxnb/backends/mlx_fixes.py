"""Corrections to models that mlx-lm loads almost right, so that they compute what their config says.

Each is checked against transformers on random checkpoints in float32 (tests/backends/test_families.py).
"""

from __future__ import annotations

import math
from typing import Any

from .mlx_config import TANH_GELU, window


def correct(model: Any, config: dict[str, Any]) -> LongRope | None:
    """Apply what the model's family needs; the LongRoPE to set before each prompt, where it has one."""
    family = config.get("model_type")
    _untruncated_yarn(model, config)
    if family == "mistral":
        _slide_every_layer(model, window(config))
    if family == "gemma":
        _approximate_gelu(model)
    if family == "starcoder2" and config.get("hidden_act", "gelu_pytorch_tanh") in TANH_GELU:
        _approximate_gelu_of_starcoder(model)
    if family == "deepseek_v3":
        _route_within_groups(model)
    if family == "phi3":
        return LongRope.of(model)
    return None


def readable_context(model: Any, config: dict[str, Any]) -> int | None:
    """Context in tokens up to which a loader that ignores the config's sliding window is exact; None without end."""
    from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache

    size = window(config)
    slides = size is not None and any(isinstance(cache, RotatingKVCache) for cache in make_prompt_cache(model))
    return None if slides else size


def experts_that_cannot_run(model: Any) -> str | None:
    """The dtype of a model's experts where this MLX has no product for them, as on a CPU in half precision; or None."""
    import mlx.core as mx
    from mlx_lm.models.switch_layers import SwitchLinear

    dtypes = {module.weight.dtype for module in model.modules() if isinstance(module, SwitchLinear)}
    for dtype in dtypes:
        row, experts, which = mx.zeros((1, 1, 8), dtype), mx.zeros((2, 8, 8), dtype), mx.zeros((1,), mx.uint32)
        try:
            mx.eval(mx.gather_mm(row, experts, rhs_indices=which))
        except RuntimeError:
            return str(dtype).removeprefix("mlx.core.")
    return None


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


def _approximate_gelu_of_starcoder(model: Any) -> None:
    """StarCoder 2's GELU is the tanh approximation where its config says so; mlx-lm computes the exact one."""
    import mlx.nn as nn

    class StarcoderMLP(type(model.layers[0].mlp)):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return self.c_proj(nn.gelu_approx(self.c_fc(x)))

    for layer in model.layers:
        layer.mlp.__class__ = StarcoderMLP


def _untruncated_yarn(model: Any, config: dict[str, Any]) -> None:
    """mlx-lm rounds the range of frequencies that YaRN blends to whole dimensions, also where `truncate` says no.

    Source: Peng et al., YaRN (https://arxiv.org/abs/2309.00071), section 3.2; gpt-oss is trained without rounding.
    """
    import mlx.core as mx
    from mlx_lm.models.rope_utils import YarnRoPE

    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("truncate") is not False:
        return
    base = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    original = rope["original_max_position_embeddings"]
    for module in model.modules():
        if isinstance(module, YarnRoPE):
            dims = module.dims

            def dimension(rotations: float, dims: int = dims) -> float:
                return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

            low = max(dimension(rope.get("beta_fast", 32)), 0)
            high = min(dimension(rope.get("beta_slow", 1)), dims - 1)
            ramp = mx.clip((mx.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)
            fast = base ** (mx.arange(0, dims, 2, dtype=mx.float32) / dims)
            slow = rope["factor"] * fast
            module._freqs = slow * fast / (slow * (1 - ramp) + fast * ramp)


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
