"""llama.cpp beside the torch backend and transformers: rates on weights of Qwen3-0.6B's shape, the same in each arm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxnb.models import ModelSource
from mlxnb.models.gguf import to_gguf
from mlxnb.models.gguf_info import gguf_info
from mlxnb.request import QUANTIZE
from mlxnb.runtime import Engine

from .quantised import PROMPT, QWEN3_06B, TOKENS, Rates, ours, prompt_of, row, shaped, taking_turns, theirs

KINDS = (None, "q8_0", "q4_0")  # None for bfloat16, as it is stored


def llama_cpp(engine: Engine, file: Path, lengths: tuple[int, int] = (PROMPT, TOKENS)) -> Callable[[], Rates]:
    """Our stream on the llamacpp backend, by the times of its tokens; `lengths` of prompt and answer, in tokens."""
    loaded = engine.call(lambda: engine._models.get(str(file), "llamacpp"))
    loaded.model.tokenizer.end_ids = frozenset()
    prompt = prompt_of(loaded.model.tokenizer.inner, lengths[0])

    def run() -> Rates:
        options = {"model": str(file), "backend": "llamacpp", "max_tokens": lengths[1], "raw": True}
        timings = engine.generate(prompt, **options).timings
        assert (timings.prompt_tokens, len(timings.token_times)) == lengths
        return timings.decode_rate or 0.0, timings.prefill_rate or 0.0

    return run


def written(path: str, folder: str, kind: str | None) -> Path:
    """The model in `path` as GGUF."""
    return to_gguf(ModelSource("random", Path(path), "path"), Path(folder) / f"{kind or 'bf16'}.gguf", quantize=kind)


def beside_llama_cpp() -> list[dict[str, Any]]:
    """Decode and prefill rates of the torch and llamacpp backends, in turns, against transformers in bfloat16."""
    engine = Engine(caching=False)
    with shaped("Qwen3Config", QWEN3_06B) as path, tempfile.TemporaryDirectory() as folder:
        arms = {"transformers": theirs(engine, path)}
        arms |= {f"torch {kind or 'bf16'}": ours(engine, path, kind) for kind in (None, *QUANTIZE)}
        files = {kind or "bf16": written(path, folder, kind) for kind in KINDS}
        arms |= {f"llama.cpp {kind}": llama_cpp(engine, file) for kind, file in files.items()}
        seen = taking_turns(arms)
        sizes = ", ".join(f"{kind} {gguf_info(file).weight_bytes / 1e6:.0f} MB" for kind, file in files.items())
        engine.close()
    rows = [row(seen, name, i, None) for name in arms if name != "transformers" for i in (0, 1)]
    return [*rows, {"benchmark": "GGUF files", "ours": sizes}]


BENCHMARKS = {"beside-llama.cpp": beside_llama_cpp}
