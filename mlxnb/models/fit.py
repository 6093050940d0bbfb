"""Decides before loading whether a model fits into the memory that is free now."""

from __future__ import annotations

from .. import pocket
from ..decision import Accepted, Decision, Rejected
from ..errors import ModelTooLargeError
from ..hardware import human_bytes, memory_free
from .cache import repository_of
from .checkpoint import Checkpoint, kv_bytes_per_token

# Beside weights and KV cache: activations of a prefill step, logits, the allocator's slack, the framework itself.
MARGIN_SHARE = 0.10
MARGIN_BYTES = 200_000_000

# A model is taken to fit when it has room for a KV cache of this many tokens beside its weights.
KV_ALLOWANCE = 4096


def fits(
    checkpoint: Checkpoint,
    *,
    tokens: int,
    bytes_per_weight: float | None = None,
    free: int | None = None,
    bytes_per_key: float = 2,
) -> Decision:
    """Whether weights, a KV cache of `tokens` tokens (prompt and answer) and a working margin fit into free memory.

    bytes_per_weight: of the dtype they will be loaded in (4 for float32); None for as they are stored.
    free: bytes of memory; what the machine has free now unless given. On Apple silicon the GPU's recommended working
    set is smaller than that; the MLX backend holds the figure against it once MLX is loaded.
    bytes_per_key: of a number in the KV cache.
    """
    free = memory_free() if free is None else free
    weights = checkpoint.weight_bytes if bytes_per_weight is None else checkpoint.parameters * bytes_per_weight
    margin = weights * MARGIN_SHARE + MARGIN_BYTES
    cache = kv_bytes(checkpoint, tokens, bytes_per_key)
    need = weights + cache + margin
    parts = (
        f"weights {human_bytes(weights)}, KV cache for {tokens:,} tokens {human_bytes(cache)}, "
        f"working space {human_bytes(margin)}"
    )
    name = folder_name(checkpoint)
    if need <= free:
        return Accepted(name, f"it needs {human_bytes(need)} ({parts}) of {human_bytes(free)} free memory")
    reason = f"it needs {human_bytes(need)} ({parts}) and {human_bytes(free)} of memory is free"
    return Rejected(name, reason, _remedy(checkpoint, free - weights - margin))


def check_fits(
    checkpoint: Checkpoint,
    *,
    tokens: int,
    bytes_per_weight: float | None = None,
    free: int | None = None,
    bytes_per_key: float = 2,
) -> Decision:
    """`fits`, or a ModelTooLargeError with the figures and the remedy."""
    decision = fits(
        checkpoint, tokens=tokens, bytes_per_weight=bytes_per_weight, free=free, bytes_per_key=bytes_per_key
    )
    if isinstance(decision, Rejected):
        raise ModelTooLargeError(f"{decision.subject} does not fit: {decision.reason}.", decision.remedy)
    return decision


def kv_bytes(checkpoint: Checkpoint, tokens: int, bytes_per_element: float = 2) -> float:
    """Bytes of KV cache for `tokens` tokens; layers with a sliding window stop growing at its length."""
    shape = checkpoint.shape
    per_layer = kv_bytes_per_token(checkpoint, bytes_per_element) / max(1, shape.kv_layers)
    full = shape.kv_layers - shape.windowed_layers
    return per_layer * (full * tokens + shape.windowed_layers * min(tokens, shape.window or tokens))


def _remedy(checkpoint: Checkpoint, room: float) -> str:
    per_token = kv_bytes_per_token(checkpoint)
    if per_token and room >= 256 * per_token:
        return f"Ask for fewer tokens (about {int(room / per_token):,} fit), or close other programs."
    smaller = "Take a smaller model" if checkpoint.quantization else "Take a smaller or a quantised model"
    return f"{smaller}, or close other programs."


def folder_name(checkpoint: Checkpoint) -> str:
    """What a person calls the model: its folder, or the repository when it lies in the Hugging Face cache."""
    if checkpoint.path == pocket.path():
        return pocket.NAME
    return repository_of(checkpoint.path) or checkpoint.path.name
