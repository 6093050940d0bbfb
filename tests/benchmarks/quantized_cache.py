"""Attention over a quantised KV cache on a tiny random model: ours against mlx-lm's own and against a bf16 cache.

A prompt is not run whole, mlx-lm's own path taking minutes for it: the cost of a piece of a prompt grows evenly with
the keys before it, so the piece in the prompt's middle runs at the whole prompt's rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from mlxnb.kernels import patch_mlx_lm

from .pairs import Arm, Comparison, alternate

STEP = 256  # tokens of a prompt at once, as the mlx backend takes them on a CPU
TOKENS = 12  # of decode
GROUP_SIZE = 64
SHAPE: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
LENGTHS = (4096, 8192)
# Ratios to aim at, ours to the other's: memory is counted as generations to a GiB, so that more is better there too.
AGAINST_STOCK = {
    "prefill": {4096: 4.0, 8192: 4.0},
    "decode": {4096: 3.0, 8192: 3.0},
    "memory": {4096: 1.11, 8192: 1.33},
}
AGAINST_BF16 = {"prefill": 0.8, "decode": 0.8, "memory": 1.0}


@cache
def _model() -> Any:
    """Random weights in bf16."""
    import mlx.core as mx
    from mlx_lm.models.qwen3 import Model, ModelArgs

    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(SHAPE))
    model.set_dtype(mx.bfloat16)
    mx.eval(model.parameters())
    return model


def _filled(bits: int | None, length: int) -> list[Any]:
    """A cache for each layer that holds `length` tokens."""
    import mlx.core as mx
    from mlx_lm.models.cache import KVCache, QuantizedKVCache

    caches = []
    for layer in range(SHAPE["num_hidden_layers"]):
        shape = (1, SHAPE["num_key_value_heads"], length, SHAPE["head_dim"])
        sides = (mx.random.normal(shape, key=mx.random.key(2 * layer + i)).astype(mx.bfloat16) for i in range(2))
        filled = KVCache() if bits is None else QuantizedKVCache(GROUP_SIZE, bits)
        filled.update_and_fetch(*sides)
        caches.append(filled)
        mx.eval(filled.state[:2])
    return caches


def _prefill(caches: list[Any]) -> float:
    """Tokens per second of one piece of a prompt; the caches are as before it."""
    import mlx.core as mx

    tokens = mx.arange(STEP)[None] + 5
    start = time.perf_counter()
    _model()(tokens, cache=caches)
    mx.eval([c.state[:2] for c in caches])  # and no logits: as mlx-lm's generate_step does it
    rate = STEP / (time.perf_counter() - start)
    for c in caches:
        c.trim(STEP)
    return rate


def _decode(caches: list[Any]) -> float:
    """Tokens per second of greedy decode; the caches are as before it."""
    import mlx.core as mx

    token = mx.array([[5]])
    start = time.perf_counter()
    for _ in range(TOKENS):
        token = _model()(token, cache=caches)[:, -1:].argmax(-1)
        mx.eval(token)
    rate = TOKENS / (time.perf_counter() - start)
    for c in caches:
        c.trim(TOKENS)
    return rate


def _memory(bits: int | None, length: int) -> float:
    """Generations to a GiB: by the peak over a prompt's last piece and the decode after it, weights included."""
    import mlx.core as mx

    mx.clear_cache()
    mx.reset_peak_memory()
    caches = _filled(bits, length - STEP)
    _prefill(caches)
    _decode(caches)
    return 2**30 / mx.get_peak_memory()


def _arm(measured: str, bits: int | None, length: int) -> Arm:
    _model()
    if measured == "memory":
        return partial(_memory, bits, length)
    # The caches live as long as the arm.
    if measured == "prefill":
        return partial(_prefill, _filled(bits, (length - STEP) // 2))
    return partial(_decode, _filled(bits, length))


def _patched(arm: Arm) -> Arm:
    def run() -> float:
        with patch_mlx_lm():
            return arm()

    return run


def compare(measured: str, bits: int, length: int, other: str) -> Comparison:
    """`measured` is prefill, decode or memory; `other` the arm ours is held against, stock or bf16."""
    ours = _patched(_arm(measured, bits, length))
    _patched(_arm("prefill", bits, length))()  # what tuning measures is not part of it
    _patched(_arm("decode", bits, length))()
    theirs = _arm(measured, bits if other == "stock" else None, length)
    pairs = {"prefill": 3 if other == "stock" else 6, "decode": 8, "memory": 1}[measured]
    slow = measured == "memory" or (measured, other) == ("prefill", "stock")  # a minute at a time, not a second
    rates = alternate(ours, theirs, pairs, warm_up=0 if slow else 1)
    goal: float | None = AGAINST_STOCK[measured][length] if other == "stock" else AGAINST_BF16[measured]
    if bits == 4 and (measured, other) == ("decode", "bf16"):
        goal = None
    name = f"kv{bits}-{length}-{measured}-{other}"
    return Comparison(name, f"{bits}-bit ours", other, "1/GiB" if measured == "memory" else "tok/s", rates, goal)


BENCHMARKS: dict[str, Callable[[], Comparison]] = {
    f"kv{bits}-{length}-{measured}-{other}": partial(compare, measured, bits, length, other)
    for bits in (8, 4)
    for length in LENGTHS
    for measured in ("prefill", "decode", "memory")
    for other in ("stock", "bf16")
}


# Whole prompts, minutes each, so that they run by name only.


def _whole(bits: int | None, length: int) -> tuple[float, float, float]:
    """Prefill and decode in tokens per second, and the peak in bytes, of a prompt of `length` and 33 tokens more."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import KVCache, QuantizedKVCache

    layers = range(SHAPE["num_hidden_layers"])
    caches = [KVCache() if bits is None else QuantizedKVCache(GROUP_SIZE, bits) for _ in layers]
    prompt, times = mx.random.randint(0, SHAPE["vocab_size"], (length,), key=mx.random.key(length)), []
    mx.clear_cache()
    mx.reset_peak_memory()
    start = time.perf_counter()
    for _ in generate_step(prompt, _model(), max_tokens=33, prompt_cache=caches, prefill_step_size=STEP):
        times.append(time.perf_counter())
    return length / (times[0] - start), 32 / (times[-1] - times[0]), mx.get_peak_memory()


def whole(bits: int, length: int) -> list[Comparison]:
    """Every measure against both others, the three arms taking turns: two rounds of them up to 4k, one beyond."""
    arms: dict[str, Callable[[], tuple[float, float, float]]] = {
        "bf16": partial(_whole, None, length),
        "ours": lambda: _patched_whole(bits, length),
        "stock": partial(_whole, bits, length),
    }
    _patched_whole(bits, 1024)  # what tuning measures is not part of it
    rounds = []
    for i in range(2 if length <= 4096 else 1):
        order = list(arms) if i % 2 == 0 else list(arms)[::-1]
        rounds.append({name: arms[name]() for name in order})
    return [
        _of_whole(rounds, measured, at, other, f"whole-kv{bits}-{length}")
        for at, measured in enumerate(("prefill", "decode", "memory"))
        for other in ("stock", "bf16")
    ]


def _patched_whole(bits: int, length: int) -> tuple[float, float, float]:
    with patch_mlx_lm():
        return _whole(bits, length)


def _of_whole(rounds: list[dict[str, Any]], measured: str, at: int, other: str, name: str) -> Comparison:
    rates = [(each["ours"][at], each[other][at]) for each in rounds]
    unit = "tok/s"
    if measured == "memory":
        rates, unit = [(2**30 / ours, 2**30 / theirs) for ours, theirs in rates], "1/GiB"
    return Comparison(f"{name}-{measured}-{other}", "ours", other, unit, rates)


BY_NAME_ONLY: dict[str, Callable[[], list[Comparison]]] = {
    f"whole-kv{bits}-{length}": partial(whole, bits, length) for bits in (8, 4) for length in LENGTHS
}
