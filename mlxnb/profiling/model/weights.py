"""What one decode step must read and compute, told by the weights and the cache of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ...backends.local import LocalModel
from ...models.shape import language_part, number, read_shape
from ...request import Request
from ..report import Profiled, Window

if TYPE_CHECKING:
    from ...backends.base import LoadedModel

# How many experts a token goes to, by the names that configurations have for it.
ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts", "moe_k",
          "num_selected_experts", "num_experts_per_topk")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Costs:
    """What a decode step needs, by METRICS' definitions; None where the backend does not tell.

    `weights_read`: bytes of the weights that it touches; `kv_read`: bytes of keys and values for each token of context,
    in the layers that see all of it; `flops`: operations for a token without attention, two for each active weight;
    `flops_context`: more for each token of context. `windows` are the layers that see less, `state_read` bytes of
    recurrent states, which do not grow with the context. `flops_head` is the part of `flops` that the head takes, which
    a prompt needs for its last token only; `weights_prefill`: bytes of weights that a long prompt touches, all experts
    among them.
    """

    weights_read: float | None = None
    kv_read: float | None = None
    flops: float | None = None
    flops_context: float | None = None
    windows: tuple[Window, ...] = ()
    state_read: float = 0.0
    flops_head: float = 0.0
    weights_prefill: float | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of weights: `size` in bytes with its scales, `numbers` of them unpacked. `share` of it is touched by
    one token; `whole` says that a long prompt touches the rest too. `multiplied`: a token is multiplied with it.
    """

    size: float
    numbers: float
    share: float = 1.0
    whole: bool = False
    head: bool = False
    multiplied: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps of the tokens: bytes a token, those of the last `window` tokens only where that is set, and
    bytes of a state of fixed size. `attends`: it multiplies with the keys and values.
    """

    row: float = 0.0
    window: int | None = None
    state: float = 0.0
    attends: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """What a model is made of; None for what is not told. `attention`: see `attention_flops`."""

    weights: list[Weight] | None
    layers: list[Layer] | None
    attention: float | None


def costs(loaded: LoadedModel, kv_bits: int | None = None, kv_group_size: int | None = None) -> Costs:
    """What a decode step of a loaded model needs; on the engine's thread. `kv_bits`: as a request keeps its KV cache.

    It is told by the tensors as they are in memory, and by a cache that was fed one token. Experts count by the share
    of them that a token goes to. Attention's operations are 2 · heads · (key size + value size) for each token and
    layer, METRICS' 4 · heads · head_dim; latent attention is counted so too, however its vectors are unfolded.
    """
    if not isinstance(loaded, LocalModel):
        return Costs()
    look = _looks().get(loaded.info.backend)
    if look is None:
        return Costs()
    request = Request.of("any", raw=True, kv_bits=kv_bits, kv_group_size=kv_group_size)
    return added_up(look(loaded, request))


def with_costs(model: Profiled, cost: Costs) -> Profiled:
    """What is known of a model, with what its steps need."""
    return replace(model, **{each.name: getattr(cost, each.name) for each in fields(cost)})


def _looks() -> dict[str, Callable[[Any, Request], Parts]]:
    from . import weights_gguf, weights_mlx, weights_onnx, weights_torch

    return {
        "torch": weights_torch.look,
        "mlx": weights_mlx.look,
        "llamacpp": weights_gguf.look,
        "onnx": weights_onnx.look,
    }


def active_share(config: Mapping[str, Any], experts: int) -> float | None:
    """The share of so many experts that a token goes to; None where the configuration does not say."""
    active = number(language_part(config), *ACTIVE)
    return active / experts if 0 < active <= experts else None


def attention_flops(config: Mapping[str, Any]) -> float | None:
    """Operations of one layer's attention for each token of context, None where the configuration does not say."""
    shape, text = read_shape(config), language_part(config)
    if not (shape.heads and shape.head_dim):
        return None
    value = number(text, "v_head_dim") if number(text, "kv_lora_rank") else shape.head_dim
    return 2.0 * shape.heads * (shape.head_dim + value)


def added_up(parts: Parts) -> Costs:
    """The Costs of a model with these parts."""
    weights, layers, attention = parts.weights, parts.layers, parts.attention
    read = flops = prefill = None
    head = 0.0
    if weights is not None:
        read = sum(each.size * each.share for each in weights)
        prefill = sum(each.size if each.whole else each.size * each.share for each in weights)
        flops = _operations(weights)
        head = _operations(each for each in weights if each.head)
    if layers is None:
        return Costs(read, None, flops, None, flops_head=head, weights_prefill=prefill)
    whole = [layer for layer in layers if layer.window is None]
    windows = {layer.window for layer in layers if layer.window is not None}
    # A model without attention needs no figure for it.
    each = attention if attention is not None or any(layer.attends and layer.row for layer in layers) else 0.0
    return Costs(
        weights_read=read,
        kv_read=sum(layer.row for layer in whole),
        flops=flops,
        flops_context=None if each is None else each * _attending(whole),
        windows=tuple(_window(size, layers, each or 0.0) for size in sorted(windows)),
        state_read=sum(layer.state for layer in layers),
        flops_head=head,
        weights_prefill=prefill,
    )


def _operations(weights: Iterable[Weight]) -> float:
    return sum(2 * each.numbers * each.share for each in weights if each.multiplied)


def _window(size: int, layers: list[Layer], attention: float) -> Window:
    these = [layer for layer in layers if layer.window == size]
    return Window(size, sum(layer.row for layer in these), attention * _attending(these))


def _attending(layers: list[Layer]) -> int:
    return sum(layer.attends and layer.row > 0 for layer in layers)
