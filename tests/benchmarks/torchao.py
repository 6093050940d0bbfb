"""torchao's quantised layers against our own: processor time of a token on one thread, in Qwen3-0.6B's shape."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mlxnb.backends import torch_quantize
from mlxnb.quiet import import_transformers

from .quantised import QWEN3_06B

PROMPT, TOKENS = 16, 12


def arms() -> dict[str, Callable[[Any], object]]:
    """What quantises a model in place, by name. torchao is no dependency of ours: pip install torchao."""
    from torchao.quantization import (  # type: ignore[import-not-found]
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    return {
        "bf16": lambda model: None,
        "ours int8": lambda model: torch_quantize.quantise(model, "int8"),
        "ours int4": lambda model: torch_quantize.quantise(model, "int4"),
        "torchao int8 weight-only": lambda model: quantize_(model, Int8WeightOnlyConfig()),
        "torchao int8 dynamic": lambda model: quantize_(model, Int8DynamicActivationInt8WeightConfig()),
    }


def torchao() -> list[dict[str, Any]]:
    """Milliseconds of a processor for a token of transformers' forward pass, random weights in bfloat16, eager."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers = import_transformers()
    config = transformers.Qwen3Config(**QWEN3_06B)
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    took: dict[str, float] = {}
    for name, quantise in arms().items():
        model = copy.deepcopy(base)
        quantise(model)
        decoded(model)
        took[name] = 1e3 * float(np.median(decoded(model)))
        del model
        gc.collect()
    torch.set_num_threads(before)
    return [
        {"benchmark": "torchao", "ours": f"{name} {ms:.4g} ms", "ratio": round(took["bf16"] / ms, 3)}
        for name, ms in took.items()
    ]


def decoded(model: Any) -> list[float]:
    """Seconds of this thread for each token after a prompt."""
    import torch

    from mlxnb.backends.torch_kv import new_cache

    cache, seconds = new_cache(model.config), []
    with torch.inference_mode():
        model(input_ids=torch.arange(100, 100 + PROMPT)[None], past_key_values=cache, use_cache=True)
        for _ in range(TOKENS):
            began = time.thread_time()
            model(input_ids=torch.tensor([[5]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            seconds.append(time.thread_time() - began)
    return seconds


BY_NAME_ONLY = {"torchao": torchao}  # it is installed by hand
