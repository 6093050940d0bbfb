"""What quantising costs and gains: rates on weights of Qwen3-0.6B's shape, and perplexity on the pocket model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mlxnb import pocket
from mlxnb.backends.perplexity import perplexity
from mlxnb.comparison import Ratio
from mlxnb.pocket.build.heldout import LISTS, questions
from mlxnb.request import QUANTIZE, Precision
from mlxnb.runtime import Engine
from tests.tiny import add_tokenizer

QWEN3_06B = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "bos_token_id": None,
    "eos_token_id": None,
}
PROMPT, TOKENS, ROUNDS = 256, 33, 12  # tokens of the prompt and of the answer
GOALS = {"bf16": (1.0, 1.0), "int8": (2.7, None), "int4": (3.5, None)}  # of transformers' decode and prefill rate
EACH = 5  # questions of a kind whose answers are weighed

Rates = tuple[float, float]  # tokens a second in decode and in prefill


@contextmanager
def shaped(config_class: str, shape: dict[str, Any], device: str = "cpu") -> Iterator[str]:
    """The folder of a random model in bfloat16, whose numbers are drawn on `device`."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = getattr(transformers, config_class)(**shape)
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
        del model
        yield str(add_tokenizer(Path(folder)))


def ours(
    engine: Engine, path: str, quantize: str | None, lengths: tuple[int, int] = (PROMPT, TOKENS)
) -> Callable[[], Rates]:
    """Our stream on the torch backend, as the times of its tokens tell; `lengths` of prompt and answer, in tokens."""
    precision = Precision(quantize=quantize)
    loaded = engine.call(lambda: engine._models.get(path, "torch", precision))
    assert not loaded.info.refused
    loaded.model.tokenizer.end_ids = frozenset()
    prompt = prompt_of(loaded.model.tokenizer.inner, lengths[0])

    def run() -> Rates:
        options = {"model": path, "backend": "torch", "quantize": quantize, "max_tokens": lengths[1], "raw": True}
        timings = engine.generate(prompt, **options).timings
        assert (timings.prompt_tokens, len(timings.token_times)) == lengths
        return timings.decode_rate or 0.0, timings.prefill_rate or 0.0

    return run


def prompt_of(tokenizer: Any, length: int) -> str:
    """Text of `length` tokens."""
    text = tokenizer.decode(tokenizer.encode("one two three " * length, add_special_tokens=False)[:length])
    assert len(tokenizer.encode(text, add_special_tokens=False)) == length
    return str(text)


def theirs(
    engine: Engine, path: str, lengths: tuple[int, int] = (PROMPT, TOKENS), device: str = "cpu"
) -> Callable[[], Rates]:
    """transformers' generate in bfloat16 on the engine's thread, its tokens seen by a streamer as they come."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto").to(device).eval()
    ids, tokens = torch.arange(100, 100 + lengths[0], device=device)[None], lengths[1]
    default = torch.get_num_threads()

    class Times(list[float]):
        def put(self, value: Any) -> None:
            self.append(time.perf_counter())

        def end(self) -> None:
            """Nothing is held back."""

    def generate() -> Rates:
        torch.set_num_threads(default)
        seen, start = Times(), time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, streamer=seen
            )
        first, *_, last = times = seen[1:]  # the streamer is given the prompt before anything is computed
        assert len(times) == tokens
        return (tokens - 1) / (last - first), lengths[0] / (first - start)

    return lambda: engine.call(generate)


def quantised_torch() -> list[dict[str, Any]]:
    """Decode and prefill rates of the torch backend in bfloat16, int8 and int4 against transformers in bfloat16."""
    engine = Engine(caching=False)
    with shaped("Qwen3Config", QWEN3_06B) as path:
        arms = {"transformers": theirs(engine, path)}
        arms |= {kind or "bf16": ours(engine, path, kind) for kind in (None, *QUANTIZE)}
        seen = taking_turns(arms)
        memory = {info.quantization or "bf16": info.memory for info in engine.models()}
        engine.close()
    rows = [row(seen, name, i, GOALS[name][i]) for name in GOALS for i in (0, 1)]
    return [*rows, {"benchmark": "memory", "ours": ", ".join(f"{k} {v / 1e6:.0f} MB" for k, v in memory.items())}]


def first_token() -> list[dict[str, Any]]:
    """Seconds to the first token of a prompt, in each precision: cold, which is with the model's files to be read and
    its weights quantised, and warm, the median of those after it. Nothing is compiled by any of them.
    """
    rows = []
    with shaped("Qwen3Config", QWEN3_06B) as path:
        for kind in (None, *QUANTIZE):
            engine = Engine(caching=False)
            options = {"model": path, "backend": "torch", "quantize": kind, "max_tokens": 1, "raw": True}
            seen = [engine.generate("one two three " * (PROMPT // 3), **options).timings for _ in range(ROUNDS)]
            cold, warm = seen[0].ttft or 0.0, float(np.median([timings.ttft or 0.0 for timings in seen[1:]]))
            figure = f"{kind or 'bf16'}: cold {cold:.2f} s ({seen[0].load_time:.2f} s of it loading), warm {warm:.2f} s"
            rows.append({"benchmark": "first token", "ours": figure, "pairs": len(seen) - 1})
            engine.close()
    return rows


def taking_turns(arms: dict[str, Callable[[], Rates]], rounds: int = ROUNDS) -> dict[str, list[Rates]]:
    """The rates of each arm, after one run to warm up; every other round in the opposite order."""
    seen: dict[str, list[Rates]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name in list(arms) if turn % 2 else reversed(arms):
            rates = arms[name]()
            if turn:
                seen[name].append(rates)
    return seen


def row(seen: dict[str, list[Rates]], name: str, which: int, goal: float | None) -> dict[str, Any]:
    """A row of the table; `which` is 0 for decode and 1 for prefill."""
    pairs = [(a[which], b[which]) for a, b in zip(seen[name], seen["transformers"], strict=True)]
    ours, theirs = (float(np.median([pair[i] for pair in pairs])) for i in (0, 1))
    ratio = Ratio.of(pairs)
    return {
        "benchmark": ("decode", "prefill")[which],
        "ours": f"{name} {ours:.4g} tok/s",
        "theirs": f"transformers bf16 {theirs:.4g} tok/s",
        "ratio": round(ratio.median, 3),
        "interval": [round(ratio.low, 3), round(ratio.high, 3)],
        "pairs": ratio.pairs,
        "goal": goal,
        "rates": pairs,
    }


def heldout_texts(tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Prompts and right answers of the pocket model's held-out lists, in tokens."""
    texts = []
    for part in LISTS:
        for question in questions(part, EACH):
            given = tokenizer.apply_chat_template(question.messages, add_generation_prompt=True, tokenize=False)
            ids = [tokenizer.encode(text, add_special_tokens=False) for text in (given, question.accepted[0])]
            texts.append((ids[0], [*ids[1], tokenizer.eos_token_id]))
    return texts


def heldout() -> list[dict[str, Any]]:
    """Perplexity of the answers to the pocket model's held-out questions, on both backends in each precision."""
    engine, rows, texts = Engine(caching=False), [], []
    for backend in ("torch", "mlx"):
        full = None
        for kind in (None, *QUANTIZE):
            loaded = engine.call(lambda b=backend, k=kind: engine._models.get(pocket.NAME, b, Precision("float32", k)))
            texts = texts or heldout_texts(loaded.model.tokenizer.inner)
            found = engine.call(lambda model=loaded.model, texts=texts: perplexity(model, texts))
            full = full or found.value
            name = f"{backend} {loaded.info.quantization or 'float32'}"
            figure = f"{name}: perplexity {found.value:.5f}"
            change = found.value / full
            rows.append({"benchmark": "held-out", "ours": figure, "ratio": round(change, 5), "pairs": found.tokens})
    engine.close()
    return rows


BENCHMARKS = {"quantised-torch": quantised_torch, "first-token": first_token, "quantised-heldout": heldout}
