"""Finds a model's files in its folder: configuration, weight shards and tokenizer; says what is there instead."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from ..errors import NotAModelError, TokenizerMissingError
from .headers import check_regular, refuse, short
from .names import SAFE

# The loaders of both MLX and Transformers look for these names; consolidated.safetensors would be the weights again.
WEIGHTS = "model*.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model",
              "tekken.json", "vocab.txt")  # fmt: skip
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>0\d{4})\.safetensors", re.ASCII)
MAX_JSON = 200_000_000


def listing(folder: Path) -> list[str]:
    """The names in a folder, sorted, hidden ones left out.

    Raises:
        NotAModelError: it is no folder, or may not be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        problem = f"The folder {folder} cannot be read ({error.strerror})."
        raise NotAModelError(problem, "Check the name and the folder's permissions.") from None


def read_json(path: Path, unique: bool = False) -> dict[str, Any]:
    """A JSON object from a file; `unique` for one that a library reads too, which may take another of two equal keys.

    Raises:
        DamagedModelError: the file cannot be read, is no JSON object, or says a thing twice where it must be `unique`.
    """
    check_regular(path)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            refuse(path.name, f"has {short(next(name for name in names if names.count(name) > 1))} twice in one object")
        return found

    try:
        if path.stat().st_size > MAX_JSON:
            refuse(path.name, f"is larger than {MAX_JSON // 10**6} MB, so it is no JSON file of a model")
        value = json.loads(path.read_bytes(), object_pairs_hook=once if unique else None)
    except OSError as error:
        refuse(path.name, f"cannot be read ({error.strerror})", "Check the disk and the file's permissions.")
    except ValueError as error:
        refuse(path.name, f"is not JSON ({_where(error)})")
    except RecursionError:
        refuse(path.name, "is not JSON (nested too deep)")
    if not isinstance(value, dict):
        refuse(path.name, f"holds {short(value)} where a JSON object was expected")
    return value


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "the file is empty" if not error.doc.strip() else f"{error.msg} in line {error.lineno}"
    return "it is not text" if isinstance(error, UnicodeDecodeError) else "a number in it is too long"


def check_config(folder: Path, names: list[str]) -> None:
    """Raise a NotAModelError that says what is there, unless the folder has a config.json."""
    if "config.json" in names:
        return
    if "adapter_config.json" in names:
        problem = "holds a LoRA adapter, not a model"
        raise NotAModelError(f"{folder} {problem}.", "Fuse it into its base model first, or name the base model.")
    problem = f"{folder} has no config.json; it {what_is_there(names)}."
    raise NotAModelError(problem, _gguf(names) or "A model's folder has config.json and model*.safetensors.")


def weight_files(folder: Path, names: list[str]) -> list[Path]:
    """The safetensors shards that make up the weights.

    Raises:
        NotAModelError: there is none; says what there is instead.
        DamagedModelError: the index or the numbering names a shard that is missing.
    """
    shards = sorted(path.name for path in folder.glob(WEIGHTS) if not path.name.startswith("."))
    named = set(_indexed(folder)) if INDEX in names and "model.safetensors" not in shards else set()
    expected = named | _numbered(shards)
    for missing in sorted(expected - set(shards)):
        refuse(missing, f"is missing; {len(expected & set(shards))} of {len(expected)} weight files are there")
    if not shards:
        _refuse_weights(folder, names)
    return [folder / name for name in shards]


def _indexed(folder: Path) -> list[str]:
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        refuse(INDEX, "has no weight_map from tensors to files")
    for name in places.values():
        if "/" in name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
            refuse(INDEX, f"names {short(name)}, which is no safetensors file in the same folder")
    return list(places.values())


def _numbered(shards: list[str]) -> set[str]:
    """Every name in the series that "model-00002-of-00003.safetensors" belongs to."""
    series: set[str] = set()
    for match in filter(None, map(NUMBERED.fullmatch, shards)):
        width, parts = len(match["part"]), range(1, int(match["parts"]) + 1)
        series |= {f"{match['stem']}-{i:0{width}d}-of-{match['parts']}.safetensors" for i in parts}
    return series


def _refuse_weights(folder: Path, names: list[str]) -> None:
    pickles = [name for name in names if name.endswith(PICKLES)]
    other = [name for name in names if name.endswith(".safetensors")]
    if pickles and not other:
        problem = f"has its weights only in {_some(pickles)}, a format that can run code when it is read."
        raise NotAModelError(f"{folder} {problem}", "Take a version of the model in safetensors.")
    if other:
        problem = f"has {_some(other)}, but its weights must be called model.safetensors or model-….safetensors."
        raise NotAModelError(f"{folder} {problem}", "Rename the file, or convert the model.")
    problem = f"has no weights; it {what_is_there(names)}."
    raise NotAModelError(f"{folder} {problem}", _gguf(names) or "Copy or download model*.safetensors too.")


def check_tokenizer(folder: Path, names: list[str]) -> None:
    """Raise a TokenizerMissingError unless a loader would find one, or a DamagedModelError if it is empty."""
    if not has_tokenizer(names):
        raise TokenizerMissingError(
            f"{folder} has no tokenizer; it {what_is_there(names)}.",
            "Copy tokenizer.json or tokenizer.model from the model that this one was made from.",
        )
    for name in filter(_is_tokenizer, names):
        if (folder / name).is_file() and (folder / name).stat().st_size == 0:
            refuse(name, "is empty")


def has_tokenizer(names: list[str]) -> bool:
    """Whether a loader would find a tokenizer among a folder's files."""
    return any(map(_is_tokenizer, names)) or {"vocab.json", "merges.txt"} <= set(names)


def _is_tokenizer(name: str) -> bool:
    return name in TOKENIZERS or name.endswith(".tiktoken")


def what_is_there(names: list[str]) -> str:
    """The files as a sentence's part: up to five names and how many more."""
    return f"holds {_some(names)}" if names else "is empty"


def _some(names: list[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _gguf(names: list[str]) -> str:
    if any(name.lower().endswith(".gguf") for name in names):
        return f"GGUF files are for llama.cpp; take {SAFE}."
    return ""
