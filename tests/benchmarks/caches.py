"""What the caches save and cost, through the engine, on a tiny random model with a long context."""

from __future__ import annotations

import itertools
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from mlxnb import Request
from mlxnb.backends.base import Watch
from mlxnb.backends.reuse import Feed
from mlxnb.runtime import Engine
from mlxnb.runtime.caches import Caches
from tests.tiny import rope, save

from .pairs import Comparison, alternate

DOCUMENT = 4000  # tokens, about
WORDS = ["deque", "heap", "chain", "count", "module", "returns", "the", "items", "of", "a", "list", "in", "order"]
DIFFERS: dict[str, Any] = {
    "rope_parameters": rope(10000.0),
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 16384,
    "tie_word_embeddings": True,
}


@cache
def _model() -> str:
    return str(save("Qwen3Config", DIFFERS, Path(tempfile.mkdtemp()), dtype="bfloat16"))


def _text(words: int, seed: int) -> str:
    return " ".join(WORDS[(i * i + seed * (i % 7) + seed) % len(WORDS)] for i in range(words))


def _prompt(question: int) -> str:
    return f"{_text(DOCUMENT * 15 // 16, 1)}\n\n{_text(12, question)} {question}?"


def _engine(folder: Path | None) -> Engine:
    engine = Engine(caching=folder is not None)
    if folder is not None:
        engine.cache = engine._models._caches = Caches(engine.call, folder)
    return engine


def _ask(engine: Engine, backend: str, prompt: str, tokens: int = 1) -> Any:
    return engine.generate(prompt, model=_model(), backend=backend, raw=True, max_tokens=tokens)


def _settled(engine: Engine) -> None:
    """Wait for what is kept after an answer, on disk too."""
    engine.call(lambda: None)
    if engine.cache is not None:
        engine.cache.flush()


def second_question(backend: str) -> Comparison:
    """First token of another question on a document that was read, against what is left to do with its state at hand:
    the prompt into tokens, and the new ones through the model.
    """
    engine, numbers = _engine(Path(tempfile.mkdtemp())), itertools.count(1)
    reused = _ask(engine, backend, _prompt(0))

    def ours() -> float:
        result = _ask(engine, backend, _prompt(next(numbers)))
        assert result.provenance.reused_tokens > DOCUMENT / 2
        _settled(engine)
        return 1 / result.timings.ttft

    rates = alternate(ours, partial(_bare, engine, backend, numbers), pairs=10)
    assert reused.provenance.prompt_tokens > DOCUMENT
    engine.close()
    return Comparison(f"second question, {backend}", "reused", "new tokens only", "1/s", rates, 1 / 1.15)


def _bare(engine: Engine, backend: str, numbers: Any) -> float:
    """First tokens per second of the loop alone, from a state of the document that is there already."""

    def run(model: Any) -> float:
        request, watch = Request.of(_prompt(next(numbers)), raw=True, model=_model(), max_tokens=1), Watch()
        reuse = model._reuse(request, watch)
        found = reuse.prefixes.memory.lookup(reuse.namespace, model.tokenizer.prompt(request).ids, model.states)
        assert found.state is not None
        began = time.perf_counter()
        ids = model.tokenizer.prompt(request).ids
        tokens = model.tokens(ids, request, 1, watch, Feed(found.state, found.length))
        next(tokens)
        took = time.perf_counter() - began
        tokens.close()
        return 1 / took

    return engine.call_with(_model(), run, backend)


def after_restart(backend: str) -> Comparison:
    """The same with an engine that finds the state on disk only; loading the model is left out."""
    folder, numbers = Path(tempfile.mkdtemp()), itertools.count(1)
    first = _engine(folder)
    _ask(first, backend, _prompt(0))
    _settled(first)

    def ours() -> float:
        engine = _engine(folder)
        engine.load(_model(), backend)
        engine.generate("warm", model=_model(), backend=backend, raw=True, max_tokens=1, cache="off")
        result = _ask(engine, backend, _prompt(next(numbers)))
        assert result.provenance.reused_tokens > DOCUMENT / 2
        engine.close()
        return 1 / result.timings.ttft

    rates = alternate(ours, partial(_bare, first, backend, numbers), pairs=6, warm_up=1)
    first.close()
    return Comparison(f"after a restart, {backend}", "from disk", "new tokens only", "1/s", rates, 1 / 1.5)


def everything_cold(backend: str, words: int) -> Comparison:
    """Prompts that nothing is kept of, with both caches and with none: whole calls, one behind the other."""
    arms, numbers = [_engine(Path(tempfile.mkdtemp())), _engine(None)], itertools.count(1)

    def arm(engine: Engine) -> float:
        _settled(engine)
        began = time.perf_counter()
        result = _ask(engine, backend, f"{next(numbers)} {_text(words, next(numbers))}", tokens=32)
        engine.call(lambda: None)  # what is kept is kept after the answer, and the next would wait for it
        assert result.provenance.reused_tokens < 10
        return 1 / (time.perf_counter() - began)

    rates = alternate(partial(arm, arms[0]), partial(arm, arms[1]), pairs=16)
    for engine in arms:
        engine.close()
    return Comparison(f"{words} words cold, {backend}", "with caches", "without", "1/s", rates, 0.98)


def cached_cell() -> dict[str, Any]:
    """A `%%generate` cell that was answered before, end to end in an IPython shell."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    import mlxnb

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "mlxnb")
    cell = "%%generate --into cached_answer\nWhat does itertools.chain do?"
    times = []
    for i in range(25):
        began = time.perf_counter()
        with capture_output():
            shell.run_cell(cell)
        if i >= 5:
            times.append(1000 * (time.perf_counter() - began))
    assert shell.user_ns["cached_answer"].cached
    mlxnb.engine().close()
    times.sort()
    return {
        "benchmark": "cached cell",
        "ours": f"{times[len(times) // 2]:.3g} ms",
        "theirs": "",
        "ratio": None,
        "interval": [round(times[0], 2), round(times[-1], 2)],
        "pairs": len(times),
        "goal": 10,
        "rates": times,
    }


BENCHMARKS: dict[str, Any] = {
    **{
        f"{name}-{backend}": partial(run, backend)
        for backend in ("mlx", "torch")
        for name, run in (("second", second_question), ("restart", after_restart))
    },
    "cold-mlx": partial(everything_cold, "mlx", 500),
    "cold-torch": partial(everything_cold, "torch", 500),
    "cold-document-torch": partial(everything_cold, "torch", DOCUMENT),
    "cached-cell": cached_cell,
}
