"""Which repository an MLX conversion was made from: by what it says itself, or by its name; never a guess.

A conversion keeps the name of its original and adds how it was made: `mlx-community/Qwen2.5-0.5B-Instruct-4bit` is
`Qwen/Qwen2.5-0.5B-Instruct`. Nothing else is left out or changed, and where the owner is not known there is no answer:
at worst the original does not exist, and nobody gets another model than they asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..decision import Accepted, Decision, Rejected
from .files import read_json
from .names import is_repository

CONVERTERS = ("mlx-community", "lmstudio-community")

# What a converter appends, as often as it comes: bits, a float type, how the bits were chosen and when, a group size.
SUFFIX = re.compile(
    r"-(?:mlx|[2-8]-?bit|q[2-8]|bf16|fp16|fp32|f16|bfloat16|float16|float32|dwq(?:-v?\d{1,8})?|gs\d{2,3})$",
    re.IGNORECASE,
)

# The whole of a plain name, case aside, and who owns the original.
OWNERS: tuple[tuple[str, str], ...] = (
    (r"(?:Qwen|QwQ|QVQ|CodeQwen)[\w.-]*", "Qwen"),
    (r"(?:Meta-)?Llama-3(?:\.[123])?-\d+B(?:-Instruct)?", "meta-llama"),
    (r"CodeLlama-\d+b(?:-(?:Instruct|Python))?-hf|Llama-2-\d+b(?:-chat)?-hf", "meta-llama"),
    (r"(?:code)?gemma-[\w.-]+", "google"),
    (r"(?:Mistral|Mixtral|Ministral|Codestral|Devstral|Mathstral|Magistral)-[\w.-]+", "mistralai"),
    (r"phi-[1-4](?:\.5)?|Phi-[34](?:\.5)?-[\w.-]+", "microsoft"),
    (r"SmolLM[23]?-[\w.-]+", "HuggingFaceTB"),
    (r"DeepSeek-[\w.-]+", "deepseek-ai"),
    (r"OLMo-?2?-[\w.-]+|OLMoE-[\w.-]+", "allenai"),
    (r"granite-[\w.-]+", "ibm-granite"),
    (r"GLM-4[\w.-]*", "zai-org"),
    (r"stablelm-[\w.-]+", "stabilityai"),
    (r"starcoder2-\d+b(?:-instruct-v0\.1)?", "bigcode"),
    (r"EXAONE-[\w.-]+", "LGAI-EXAONE"),
    (r"c4ai-command-[\w.-]+|aya-[\w.-]+", "CohereLabs"),
)

# Names that the rule would get wrong or cannot know. Names are compared case aside.
EXCEPTIONS: Mapping[str, str] = {
    "codellama-7b-instruct-hf": "codellama/CodeLlama-7b-Instruct-hf",
    "codellama-13b-instruct-hf": "codellama/CodeLlama-13b-Instruct-hf",
    "codellama-34b-instruct-hf": "codellama/CodeLlama-34b-Instruct-hf",
    "meta-llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "meta-llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "meta-llama-3-70b-instruct": "meta-llama/Meta-Llama-3-70B-Instruct",
    "llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "meta-llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama-3.1-70b-instruct": "meta-llama/Llama-3.1-70B-Instruct",
    "meta-llama-3.1-8b": "meta-llama/Llama-3.1-8B",
}

REMEDY = "Name the original repository yourself."


def original(name: str, folder: Path | None = None) -> Decision:
    """The repository that the conversion `name` was made from: Accepted with it as its subject, or Rejected.

    `folder`: where the conversion lies, if it is here; what its card or its configuration names then counts first.
    """
    said = _said_in(folder) if folder is not None else ""
    if said and said != name:
        return Accepted(said, f"{name} names it as its base model")
    owner, _, rest = name.rpartition("/")
    if owner not in CONVERTERS:
        return Rejected(name, f"it is no conversion of {' or '.join(CONVERTERS)}", REMEDY)
    plain = _plain(rest)
    if plain.lower() in EXCEPTIONS:
        return Accepted(EXCEPTIONS[plain.lower()], f"{name} is listed as a conversion of it")
    owners = [who for pattern, who in OWNERS if re.fullmatch(pattern, plain, re.IGNORECASE)]
    if len(owners) != 1 or plain == rest:
        why = "its name does not say how it was converted" if plain == rest else f"who owns {plain} is not known"
        return Rejected(name, why, REMEDY)
    return Accepted(f"{owners[0]}/{plain}", f"{name} is its name with the conversion's suffix")


def _plain(name: str) -> str:
    """A repository's name without what converters append."""
    while match := SUFFIX.search(name):
        name = name[: match.start()]
    return name


def _said_in(folder: Path) -> str:
    """The one base model that a folder's card, or its configuration, names; "" for none or several."""
    card = folder / "README.md"
    if card.is_file():
        match = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        named = re.findall(r"^base_model:[ \t]*(?:\n-[ \t]*)?(\S+)[ \t]*$", match[1] if match else "", re.MULTILINE)
        several = match and re.search(r"^base_model:[ \t]*\n-[^\n]*\n-", match[1] + "\n", re.MULTILINE)
        if len(named) == 1 and not several and _repository(named[0].strip("'\"")):
            return named[0].strip("'\"")
    config = folder / "config.json"
    said = read_json(config).get("base_model", "") if config.is_file() else ""
    return said if isinstance(said, str) and _repository(said) else ""


def _repository(name: str) -> bool:
    return "/" in name and is_repository(name)
