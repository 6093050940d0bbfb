"""What a GGUF model is, from its header alone: architecture, size, context, quantisation; and which file it is."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NotAModelError
from .format import GGUF
from .gguf_header import GgufHeader, GgufTensor, Long, read_gguf
from .gguf_types import FLOATS, MIXTURES
from .headers import refuse, short
from .shape import SANE_CONTEXT

PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.ASCII | re.IGNORECASE)
PROJECTORS = ("clip", "mmproj")  # files that hold what turns pictures into tokens, beside a model


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """A model in GGUF, as its header describes it; 0, "" and None where that does not say.

    `weight_bytes` are those of all tensors, of all its files; `dtype` the float type of most numbers that are not
    quantised; `quantization` None for a model in floats only, `bits` a weight takes on the average. `template` tells
    whether it has a chat template. `window` is that of its sliding-window layers, in tokens.
    """

    path: Path
    architecture: str
    name: str
    parameters: int
    weight_bytes: int
    dtype: str
    quantization: str | None
    bits: float
    context_length: int | None
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    hidden: int
    vocabulary: int
    window: int
    template: bool
    files: tuple[Path, ...]

    @property
    def kv_width(self) -> int:
        """Numbers that a layer keeps for one token, keys and values of all heads together."""
        return self.kv_heads * (self.head_dim + self.value_dim)


def gguf_info(path: Path) -> GgufInfo:
    """What the GGUF model at `path` is: a file, the first of several parts, or a folder with one model.

    Raises:
        DamagedModelError: a file is cut, missing, or not what it says it is.
        NotAModelError: it is a part of a model only, or the folder holds none or several.
    """
    files = parts_of(gguf_file(path))
    headers = [read_gguf(file) for file in files]
    architecture = _text(headers[0], "general.architecture")
    if not architecture:
        refuse(files[0].name, "names no architecture")
    if architecture in PROJECTORS:
        raise NotAModelError(f"{files[0].name} only turns pictures into tokens.", "Give the file of its model.")
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    if not tensors:
        refuse(files[0].name, "holds no tensor")
    return _described(files, headers[0], architecture, tensors)


def _described(
    files: tuple[Path, ...], first: GgufHeader, architecture: str, tensors: Mapping[str, GgufTensor]
) -> GgufInfo:
    figure = _Figures(files[0].name, first.metadata, architecture)
    heads, hidden = figure.most("attention.head_count"), figure.most("embedding_length")
    head_dim = figure.most("attention.key_length") or (hidden // heads if heads else 0)
    weights, numbers = sum(t.nbytes for t in tensors.values()), sum(t.elements for t in tensors.values())
    context = figure.most("context_length")
    return GgufInfo(
        path=files[0],
        architecture=architecture,
        name=_text(first, "general.name"),
        parameters=numbers,
        weight_bytes=weights,
        dtype=_dtype(tensors),
        quantization=_quantization(first.metadata, tensors),
        bits=weights * 8 / numbers if numbers else 0.0,
        context_length=context if 0 < context < SANE_CONTEXT else None,
        layers=figure.most("block_count"),
        heads=heads,
        kv_heads=figure.most("attention.head_count_kv") or heads,
        head_dim=head_dim,
        value_dim=figure.most("attention.value_length") or head_dim,
        hidden=hidden,
        vocabulary=_length(first.metadata.get("tokenizer.ggml.tokens")) or figure.most("vocab_size"),
        window=figure.most("attention.sliding_window"),
        template=bool(_text(first, "tokenizer.chat_template")),
        files=files,
    )


def gguf_file(path: Path) -> Path:
    """The file to read for `path`: itself, or the one model in that folder, its first part where it has several.

    Raises:
        NotAModelError: there are several models, or none.
    """
    if not path.is_dir():
        return path
    found = models_in(path)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotAModelError(f"{path} holds no GGUF model.", "Give the path of a .gguf file.")
    shown = ", ".join(file.name for file in found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    raise NotAModelError(f"{path} holds {len(found)} GGUF models: {shown}.", f"Give the path of one: {found[0]}.")


def models_in(folder: Path) -> list[Path]:
    """The GGUF models in a folder, by name; of one in several parts the first, projectors left out.

    Raises:
        NotAModelError: the folder cannot be read.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise NotAModelError(f"The folder {folder} cannot be read ({error.strerror}).", "Check the name.") from None
    whole = [name for name in names if name.lower().endswith(GGUF) and not name.lower().startswith("mmproj")]
    return [folder / name for name in whole if not (found := PART.fullmatch(name)) or int(found["part"]) == 1]


def parts_of(file: Path) -> tuple[Path, ...]:
    """All files of the model that begins in `file`.

    Raises:
        NotAModelError: `file` is a later part.
        DamagedModelError: a part is missing.
    """
    match = PART.fullmatch(file.name)
    if match is None:
        return (file,)
    first, count = f"{match['stem']}-00001-of-{match['parts']}.gguf", int(match["parts"])
    if int(match["part"]) != 1:
        raise NotAModelError(f"{file.name} is part {int(match['part'])} of a model.", f"Give its first part: {first}.")
    parts = tuple(file.with_name(f"{match['stem']}-{i + 1:05}-of-{match['parts']}.gguf") for i in range(count))
    for part in (file, *parts[1:]):
        if not part.exists():
            refuse(part.name, f"is missing: the model has {count} parts", "Download all parts into one folder.")
    return (file, *parts[1:])


@dataclass(frozen=True, slots=True)
class _Figures:
    """Whole numbers of a header, by their key without the architecture before it."""

    file: str
    metadata: Mapping[str, Any]
    architecture: str

    def most(self, key: str) -> int:
        """The figure, the largest where each layer has its own; 0 where there is none."""
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(type(one) is int and 0 <= one < 2**62 for one in values):
            refuse(self.file, f"gives {key} as {short(value)}")
        return max(values)


def _text(header: GgufHeader, key: str) -> str:
    value = header.metadata.get(key, "")
    return value if isinstance(value, str) else ""


def _length(value: Any) -> int:
    return value.length if isinstance(value, Long) else len(value) if isinstance(value, tuple) else 0


def _dtype(tensors: Mapping[str, GgufTensor]) -> str:
    """The float type of most numbers; that of the norms says nothing, so vectors count only where nothing else does."""
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.kind is not None and tensor.kind.name in FLOATS:
            counts[FLOATS[tensor.kind.name]] += tensor.elements if len(tensor.shape) > 1 else 1
    return counts.most_common(1)[0][0] if counts else "unknown"


def _quantization(metadata: Mapping[str, Any], tensors: Mapping[str, GgufTensor]) -> str | None:
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        counts[f"type {tensor.number}" if tensor.kind is None else tensor.kind.name] += tensor.elements
    kind = counts.most_common(1)[0][0]
    return None if kind in FLOATS else MIXTURES.get(_number(metadata.get("general.file_type")), kind)


def _number(value: Any) -> int:
    return value if type(value) is int else -1
