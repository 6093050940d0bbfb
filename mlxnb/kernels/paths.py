"""Every way to compute attention here, in one list: mlx-lm's own, plain MLX operations, and the Metal kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..decision import Decision, Rejected
from . import blockwise, fused, stock, supported
from .call import Array, Call
from .config import AttentionConfig
from .source import kernel_hash


@dataclass(frozen=True, slots=True)
class Path:
    """One way. `takes` says whether it computes a shape on a device, `run` does it, `version` changes with its text."""

    name: str
    about: str
    takes: Callable[[AttentionConfig, str], Decision]
    run: Callable[[Call], Array]
    version: Callable[[], str]


def _kernel(name: str, about: str, run: Callable[[Call], Array]) -> Path:
    def takes(config: AttentionConfig, device: str) -> Decision:
        if device != "metal":
            return Rejected(name, f"a Metal kernel, and MLX computes on {device} here")
        return supported.takes(name, config)

    return Path(name, about, takes, run, lambda: kernel_hash(name))


def _operations(
    name: str, about: str, run: Callable[[Call], Array], devices: tuple[str, ...], dense: bool, like_stock: bool = False
) -> Path:
    def takes(config: AttentionConfig, device: str) -> Decision:
        if device not in devices:
            return Rejected(name, f"made for {' and '.join(devices)}, and MLX computes on {device} here")
        if config.kv_bits is None and not dense:
            return Rejected(name, "the cache is not quantised")
        right = stock.takes(config, device)
        if like_stock and not right:  # rounded to the queries' dtype as stock is, so that only stock can vouch for it
            return Rejected(name, f"nothing vouches for its rounding: {right.reason}")
        return blockwise.takes(config, device)

    return Path(name, about, takes, run, lambda: blockwise.VERSION)


ANY = ("metal", "cuda", "cpu")
STOCK = Path(stock.NAME, "mlx-lm's own", stock.takes, stock.attention, lambda: "")
PATHS = (
    _kernel("decode_quantized", "split-K online softmax over packed keys and values", fused.decode_quantized),
    _kernel("decode_dense", "split-K online softmax", fused.decode_dense),
    _kernel("prefill_dense", "tiled online softmax", fused.prefill_dense),
    _operations("over_codes", "blocks, products on the packed codes", blockwise.over_codes, ("cpu",), dense=False),
    _operations("over_dequantised", "blocks, products in float32", blockwise.over_dequantised, ANY, dense=True),
    _operations(
        "fused_over_dequantised",
        "MLX's fused attention",
        blockwise.fused_over_dequantised,
        ("metal", "cuda"),
        dense=False,
        like_stock=True,
    ),
)
