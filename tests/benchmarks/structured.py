"""Answers kept to a schema: how many of a thousand random ones are valid, and what the mask costs of the decode rate.

The cost is that of long answers kept to a schema against answers of the same length that are kept to nothing, and do
not end by themselves either. One schema is a list of objects that is longer than the answer may be: most of its tokens
are forced, and fed one by one here all the same. The other is a long string, in which nothing is: the mask alone. The
pocket model has 4,096 tokens and takes little time for each, which is hard for a mask; a model with as many tokens as
Qwen3, whose vocabulary is trained here on the sources of this Python, is harder: a mask is made over all of them, while
its layers are small.
"""

from __future__ import annotations

import json
import random
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from mlxnb.errors import MlxnbError
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine

from ..schemas import random_schema
from ..tiny import SHAPE, make_checkpoint, rope
from .pairs import Arm, Comparison, alternate

LONG = {
    "type": "array",
    "minItems": 200,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["river", "mountain", "city", "country"]},
            "size": {"type": "integer", "minimum": 0, "maximum": 100000},
            "known": {"type": "boolean"},
        },
        "required": ["name", "kind", "size", "known"],
        "additionalProperties": False,
    },
}
STRING = {"type": "string", "minLength": 2000}
SCHEMAS = {"objects": LONG, "a string": STRING}
ASKED: dict[str, Any] = {"raw": True, "max_tokens": 64, "temperature": 1.0, "seed": 1}
PROMPT = "Once upon a time there was a long list of places, and of each of them a long story was told:"
ROWS, PAIRS, THOUSAND, GOAL = 8, 10, 1000, 0.9
VOCABULARY = 151_936  # Qwen3's


@contextmanager
def _endless(engine: Engine, together: bool, options: dict[str, Any]) -> Iterator[None]:
    """Within, an answer without a schema does not end before its limit, and what a schema forces is fed one by one,
    unless `together`.
    """
    at = options.get("model", "pocket"), options["backend"]
    model: Any = engine.call(lambda: engine._models.get(*at).model)
    ends, drafts = model.tokenizer.end_ids, model.drafts
    model.tokenizer.end_ids, model.drafts = ends if "schema" in options else frozenset(), together
    try:
        yield
    finally:
        model.tokenizer.end_ids, model.drafts = ends, drafts


def _rate(engine: Engine, together: bool = False, **options: Any) -> Arm:
    """Decode rate of an answer."""

    def run() -> float:
        with _endless(engine, together, options):
            result = engine.generate(PROMPT, **ASKED, **options)
        assert len(result.tokens) == ASKED["max_tokens"]
        return float(result.timings.decode_rate or 0)

    return run


def _batch_rate(engine: Engine, **options: Any) -> Arm:
    """Tokens a second of a batch, from its first token to its last."""

    def run() -> float:
        requests = [Request.of(f"{PROMPT} {n}.", **ASKED, **options) for n in range(ROWS)]
        with _endless(engine, False, options):
            answers = [a for a in engine.batch(requests, progress=False) if isinstance(a, Result)]
        assert [len(answer.tokens) for answer in answers] == [ASKED["max_tokens"]] * ROWS
        times = [time for answer in answers for time in answer.timings.token_times]
        return (len(times) - 1) / (max(times) - min(times))

    return run


def cost(engine: Engine, name: str, arm: Callable[..., Arm] = _rate, **options: Any) -> list[Comparison]:
    """Decode rates with each schema and without, in turns."""
    made = []
    for kind, schema in SCHEMAS.items():
        rates = alternate(arm(engine, schema=schema, **options), arm(engine, **options), PAIRS, warm_up=1)
        made.append(Comparison(f"{name}: {kind}", "kept to a schema", "free", "tok/s", rates, GOAL))
    return made


def structured_together() -> list[Comparison]:
    """What it gains to feed together what the schema forces: both arms are kept to it."""
    engine, made = Engine(caching=False), []
    for backend in ("torch", "mlx"):
        arms = [_rate(engine, together, schema=LONG, backend=backend) for together in (True, False)]
        rates = alternate(arms[0], arms[1], 10, warm_up=1)
        made.append(Comparison(f"{backend}, pocket: forced tokens", "fed together", "one by one", "tok/s", rates))
    engine.close()
    return made


def structured_cost() -> list[Comparison]:
    """What the mask costs, one by one and in batches, with a small vocabulary and a large one."""
    made = []
    engine = Engine(caching=False)
    with tempfile.TemporaryDirectory() as folder:
        large = str(save_large_vocabulary(Path(folder) / "large"))
        for backend in ("torch", "mlx"):
            made += cost(engine, f"{backend}, pocket", backend=backend)
            made += cost(engine, f"{backend}, pocket, {ROWS} rows", _batch_rate, backend=backend)
            made += cost(engine, f"{backend}, {VOCABULARY:,} tokens", model=large, backend=backend)
        engine.close()
    return made


def save_large_vocabulary(folder: Path) -> Path:
    """A random model with a vocabulary of Qwen3's size and 8 layers of 256: about 45 million weights, in float32."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=alphabet,
        max_token_length=100,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sources(), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
    shape = {**SHAPE, "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8}
    config = Qwen3Config(**{**shape, "eos_token_id": 0, "head_dim": 64, "rope_parameters": rope(10000.0)})
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def _sources(most: int = 40_000_000) -> Iterator[str]:
    left = most
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        text = file.read_text(encoding="utf-8", errors="ignore")
        yield text
        left -= len(text)
        if left < 0:
            return


def structured_validity(number: int = THOUSAND) -> list[dict[str, Any]]:
    """A thousand random schemas and seeds over the pocket model and tiny random ones: what became of the answers."""
    rows, engine = [], Engine(caching=False)
    with tempfile.TemporaryDirectory() as folder:
        tiny = str(make_checkpoint("qwen3", Path(folder) / "qwen3"))
        places = [("pocket", "torch"), ("pocket", "mlx"), (tiny, "torch"), (tiny, "mlx")]
        each = number // len(places)
        for at, (model, backend) in enumerate(places):
            began, counts = perf_counter(), {"valid": 0, "cut": 0, "invalid": 0, "refused": 0}
            for seed in range(at * each, (at + 1) * each):
                counts[_judged(engine, seed, model=model, backend=backend)] += 1
            said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            name = f"{backend}, {'pocket' if model == 'pocket' else 'random Qwen3'}: {each} schemas"
            rows.append({"benchmark": name, "ours": said, "theirs": f"{perf_counter() - began:.0f} s", **counts})
    engine.close()
    return rows


def _judged(engine: Engine, seed: int, **options: Any) -> str:
    """`valid`, `invalid`, `cut` at the token limit, or `refused` before it began; by validators of other authors."""
    from jsonschema import Draft202012Validator

    value, rng = random_schema(seed), random.Random(seed)
    sampling = {"temperature": rng.choice((0.0, 0.7, 1.0, 1.5)), "seed": seed, "max_tokens": 400}
    job = engine.stream("Say something.", schema=value, **sampling, **options)
    try:
        result = job.result()
    except MlxnbError as err:
        print(f"schema {seed}: {err}", flush=True)
        return "refused" if job.watch.start is None else "invalid"
    if result.finish_reason != "stop":
        return "cut"
    if isinstance(value, dict):
        return "valid" if Draft202012Validator(value).is_valid(json.loads(result.text)) else "invalid"
    if isinstance(value, re.Pattern):
        return "valid" if value.fullmatch(result.text) else "invalid"
    return "valid" if result.parsed in value else "invalid"


BENCHMARKS: dict[str, Callable[[], Any]] = {
    "structured_cost": structured_cost,
    "structured_together": structured_together,
    "structured_validity": structured_validity,
}
