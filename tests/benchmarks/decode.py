"""Decode rate on the pocket model: our engine against the bare library loops, and one backend against the other."""

from __future__ import annotations

import time
from typing import Any

from mlxnb import pocket
from mlxnb.request import Precision
from mlxnb.runtime import Engine

from .pairs import Arm, Comparison, alternate

PROMPT = "Which functions are in the os module?"
TOKENS = 300  # every arm makes exactly as many: end-of-turn tokens are switched off in all of them


def engine_stream(engine: Engine, backend: str, dtype: str | None = None) -> Arm:
    """Tokens per second after the first, as the reader of `engine.stream` sees them come."""
    loaded = engine._worker.call(lambda: engine._models.get("pocket", backend, Precision(dtype)))
    loaded.model.tokenizer.end_ids = frozenset()

    def run() -> float:
        times = []
        for chunk in engine.stream(PROMPT, backend=backend, dtype=dtype, max_tokens=TOKENS):
            if chunk.token is not None:
                times.append(time.perf_counter())
        assert len(times) == TOKENS
        return (TOKENS - 1) / (times[-1] - times[0])

    return run


def engine_whole(engine: Engine, backend: str) -> Arm:
    """Tokens per second of a whole call, prefill included."""
    engine_stream(engine, backend)

    def run() -> float:
        start = time.perf_counter()
        result = engine.generate(PROMPT, backend=backend, max_tokens=TOKENS)
        assert len(result.tokens) == TOKENS
        return TOKENS / (time.perf_counter() - start)

    return run


def mlx_lm_stream() -> Arm:
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(pocket.path()))
    tokenizer.eos_token_ids = set()
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], add_generation_prompt=True)

    def run() -> float:
        times = [time.perf_counter() for _ in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=TOKENS)]
        return (len(times) - 1) / (times[-1] - times[0])

    return run


def transformers_generate(engine: Engine) -> Arm:
    """On the engine's thread too: two threads that each keep a pool of OpenMP threads slow each other down."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pocket.path())
    model: Any = AutoModelForCausalLM.from_pretrained(pocket.path(), dtype="auto")
    model.generation_config.eos_token_id = None
    messages = [{"role": "user", "content": PROMPT}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    default = torch.get_num_threads()

    def run() -> float:
        return engine._worker.call(generate)

    def generate() -> float:
        torch.set_num_threads(default)
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        made = out.shape[1] - inputs["input_ids"].shape[1]
        assert made == TOKENS
        return made / (time.perf_counter() - start)

    return run


def mlx() -> Comparison:
    """engine.stream on mlx against mlx_lm.stream_generate."""
    engine = Engine(caching=False)
    rates = alternate(engine_stream(engine, "mlx"), mlx_lm_stream())
    engine.close()
    return Comparison("mlx", "engine.stream", "mlx_lm.stream_generate", "tok/s", rates, goal=0.97)


def torch() -> Comparison:
    """engine.generate on torch against model.generate."""
    engine = Engine(caching=False)
    theirs = transformers_generate(engine)
    rates = alternate(engine_whole(engine, "torch"), theirs)
    engine.close()
    return Comparison("torch", "engine.generate", "model.generate", "tok/s", rates, goal=1.0)


def decode() -> Comparison:
    """The torch backend against the mlx backend, which decides their automatic order on this kind of machine."""
    engine = Engine(caching=False)
    rates = alternate(engine_stream(engine, "torch"), engine_stream(engine, "mlx"))
    engine.close()
    return Comparison("decode", "torch", "mlx", "tok/s", rates)
