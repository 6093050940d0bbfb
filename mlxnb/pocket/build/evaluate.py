"""Measure greedy answers on the held-out lists: full precision in PyTorch, 8 and 4 bit in MLX."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .heldout import LISTS, Message, Question, long_chats, questions
from .layout import CONTEXT, MOST_NEW_TOKENS, write_json

EACH = 200  # questions of a kind in full precision
EACH_QUANTISED = 60
EACH_LONG = 60
LENGTHS = (128, 384, 640, CONTEXT - 100)  # tokens of a chat, the last leaves room for the answer
GROUP_SIZE = 64
BATCH = 64
Answer = Callable[[list[list[Message]]], list[str]]


def opening(answer: str) -> str:
    """Return what shows intent and name: up to the first code span, or the first two words where there is none."""
    before, tick, rest = answer.partition("`")
    if tick and len(before) < 40:
        return before + rest.partition("`")[0]
    return " ".join(answer.split()[:2])


def score(asked: list[Question], said: list[str]) -> dict[str, dict[str, float]]:
    """Return, for each kind and for all, the count, the share of exact answers and of right intent and name."""
    rows: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for q, text in zip(asked, said, strict=True):
        exact = text.strip() in q.accepted
        rows[q.kind].append((exact, exact or opening(text) in map(opening, q.accepted)))
    rows["all"] = [row for found in rows.values() for row in found]
    return {
        kind: {
            "n": len(found),
            "exact": round(sum(e for e, _ in found) / len(found), 3),
            "right": round(sum(r for _, r in found) / len(found), 3),
        }
        for kind, found in rows.items()
    }


def torch_answers(folder: Path) -> Answer:
    """Return a function that answers chats greedily in float32 with transformers, 64 at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(chats: list[list[Message]]) -> list[str]:
        prompts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, tokenize=False) for c in chats]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        said = [""] * len(prompts)
        for at in range(0, len(order), BATCH):
            group = order[at : at + BATCH]
            ids = tokenizer([prompts[i] for i in group], return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                out = model.generate(**ids, max_new_tokens=MOST_NEW_TOKENS, do_sample=False)
            for i, row in zip(group, out[:, ids["input_ids"].shape[1] :], strict=True):
                said[i] = tokenizer.decode(row, skip_special_tokens=True)
        return said

    return answer


def mlx_answers(folder: Path, bits: int | None) -> Answer:
    """Return a function that answers chats greedily with mlx-lm, after quantising in groups of 64."""
    import mlx.core as mx
    import mlx_lm

    with tempfile.TemporaryDirectory() as scratch:
        if bits:
            target = str(Path(scratch) / "model")
            mlx_lm.convert(str(folder), target, quantize=True, q_bits=bits, q_group_size=GROUP_SIZE)
        else:
            target = str(folder)
        model, tokenizer = mlx_lm.load(target)[:2]
        model.set_dtype(mx.float32)  # the scales too: several times faster on a CPU than bfloat16

    def answer(chats: list[list[Message]]) -> list[str]:
        prompts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, tokenize=False) for c in chats]
        return [mlx_lm.generate(model, tokenizer, prompt=p, max_tokens=MOST_NEW_TOKENS) for p in prompts]

    return answer


def evaluate(folder: Path, *, quick: bool = False) -> dict[str, Any]:
    """Measure everything the model card shows and write it to evaluation.json in the folder."""
    figures: dict[str, Any] = {"lists": {}, "context": {}}
    each, each_quantised, each_long = (2, 1, 1) if quick else (EACH, EACH_QUANTISED, EACH_LONG)
    for part, name, result in measured(folder, each, each_quantised):
        figures["lists"].setdefault(part, {})[name] = result
        print(part, name, json.dumps(result["all"]), flush=True)
    for tokens, result in context(folder, each_long):
        figures["context"][str(tokens)] = result
        print("chat of", tokens, "tokens", json.dumps(result), flush=True)
    write_json(folder / "evaluation.json", figures)
    return figures


def measured(folder: Path, each: int, each_quantised: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield list, precision and scores; the quantised scores have their full-precision ones on the same questions."""
    full = torch_answers(folder)
    for part in LISTS:
        yield part, "float32", timed(full, questions(part, each))
        yield part, "float32 sample", timed(full, questions(part, each_quantised))
    for bits in (8, 4):
        quantised = mlx_answers(folder, bits)
        for part in LISTS:
            yield part, f"{bits} bit", timed(quantised, questions(part, each_quantised))


def timed(answer: Answer, asked: list[Question]) -> dict[str, Any]:
    """Score the answers and note how long they took."""
    before = time.perf_counter()
    said = answer([q.messages for q in asked])
    return {**score(asked, said), "seconds": round(time.perf_counter() - before, 1)}


def context(folder: Path, each: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the scores of questions at the end of longer and longer chats."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = torch_answers(folder)

    def count(messages: list[Message]) -> int:
        return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    for tokens in LENGTHS:
        asked = long_chats("tuning", tokens, each, count)
        yield tokens, score(asked, answer([q.messages for q in asked]))["all"]
