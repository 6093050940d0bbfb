"""A transformers config in the words that mlx-lm's loaders read, which is where silently wrong models come from.

transformers 5 nests everything about rotary embeddings under `rope_parameters`; most of mlx-lm's loaders look for
`rope_theta` and `rope_scaling` beside it, do not find them, and build a model with default positions and no error.
What a loader cannot express at all is refused here by name, so that the engine can take another backend.
"""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedModelError

# Families whose mlx-lm loader has SwiGLU built in, whatever the config's activation says.
SWIGLU_ONLY = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "deepseek_v3"})
SILU = frozenset({"silu", "swish"})
# The names of one approximation of GELU.
TANH_GELU = frozenset({"gelu_pytorch_tanh", "gelu_new", "gelu_fast"})


def as_mlx_lm_reads_it(config: dict[str, Any]) -> dict[str, Any]:
    """The entries to lay over a config.json for mlx-lm's `load_model(model_config=…)`.

    Raises:
        UnsupportedModelError: mlx-lm would build something else than the config says.
    """
    family = config.get("model_type", "")
    overlay = _rope(config)
    _refuse_other_activation(family, config)
    if family == "gemma2":
        _refuse_other_gemma2(config)
    _refuse_other_scaling(family, overlay.get("rope_scaling") or config.get("rope_scaling"))
    return overlay


def window(config: dict[str, Any]) -> int | None:
    """The sliding attention window in tokens that all layers or some have, or None."""
    size = config.get("sliding_window")
    if size is None or config.get("use_sliding_window") is False:
        return None
    types = config.get("layer_types")
    return size if not types or "sliding_attention" in types else None


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters")
    if not rope:
        return {}  # an older config, which says it beside one another
    if any(isinstance(value, dict) for value in rope.values()):
        return _rope_by_layer_type(config, rope)
    overlay: dict[str, Any] = {}
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        if key in rope:
            overlay[key] = rope[key]
    overlay["rope_scaling"] = _scaling(rope)
    return overlay


def _scaling(rope: dict[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type", "default")
    return None if kind == "default" else {**rope, "type": kind}


def _rope_by_layer_type(config: dict[str, Any], rope: dict[str, Any]) -> dict[str, Any]:
    """Gemma 3's loader knows two bases and a regular pattern; the others that have layer types read rope_parameters."""
    if config.get("model_type") != "gemma3_text":
        return {}
    local, full = rope.get("sliding_attention", {}), rope.get("full_attention", {})
    types = config.get("layer_types") or []
    pattern = types.index("full_attention") + 1 if "full_attention" in types else len(types) + 1
    regular = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(len(types))]
    if types != regular or _scaling(local):
        raise _unsupported("Gemma 3 with an irregular pattern of layers, or with scaled local positions")
    return {
        "rope_theta": full.get("rope_theta", 1_000_000.0),
        "rope_local_base_freq": local.get("rope_theta", 10_000.0),
        "rope_scaling": _scaling(full),
        "sliding_window_pattern": pattern,
    }


def _refuse_other_activation(family: str, config: dict[str, Any]) -> None:
    activation = config.get("hidden_act", "silu")
    if family in SWIGLU_ONLY and activation not in SILU:
        raise _unsupported(f"{family} with the activation {activation!r}, where it always uses SiLU")
    if family == "starcoder2" and config.get("hidden_act", "gelu") not in TANH_GELU | {"gelu"}:
        raise _unsupported(f"{family} with the activation {activation!r}, where it always uses GELU")
    if family == "starcoder2" and config.get("use_bias") is False:
        raise _unsupported(f"{family} without biases")


def _refuse_other_gemma2(config: dict[str, Any]) -> None:
    """Its loader caps every score and logit, ties the head, and has one approximation of GELU built in."""
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if name in config and config[name] is None:
            raise _unsupported(f"gemma2 without {name}")
    if config.get("tie_word_embeddings") is False:
        raise _unsupported("gemma2 with a head of its own")
    if config.get("hidden_activation", "gelu_pytorch_tanh") not in TANH_GELU:
        raise _unsupported(f"gemma2 with the activation {config['hidden_activation']!r}")


def _refuse_other_scaling(family: str, scaling: dict[str, Any] | None) -> None:
    if not scaling:
        return
    kind = scaling.get("type") or scaling.get("rope_type")
    if family == "gemma" or (family == "phi3" and kind not in ("longrope", "su", "linear")):
        raise _unsupported(f"{family} with rotary scaling {kind!r}")
    if kind == "yarn" and scaling.get("attention_factor") is not None:
        raise _unsupported("YaRN with an attention factor of its own")


def _unsupported(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"mlx-lm does not support {what}.", "Use --backend torch.")
