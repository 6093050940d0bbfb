"""Many prompts at once: a batch on torch against the same prompts one by one, and one on MLX against mlx-lm's own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.tiny import rope, save

from .pairs import Comparison, alternate

ROWS = 16
PROMPT, TOKENS = (16, 256), (64, 128)  # how many of each, from, to
PAIRS = 3  # one by one takes minutes, so it answers every fourth prompt only, short ones and long ones
EVERY = 4
MLX_PROMPT, MLX_TOKENS, MLX_PAIRS = (16, 64), (16, 32), 8  # MLX's CPU build is slow with many rows

# Qwen3-0.6B's, and one that MLX decodes at a fair rate on a CPU.
QWEN3: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "rope_parameters": rope(1_000_000.0),
    "tie_word_embeddings": True,
}
SMALL = {
    **QWEN3,
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}


def asked(
    engine: Engine, model: str, backend: str, prompt: tuple[int, int] = PROMPT, tokens: tuple[int, int] = TOKENS
) -> tuple[list[Request], list[list[int]]]:
    """Requests of mixed length that no token ends early, and the tokens of their prompts."""
    loaded = engine.call(lambda: engine._models.get(model, backend))
    tokenizer: Any = loaded.model.tokenizer  # type: ignore[attr-defined]
    tokenizer.end_ids = frozenset()
    lengths = np.linspace(*prompt, ROWS).astype(int)
    limits = np.linspace(*tokens, ROWS).astype(int)[np.random.default_rng(0).permutation(ROWS)]
    requests = [
        Request.of(f"{i} " + "word " * int(n // 2 - 1), raw=True, model=model, backend=backend, max_tokens=int(limit))
        for i, (n, limit) in enumerate(zip(lengths, limits, strict=True))
    ]
    return requests, [tokenizer.prompt(request).ids for request in requests]


def tokens_of(answers: list[Any]) -> int:
    """How many tokens a batch made, all of them together."""
    assert not [note for answer in answers for note in answer.provenance.notes if note.startswith("not batched")]
    return sum(len(answer.tokens) for answer in answers)


def torch() -> list[Comparison]:
    """engine.batch against one after the other, by engine.generate and by transformers' generate; random weights in
    Qwen3-0.6B's shape, bf16.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(save("Qwen3Config", QWEN3, Path(folder), dtype="bfloat16"))
        engine = Engine(caching=False)
        requests, prompts = asked(engine, path, "torch")

        def batch() -> float:
            start = time.perf_counter()
            made = tokens_of(engine.batch(requests))
            return made / (time.perf_counter() - start)

        def one_by_one() -> float:
            start = time.perf_counter()
            made = sum(len(engine.submit(request).result().tokens) for request in requests[1::EVERY])
            return made / (time.perf_counter() - start)

        transformers = by_transformers(path)

        def theirs() -> float:
            start = time.perf_counter()
            made = [transformers(prompts[i], requests[i].max_tokens) for i in range(1, ROWS, EVERY)]
            return sum(made) / (time.perf_counter() - start)

        batch()
        arms = {"one by one": one_by_one, "transformers, one by one": theirs}
        rates = {name: alternate(batch, arm, pairs=PAIRS, warm_up=0) for name, arm in arms.items()}
        engine.close()
    return [Comparison("batch-torch", "engine.batch", arm, "tok/s", rates[arm], goal=6.0) for arm in arms]


def by_transformers(path: str) -> Callable[[list[int], int], int]:
    """transformers' greedy generate: it answers a prompt with as many tokens as it is told, and says how many."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()

    def answer(ids: list[int], tokens: int) -> int:
        given = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return int(out.shape[1] - len(ids))

    return answer


def mlx() -> Comparison:
    """engine.batch against mlx_lm.batch_generate for the same prompts, a small random model in float32."""
    from mlx_lm import batch_generate, load

    with tempfile.TemporaryDirectory() as folder:
        path = str(save("Qwen3Config", SMALL, Path(folder)))
        engine = Engine(caching=False)
        requests, prompts = asked(engine, path, "mlx", MLX_PROMPT, MLX_TOKENS)
        model, tokenizer = load(path)[:2]
        tokenizer.eos_token_ids = set()
        limits = [request.max_tokens for request in requests]

        def ours() -> float:
            start = time.perf_counter()
            made = tokens_of(engine.batch(requests))
            return made / (time.perf_counter() - start)

        def theirs() -> float:
            start = time.perf_counter()
            batch_generate(model, tokenizer, prompts, max_tokens=limits)
            return sum(limits) / (time.perf_counter() - start)

        rates = alternate(ours, theirs, pairs=MLX_PAIRS, warm_up=1)
        engine.close()
    return Comparison("batch-mlx", "engine.batch", "mlx_lm.batch_generate", "tok/s", rates, goal=1.0)


BENCHMARKS = {"batch-mlx": mlx}
BY_NAME_ONLY = {"batch-torch": torch}  # ten minutes
