"""onnxruntime-genai beside torch and transformers: rates at Qwen3-0.6B's shape, perplexity on the pocket model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxnb import pocket
from mlxnb.backends.perplexity import perplexity
from mlxnb.models import ModelSource, resolve
from mlxnb.models.onnx_export import to_onnx
from mlxnb.request import QUANTIZE
from mlxnb.runtime import Engine

from .quantised import (
    PROMPT,
    QWEN3_06B,
    TOKENS,
    Rates,
    heldout_texts,
    ours,
    prompt_of,
    row,
    shaped,
    taking_turns,
    theirs,
)


def genai(engine: Engine, folder: Path, lengths: tuple[int, int] = (PROMPT, TOKENS)) -> Callable[[], Rates]:
    """Our stream on the onnx backend, by the times of its tokens; `lengths` of prompt and answer, in tokens."""
    loaded = engine.call(lambda: engine._models.get(str(folder), "onnx"))
    loaded.model.tokenizer.end_ids = frozenset()
    prompt = prompt_of(loaded.model.tokenizer.inner, lengths[0])

    def run() -> Rates:
        options = {"model": str(folder), "backend": "onnx", "max_tokens": lengths[1], "raw": True, "cache": "off"}
        timings = engine.generate(prompt, **options).timings
        assert (timings.prompt_tokens, len(timings.token_times)) == lengths
        return timings.decode_rate or 0.0, timings.prefill_rate or 0.0

    return run


def beside_onnx() -> list[dict[str, Any]]:
    """Decode and prefill rates of the torch and onnx backends, in turns, against transformers in bfloat16."""
    engine = Engine(caching=False)
    with shaped("Qwen3Config", QWEN3_06B) as path, tempfile.TemporaryDirectory() as out:
        source = ModelSource("random", Path(path), "path")
        folders = {kind: to_onnx(source, Path(out) / kind, quantize=kind) for kind in QUANTIZE}
        arms = {"transformers": theirs(engine, path)}
        arms |= {f"torch {kind or 'bf16'}": ours(engine, path, kind) for kind in (None, *QUANTIZE)}
        arms |= {f"onnx {kind}": genai(engine, folder) for kind, folder in folders.items()}
        seen = taking_turns(arms)
        engine.close()
    return [row(seen, name, i, None) for name in arms if name != "transformers" for i in (0, 1)]


def heldout() -> list[dict[str, Any]]:
    """Perplexity of the answers to the pocket model's held-out questions, exported in each precision."""
    engine, rows = Engine(caching=False), []
    with tempfile.TemporaryDirectory() as out:
        full = None
        for kind in (None, *QUANTIZE):
            folder = to_onnx(resolve(pocket.NAME), Path(out) / str(kind), quantize=kind)
            loaded = engine.call(lambda folder=folder: engine._models.get(str(folder), "onnx"))
            texts = heldout_texts(loaded.model.tokenizer.inner)
            found = engine.call(lambda model=loaded.model, texts=texts: perplexity(model, texts))
            full = full or found.value
            figure = f"onnx {loaded.info.quantization or loaded.info.dtype}: perplexity {found.value:.5f}"
            change = round(found.value / full, 5)
            rows.append({"benchmark": "held-out", "ours": figure, "ratio": change, "pairs": found.tokens})
        engine.close()
    return rows


BENCHMARKS = {"beside-onnx": beside_onnx, "onnx-heldout": heldout}
