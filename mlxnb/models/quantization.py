"""Says how a model's weights are quantised, and counts the parameters behind packed integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .headers import Tensor

# What quantised formats store beside the packed weights: no parameters of the model's own.
COMPANIONS = (".scales", ".biases", ".global_scale", ".qzeros", ".g_idx", ".weight_scale", ".weight_scale_inv",
              ".weight_zero_point", ".input_scale", ".absmax", ".quant_map", ".nested_absmax",
              ".nested_quant_map", "_scales", "_scale_inv")  # fmt: skip
FORMATS = {"mxfp4": 4, "nvfp4": 4, "mxfp8": 8, "fp8": 8}  # whose name is their only figure
PACKED = {"U32": 32, "I32": 32, "U8": 8, "I8": 8}


def quantization_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration's own words on quantisation; MLX writes `quantization`, others `quantization_config`."""
    for key in ("quantization", "quantization_config"):
        value = config.get(key)
        if isinstance(value, dict) and value:
            return value
    return {}


def describe(quantization: Mapping[str, Any]) -> str | None:
    """It in a few words, such as "4-bit, group 64", "gptq 4-bit, group 128" or "fp8"; None if there is none."""
    if not quantization:
        return None
    bits, group = _bits(quantization), _packing(quantization).get("group_size")
    method = quantization.get("quant_method") or quantization.get("mode")
    words = [str(method)] if isinstance(method, str) and len(method) < 30 and method not in ("affine", "mlx") else []
    if bits and not any(str(bits) in word for word in words):
        words.append(f"{bits}-bit")
    if any(isinstance(value, dict) and "bits" in value for value in quantization.values()):
        words.append("mixed")
    text = " ".join(words) or "quantised"
    return f"{text}, group {group}" if isinstance(group, int) and group > 0 else text


def _packing(quantization: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the figures stand: at the top, but in compressed-tensors under its first group's weights."""
    groups = quantization.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    return weights if isinstance(weights, dict) else quantization


def _bits(quantization: Mapping[str, Any]) -> int:
    """Bits of a weight; 0 where nothing says."""
    packing = _packing(quantization)
    for bits in (packing.get("bits"), packing.get("num_bits"), FORMATS.get(str(quantization.get("quant_method")))):
        if isinstance(bits, int) and 0 < bits <= 16:
            return bits
    return 4 if quantization.get("load_in_4bit") else 8 if quantization.get("load_in_8bit") else 0


def count_parameters(tensors: Mapping[str, Tensor], quantization: Mapping[str, Any]) -> int:
    """How many numbers the model has, with packed ones counted as what they unpack to."""
    if not quantization:
        return sum(tensor.elements for tensor in tensors.values())
    return sum(_unpacked(name, tensor, quantization) for name, tensor in tensors.items() if not _companion(name))


def _companion(name: str) -> bool:
    return name.endswith(COMPANIONS) or ".quant_state." in name


def _unpacked(name: str, tensor: Tensor, quantization: Mapping[str, Any]) -> int:
    own = quantization.get(name.rpartition(".")[0])
    bits = _bits(own if isinstance(own, dict) else quantization)
    width = PACKED.get(tensor.dtype)
    if not bits or not width or bits > width:
        return tensor.elements
    return tensor.elements * width // bits
