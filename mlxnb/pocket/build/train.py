"""Train the pocket model on the CPU: Muon on the matrices, AdamW on the rest, loss on the answers only."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from .layout import configuration, write_model
from .packing import batches
from .tokenizer import read_tokenizer

SAVE_EVERY = 500  # steps
LOG_EVERY = 50
COMPILERS = ("c++", "g++", "clang++")
WORTH_COMPILING = 500  # steps
Optimizers = list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults made the weights that ship."""

    steps: int = 7_000
    muon_rate: float = 0.01
    adam_rate: float = 0.015
    warmup: int = 100  # steps of a linear rise
    half_wave: int = 9_000  # then the rate falls slowly, along a cosine of this many steps
    cooldown: int = 4_000  # from this step on it falls linearly
    final: float = 0.02  # to this share of the peak
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    threads: int = 1


def train(folder: Path, size: dict[str, int], recipe: Recipe) -> dict[str, Any]:
    """Train a model with the folder's tokenizer, write it there and return figures; goes on from a checkpoint."""
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    tokenizer = read_tokenizer(folder)
    config = configuration(size, tokenizer)
    model = Qwen3ForCausalLM(Qwen3Config(**config))
    soften(model)
    optimizers = make_optimizers(model, recipe)
    first, figures = resume(folder, model, optimizers)
    model.train()
    if recipe.steps > WORTH_COMPILING and any(map(shutil.which, COMPILERS)):
        model.model.compile(dynamic=False)  # takes a minute, then every step takes little more than half as long
    running = figures["loss"]
    before, cpu_before = time.perf_counter(), time.process_time()
    for step, (ids, learn) in enumerate(batches(tokenizer, recipe.seed)):
        if step >= recipe.steps:
            break
        if step < first:  # the batches come in the same order, so those already seen are passed over
            continue
        loss = update(model, optimizers, ids, learn, rate(step, recipe), recipe.clip)
        running = loss if step == 0 else 0.95 * running + 0.05 * loss
        figures["tokens"] += ids.numel()
        if step % LOG_EVERY == 0:
            print(f"step {step} loss {running:.4f} {time.perf_counter() - before:.0f} s", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            now, cpu_now = time.perf_counter(), time.process_time()
            figures |= {"steps": step + 1, "loss": running}
            figures["wall_s"] += now - before
            figures["cpu_s"] += cpu_now - cpu_before
            before, cpu_before = now, cpu_now
            save(folder, model, optimizers, config, figures)
    figures |= {"parameters": sum(p.numel() for p in model.parameters()), "recipe": asdict(recipe)}
    (folder / "training.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (folder / "checkpoint.pt").unlink()
    return figures


def soften(model: Qwen3ForCausalLM) -> None:
    """Start with smaller output projections, so that the residual stream does not grow with depth."""
    scale = 1 / math.sqrt(2 * model.config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data.mul_(scale)


def make_optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> Optimizers:
    """Give the matrices to Muon, the embedding and the norms to AdamW."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    embedding = [p for n, p in named if "embed" in n]
    norms = [p for _, p in named if p.ndim != 2]
    decay = recipe.weight_decay
    muon = torch.optim.Muon(
        matrices, lr=recipe.muon_rate, momentum=0.95, weight_decay=decay, adjust_lr_fn="original", ns_steps=4
    )
    groups = [{"params": embedding, "weight_decay": decay}, {"params": norms, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=recipe.adam_rate, betas=(0.9, 0.98), fused=True)
    optimizers: Optimizers = [muon, adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def rate(step: int, recipe: Recipe) -> float:
    """Return the share of the peak learning rate: a linear warm-up, the start of a cosine, a linear cool-down."""
    at = min(step, recipe.cooldown)
    share = recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * at / recipe.half_wave))
    if step > recipe.cooldown:
        left = (recipe.steps - step) / (recipe.steps - recipe.cooldown)
        share = recipe.final + (share - recipe.final) * left
    return min(1.0, (step + 1) / recipe.warmup) * share


def update(
    model: Qwen3ForCausalLM, optimizers: Optimizers, ids: Tensor, learn: Tensor, share: float, clip: float
) -> float:
    """Take one step and return its loss in nats per learned token."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False)[0]
        wanted = learn[:, 1:]
        logits = F.linear(hidden[wanted], model.lm_head.weight)  # only where something is learned
    loss = F.cross_entropy(logits.float(), ids[:, 1:][wanted])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def save(
    folder: Path, model: Qwen3ForCausalLM, optimizers: Optimizers, config: dict[str, Any], figures: dict[str, Any]
) -> None:
    """Write usable weights, and a checkpoint to go on from."""
    write_model(dict(model.state_dict()), config, folder)
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "figures": figures}
    torch.save(state, folder / "checkpoint.new")
    (folder / "checkpoint.new").replace(folder / "checkpoint.pt")


def resume(folder: Path, model: Qwen3ForCausalLM, optimizers: Optimizers) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint where there is one and return the next step and the figures so far."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, {"steps": 0, "tokens": 0, "loss": 0.0, "wall_s": 0.0, "cpu_s": 0.0}
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["figures"]["steps"], state["figures"]
