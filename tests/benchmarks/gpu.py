"""A model of 8 billion random weights on a GPU, ours against transformers' generate: rates, and the shares of what the
device was measured to read and to multiply. By name only; it takes a CUDA device with room for the model twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxnb import hardware
from mlxnb.config import cache_dir
from mlxnb.decision import Rejected
from mlxnb.hardware import Speed
from mlxnb.records import Records
from mlxnb.runtime import Engine
from tests.tiny import rope

from .quantised import Rates, ours, row, shaped, taking_turns, theirs

LLAMA3_8B: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "rope_parameters": rope(500_000.0),
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
}
LENGTHS = 2048, 129  # tokens of the prompt and of the answer
ROUNDS = 7
MBU_GOAL = 0.7


@dataclass(frozen=True)
class Work:
    """What METRICS.md counts for a token: `weights` in bytes that a decode step reads, `kv` in bytes for each token
    before it; `products` of the weights and `attention` for each token before it, in operations of a prefill.

    transformers and we compute the head for the last token of a prompt only, so that its products do not count.
    """

    weights: int
    kv: int
    products: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> Work:
        """Of a dense transformers model, by its configuration: where its weights lie, and how, is another matter."""
        import torch
        from transformers import AutoModelForCausalLM

        config = model.config
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=model.dtype, attn_implementation="sdpa")
        embedding = model.get_input_embeddings().weight
        head = model.get_output_embeddings().weight
        parameters = list(model.parameters())  # a tied head is one of them once
        lookup = 0 if head is embedding else embedding.nbytes - embedding[0].nbytes
        inner = sum(p.numel() for p in parameters if p.ndim > 1 and p is not embedding and p is not head)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            weights=sum(p.nbytes for p in parameters) - lookup,
            kv=2 * config.num_hidden_layers * config.num_key_value_heads * width * embedding.element_size(),
            products=2 * inner,
            attention=4 * config.num_hidden_layers * config.num_attention_heads * width,
        )

    def mbu(self, decode_rate: float, lengths: tuple[int, int], bandwidth: float) -> float:
        """Share of `bandwidth`, in bytes a second, that decoding so many tokens a second reads."""
        context = lengths[0] + lengths[1] / 2  # on average over the answer
        return (self.weights + self.kv * context) * decode_rate / bandwidth

    def mfu(self, prefill_rate: float, lengths: tuple[int, int], peak: float) -> float:
        """Share of `peak`, in operations a second, that a prefill of so many tokens a second does."""
        context = (lengths[0] + 1) / 2  # each token sees those before it, and itself
        return (self.products + self.attention * context) * prefill_rate / peak


def gpu() -> list[dict[str, Any]]:
    """Decode and prefill in bfloat16 on the first CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("The benchmark gpu needs a CUDA device, and torch sees none here: `mlxnb doctor` says why.")
    return compared("LlamaConfig", LLAMA3_8B, measured("cuda"), LENGTHS, ROUNDS)


def measured(device: str) -> Speed:
    """How fast torch copies and multiplies on a device here."""
    found = hardware.speeds(Records(cache_dir() / "hardware", "Speeds"))
    if isinstance(found, Rejected):
        raise SystemExit(str(found))
    speed = next((s for s in found.measured if s.library.startswith("torch") and s.device == device), None)
    if speed is None:
        raise SystemExit(f"torch was not measured on {device}: {dict(found.broken) or dict(found.failed)}")
    return speed


def compared(
    config_class: str, shape: dict[str, Any], speed: Speed, lengths: tuple[int, int], rounds: int
) -> list[dict[str, Any]]:
    """Both arms on the device that `speed` is of, in turn: their rates, and what of it they use."""
    engine = Engine(caching=False)
    try:
        with shaped(config_class, shape, speed.device) as path:
            arms = {
                "bf16": ours(engine, path, None, lengths),
                "transformers": theirs(engine, path, lengths, speed.device),
            }
            work = engine.call_with(path, lambda loaded: Work.of(loaded.model), "torch")  # type: ignore[attr-defined]
            seen = taking_turns(arms, rounds)
    finally:
        engine.close()
    return [*(row(seen, "bf16", which, 1.0) for which in (0, 1)), *shares(seen, work, speed, lengths)]


def shares(seen: dict[str, list[Rates]], work: Work, speed: Speed, lengths: tuple[int, int]) -> list[dict[str, Any]]:
    """MBU and MFU of both arms, at their median rates; the ratio is ours to all that the device was measured to do."""
    rows = []
    for which, (name, share, of, goal) in enumerate(
        [("MBU", work.mbu, speed.copy, MBU_GOAL), ("MFU", work.mfu, speed.products["bfloat16"], None)]
    ):
        rates = {arm: float(np.median([pair[which] for pair in pairs])) for arm, pairs in seen.items()}
        used = {arm: share(rate, lengths, of) for arm, rate in rates.items()}
        unit = f"{of / 1e9:.4g} GB/s" if name == "MBU" else f"{of / 1e12:.4g} Tflop/s"
        rows.append(
            {
                "benchmark": f"{name} of {unit}",
                "ours": f"bf16 {used['bf16']:.3f}",
                "theirs": f"transformers bf16 {used['transformers']:.3f}",
                "ratio": round(used["bf16"], 3),
                "goal": goal,
            }
        )
    return rows


BY_NAME_ONLY = {"gpu": gpu}
