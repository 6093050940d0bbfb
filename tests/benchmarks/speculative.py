"""Speculative decoding against plain decoding of the same tokens, both through `engine.generate`, in decode tokens/s.

The pocket model is asked the same question twice in one conversation, so that its answer copies from its prompt, and
for a random text, which hardly repeats anything. The large model is random, in the shape of Qwen3-0.6B but for its
vocabulary, the pocket model's. Greedily it soon says one token for ever, so that a lookup is nearly always right: that
shows what verified tokens are worth at most. Drawn at temperature 1 it repeats nothing: that shows what a lookup costs.
Its draft model is its own first layers: that shows what a draft model costs at the acceptance which is stated, and says
nothing of what a trained pair would reach.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlxnb.request import Message
from mlxnb.result import Speculation
from mlxnb.runtime import Engine

from ..tiny import add_tokenizer
from .pairs import Arm, Comparison, alternate

QUESTION = "What does itertools.chain do?"
LARGE = {
    "vocab_size": 4096,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
DRAFT_LAYERS = 4
REPEATING: dict[str, Any] = {"max_tokens": 48}
DRAWN: dict[str, Any] = {"max_tokens": 48, "temperature": 1.0, "seed": 1}


def _arm(engine: Engine, prompt: Any, seen: list[Speculation], **options: Any) -> Arm:
    """Decode rate of an answer; `seen` gets how speculation went."""

    def run() -> float:
        result = engine.generate(prompt, **options)
        if result.speculation is not None:
            seen.append(result.speculation)
        return float(result.timings.decode_rate or 0)

    return run


def compare(engine: Engine, name: str, prompt: Any, draft: str, pairs: int = 12, **options: Any) -> Comparison:
    """With a draft against without; both give the same tokens where the model is float32."""
    seen: list[Speculation] = []
    drafted = _arm(engine, prompt, seen, draft=draft, **options)
    rates = alternate(drafted, _arm(engine, prompt, [], **options), pairs, warm_up=1)
    s = seen[-1]
    told = f"accepted {s.accepted}/{s.proposed}, {s.tokens_per_step or 1:.2f} tokens a step"
    return Comparison(f"{name} ({told})", draft if draft == "lookup" else "draft model", "plain", "tok/s", rates)


def pocket(backend: str) -> list[Comparison]:
    """Lookup on the pocket model: a copy, and a text of its own."""
    engine = Engine(caching=False)
    answer = engine.generate(QUESTION, backend=backend).text
    again = [Message("user", QUESTION), Message("assistant", answer), Message("user", QUESTION)]
    hot = {"temperature": 1.5, "seed": 1, "max_tokens": 200}
    made = [
        compare(engine, f"{backend}, pocket, copies", again, "lookup", backend=backend),
        compare(engine, f"{backend}, pocket, copies nothing", "Tell me anything.", "lookup", backend=backend, **hot),
        compare(engine, f"{backend}, pocket, its own draft", QUESTION, "pocket", backend=backend),
    ]
    engine.close()
    return made


def save_large(folder: Path) -> tuple[Path, Path]:
    """The large random model in bf16 and its first layers as a model, each in a folder of its own."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    whole = Qwen3ForCausalLM(Qwen3Config(**LARGE)).to(torch.bfloat16)
    part = Qwen3ForCausalLM(Qwen3Config(**{**LARGE, "num_hidden_layers": DRAFT_LAYERS})).to(torch.bfloat16)
    part.load_state_dict(whole.state_dict(), strict=False)
    for name, model in (("whole", whole), ("part", part)):
        model.save_pretrained(folder / name)
        add_tokenizer(folder / name)
    return folder / "whole", folder / "part"


@contextmanager
def _large() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        whole, part = save_large(Path(folder))
        yield str(whole), str(part)


def large() -> list[Comparison]:
    """Lookup and a draft model on the large random model, on torch."""
    with _large() as (whole, part):
        engine = Engine(caching=False)
        options: dict[str, Any] = {"model": whole, "backend": "torch", "raw": True}
        loaded = engine._worker.call(lambda: engine._models.get(whole, "torch"))
        loaded.model.tokenizer.end_ids = frozenset()
        prompt = "itertools.chain, itertools.count, collections.deque, os.path.join, math.sqrt. " * 4
        cases = [
            ("torch, 0.4B bf16, repeats itself", "lookup", REPEATING),
            ("torch, 0.4B bf16, repeats nothing", "lookup", DRAWN),
            ("torch, 0.4B bf16, first layers as draft", part, REPEATING),
            ("torch, 0.4B bf16, first layers as draft, drawn", part, DRAWN),
        ]
        made = [compare(engine, name, prompt, draft, 6, **options, **sampling) for name, draft, sampling in cases]
        engine.close()
    return made


def speculative() -> list[Comparison]:
    """All of them."""
    return [*pocket("torch"), *pocket("mlx"), *large()]
