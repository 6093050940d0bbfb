"""Which remedy a case can be tried with at once: what its backend takes, and what it was not already measured with."""

from __future__ import annotations

from collections.abc import Iterator

from ...request import LOOKUP
from ..machine.devices import same_device
from ..report import Trial, Value
from .rules_seen import Seen

QUANTISES = DRAFTS = ("mlx", "torch")  # backends that quantise while they load, and those that verify drafts
KV_BITS = ("mlx",)
FEEDS = ("mlx", "torch")  # that can be told in which pieces to feed a prompt
PIECE = {"cpu": 64, "gpu": 512}  # tokens: a quarter of what they feed at once
SAME_FILES = ("mlx", "torch")  # that read the same folder, so that nothing is converted before it can be tried

# The packages by which Environment.versions tells that a backend is there.
PACKAGES = {"mlx": "mlx", "torch": "torch"}


def fewer_bits(seen: Seen, to: str = "int8") -> Trial | None:
    """Weights in fewer bits, where they are whole."""
    model = seen.model
    if model is None or model.backend not in QUANTISES or model.quantization or varied(seen, "quantize"):
        return None
    return Trial(f"weights in {to}", {"quantize": to})


def steps_saved(seen: Seen) -> Trial | None:
    """Several tokens a pass, guessed from the text so far; the answer stays what it was."""
    model = seen.model
    if model is None or model.backend not in DRAFTS or varied(seen, "draft") or seen.case.concurrency > 1:
        return None
    return Trial("tokens guessed ahead from the text", {"draft": LOOKUP})


def faster_decode(seen: Seen) -> Trial | None:
    """Fewer bytes a token."""
    return fewer_bits(seen) or steps_saved(seen)


def smaller_cache(seen: Seen) -> Trial | None:
    """Keys and values in fewer bits; where they are, attention that reads them without unpacking all of them."""
    if seen.model is None or seen.model.backend not in KV_BITS:
        return None
    if varied(seen, "kv_bits"):
        return None if varied(seen, "kernels") else Trial("attention kernels", {"kernels": True})
    return Trial("KV cache in 8 bits", {"kv_bits": 8})


def faster_prefill(seen: Seen) -> Trial | None:
    """Another dtype that this machine was measured to multiply faster in."""
    model, products = seen.model, seen.report.environment.products
    if model is None or model.quantization or model.backend not in SAME_FILES or varied(seen, "dtype"):
        return None
    if not same_device(model.device, seen.report.environment.device):
        return None
    own = products.get(model.dtype, 0.0)
    fastest = max(("float16", "bfloat16"), key=lambda dtype: products.get(dtype, 0.0))
    if not own or products.get(fastest, 0.0) <= own * 1.1:
        return None
    return Trial(f"weights in {fastest}", {"dtype": fastest})


def other_backend(seen: Seen) -> Trial | None:
    """A backend that is here and reads the same files."""
    model = seen.model
    if model is None or model.backend not in SAME_FILES or varied(seen, "backend"):
        return None
    for name in _installed(seen):
        if name != model.backend:
            return Trial(f"the {name} backend", {"backend": name})
    return None


def less_between(seen: Seen) -> Trial | None:
    """Less work between operations, or operations that are faster here: what MLX computes on a CPU, and a prompt, are
    little helped by guesses.
    """
    model = seen.model
    slow = model is not None and model.backend == "mlx" and model.device == "cpu"
    ways = (other_backend, steps_saved) if slow else (steps_saved, other_backend)
    return other_backend(seen) if seen.phase == "prefill" else ways[0](seen) or ways[1](seen)


def smaller_pieces(seen: Seen) -> Trial | None:
    """A prompt in pieces, of which each takes less memory beside weights and cache; where it is longer than a piece."""
    model, prompt = seen.model, seen.summary.prompt_tokens
    if model is None or prompt is None or model.backend not in FEEDS or varied(seen, "prefill_step"):
        return None
    step = PIECE["cpu" if model.device == "cpu" else "gpu"]
    return Trial(f"prompts in pieces of {step} tokens", {"prefill_step": step}) if prompt.median > step else None


def kept_prefixes(seen: Seen) -> Trial | None:
    """What turns have in common is computed once."""
    return None if seen.model is None else Trial("the prefix cache", {"cache": "auto"})


def without_draft(seen: Seen) -> Trial:
    """Every token decoded by itself."""
    return Trial("no draft", {"draft": None, "draft_tokens": None})


def varied(seen: Seen, option: str) -> Value:
    """What a case was asked with for an option; None where that is as by default. A backend or a dtype that a person
    prefers for all is no reason against trying another one.
    """
    of_all = {} if option in ("backend", "dtype") else seen.report.options
    return {**of_all, **seen.case.varied}.get(option)


def _installed(seen: Seen) -> Iterator[str]:
    versions = seen.report.environment.versions
    return (name for name, package in PACKAGES.items() if versions.get(package))
