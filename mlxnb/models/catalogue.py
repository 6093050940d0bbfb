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

    `folder`: where the conversion lies, if it is here; what its card or its configuration names then counts first. A
    base model by another name may be what a fine-tune began with, which is another model: that is Rejected.
    """
    by_name = _by_name(name)
    bases, relation = _said_in(folder) if folder is not None else ((), "")
    if not bases or bases == (name,):
        return by_name
    said = " and ".join(bases)
    if relation not in ("", "quantized"):
        return Rejected(name, f"its card names {said}, of which it is a {relation}", REMEDY)
    if len(bases) > 1 or not _repository(said):
        return Rejected(name, f"its card names {said}, which is no one repository", REMEDY)
    if said.rpartition("/")[2].lower() in _shorter(name.rstrip("/").rpartition("/")[2].lower()):
        return Accepted(said, f"{name} names it as its base model")
    if isinstance(by_name, Accepted) and by_name.subject.lower() == said.lower():
        return by_name
    return Rejected(name, f"its card names {said}, which goes by another name and may be another model", REMEDY)


def _by_name(name: str) -> Decision:
    owner, _, rest = name.rpartition("/")
    if owner not in CONVERTERS:
        return Rejected(name, f"it is no conversion of {' or '.join(CONVERTERS)}", REMEDY)
    plain = _shorter(rest)[-1]
    if plain.lower() in EXCEPTIONS:
        return Accepted(EXCEPTIONS[plain.lower()], f"{name} is listed as a conversion of it")
    owners = [who for pattern, who in OWNERS if re.fullmatch(pattern, plain, re.IGNORECASE)]
    if len(owners) != 1 or plain == rest:
        why = "its name does not say how it was converted" if plain == rest else f"who owns {plain} is not known"
        return Rejected(name, why, REMEDY)
    return Accepted(f"{owners[0]}/{plain}", f"{name} is its name with the conversion's suffix")


def _shorter(name: str) -> list[str]:
    """A repository's name, and what is left of it after each suffix that converters append, the shortest last."""
    names = [name]
    while match := SUFFIX.search(names[-1]):
        names.append(names[-1][: match.start()])
    return names


def _said_in(folder: Path) -> tuple[tuple[str, ...], str]:
    """The base models that a folder's card, or else its configuration, names, and what the card says it is of them."""
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8-sig", errors="replace")
        match = re.match(r"---\s*\n(.*?\n)---", text, re.DOTALL)
        head = match[1] if match else ""
        if bases := _values(head, "base_model"):
            return bases, " ".join(_values(head, "base_model_relation"))
    config = folder / "config.json"
    said = read_json(config).get("base_model", "") if config.is_file() else ""
    return ((said,), "") if isinstance(said, str) and said else ((), "")


def _values(head: str, key: str) -> tuple[str, ...]:
    """The strings of one key of a card's head: a plain value, a list in brackets, or a list a line each."""
    match = re.search(rf"^{key}:[ \t]*([^\n]*)((?:\n[ \t]*-[ \t][^\n]*)*)", head, re.MULTILINE)
    if match is None:
        return ()
    inline = [part.strip() for part in _uncommented(match[1]).strip("[]").split(",")]
    listed = [_uncommented(line.strip()[1:]) for line in match[2].splitlines()]
    return tuple(value for part in (*inline, *listed) if (value := part.strip("\"'")))


def _uncommented(text: str) -> str:
    return re.sub(r"(^|\s)#.*", "", text).strip()


def _repository(name: str) -> bool:
    return "/" in name and is_repository(name)
