"""Writes a model's folder as one GGUF file, which llama.cpp and all that is built on it run."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendMissingError, OptionError, UnsupportedModelError
from .checkpoint import Checkpoint, inspect
from .files import listing, weight_files
from .format import GGUF
from .gguf_check import check_tokens
from .gguf_families import Family, family_of, llama3_divisors, permuted, write_figures
from .gguf_numbers import FLOAT_TYPES, Place, in_type, places, size_of, type_of
from .gguf_quantize import BY_LLAMA_CPP, quantise_file
from .gguf_types import NUMBERS
from .gguf_vocabulary import read_tokenizer, vocabulary_of
from .mlx_format import is_mlx
from .quantization import quantization_of
from .source import ModelSource

if TYPE_CHECKING:
    from gguf import GGUFWriter

Progress = Callable[[int, int], None]

# What gguf's own code quantises to; K-quants are llama.cpp's.
HERE = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
QUANTIZE = (*HERE, *BY_LLAMA_CPP)
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}
QUANTISATION_VERSION = 2

# One expert's weight: llama.cpp wants those of a layer in one tensor.
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+\.\w+)")
ALONE = -1


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to write: its name in GGUF and in the model, where it comes from, its type in GGUF; `heads` whose rows
    change places. Experts are several, `stacked` into one.
    """

    name: str
    key: str
    places: tuple[Place, ...]
    stacked: bool
    kind: str
    heads: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in GGUF, the fastest dimension last."""
        each = self.places[0].tensor.shape
        return (len(self.places), *each) if self.stacked else each

    def read(self) -> np.ndarray:
        """Its numbers, as they are written."""
        made = [self._one(place) for place in self.places]
        return np.stack(made) if self.stacked else made[0]

    def _one(self, place: Place) -> np.ndarray:
        numbers = place.read()
        if self.heads is not None:
            numbers = permuted(numbers, self.heads)
        return in_type(numbers, place.tensor.dtype, self.kind, self.key)


def to_gguf(
    source: ModelSource,
    target: Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `source` to the new file `target`, which appears whole or not at all.

    dtype: of what is not quantised; None for as it is stored. Vectors are float32 in any case, as llama.cpp wants them.
    quantize: one of QUANTIZE. q8_0 to q4_0 are done by the gguf package, embedding and head in q8_0; the K-quants by
    llama.cpp itself, in its own mixtures.
    progress: called with the bytes of weights written and in all; what it raises stops it.

    Where llama-cpp-python is installed, text is split by the file and by the model's tokenizer, and both must agree.

    Raises:
        OptionError: the target exists, or an option is none that there is.
        BackendMissingError: a package is missing.
        UnsupportedModelError: llama.cpp does not compute this model, does not split text as it does, or the model is
            quantised already.
        ModelError: its files cannot be used.
    """
    _check_options(target, dtype, quantize)
    checkpoint = inspect(source.path)
    family = family_of(checkpoint, source.name)
    if quantization_of(checkpoint.config) or is_mlx(checkpoint):
        raise UnsupportedModelError(f"{source.name} is converted or quantised already.", "Take its original.")
    tokenizer = read_tokenizer(source.path)
    vocabulary = vocabulary_of(tokenizer, source.path, checkpoint.config["vocab_size"], source.name)
    here = quantize if quantize in HERE else None
    plan = _plan(source, checkpoint, family, FLOAT_TYPES[dtype] if dtype else None, here)
    with _aside(target) as file:
        writer = _writer(file, source, checkpoint, family, here, plan)
        vocabulary.write(writer)
        extra = llama3_divisors(checkpoint.config, checkpoint.shape.head_dim)
        _write(writer, plan, {} if extra is None else {"rope_freqs.weight": extra}, progress)
        check_tokens(file, tokenizer, vocabulary, source.name)
        if quantize in BY_LLAMA_CPP:
            quantise_file(file, str(quantize))
    return target


def _check_options(target: Path, dtype: str | None, quantize: str | None) -> None:
    if os.path.lexists(target):
        raise OptionError(f"Cannot save to {target}: it already exists.", "Delete it, or name another file.")
    if target.suffix.lower() != GGUF:
        raise OptionError(f"Cannot save to {target}: it does not end in {GGUF}.", f"Name it {target.name}{GGUF}.")
    if dtype is not None and dtype not in FLOAT_TYPES:
        raise OptionError(f"dtype is {dtype!r}.", f"It takes {', '.join(FLOAT_TYPES)}.")
    if quantize is not None and quantize not in QUANTIZE:
        raise OptionError(f"quantize is {quantize!r}.", f"GGUF takes {', '.join(QUANTIZE)}.")
    needed = ["gguf", "transformers", *(["llama_cpp"] if quantize in BY_LLAMA_CPP else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        what = "Quantising to K-quants" if missing == ["llama_cpp"] else "Writing GGUF"
        raise BackendMissingError(f"{what} takes {' and '.join(missing)}.", "pip install 'mlxnb[llamacpp]'")


def _plan(
    source: ModelSource, checkpoint: Checkpoint, family: Family, floats: str | None, quantize: str | None
) -> list[Planned]:
    """What to write, in the order of the layers; a tied head and tables that are computed anew are left out."""
    import gguf

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    names = gguf.get_tensor_name_map(arch, checkpoint.layers)
    kind = quantize.upper() if quantize else None
    stacks: dict[str, dict[int, Place]] = {}
    for key, place in places(weight_files(source.path, listing(source.path)), source.name).items():
        expert = EXPERT.fullmatch(key)
        name, number = (f"{expert[1]}.{expert[3]}", int(expert[2])) if expert else (key, ALONE)
        stacks.setdefault(name, {})[number] = place
    planned = []
    for key, stack in stacks.items():
        if key.endswith("rotary_emb.inv_freq") or (
            key == "lm_head.weight" and checkpoint.config.get("tie_word_embeddings")
        ):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        unknown_bias = key.endswith(".bias") and not key.removesuffix(".bias").endswith(family.biases)
        if name is None or unknown_bias:
            raise UnsupportedModelError(
                f"{source.name} has {key}, which llama.cpp does not know in a {family.arch}.",
                "Run it on the torch or mlx backend.",
            )
        here = tuple(place for _, place in sorted(stack.items()))
        how = type_of(here[0], key, floats, kind)
        planned.append(Planned(name, key, here, ALONE not in stack, how, _heads(key, checkpoint, family)))
    return sorted(planned, key=lambda tensor: _order(tensor.name))


def _heads(key: str, checkpoint: Checkpoint, family: Family) -> int | None:
    if not family.permuted:
        return None
    part = key.rpartition(".")[0]
    return checkpoint.heads if part.endswith("q_proj") else checkpoint.kv_heads if part.endswith("k_proj") else None


def _order(name: str) -> tuple[int, int, str]:
    """Embedding, layers by their number, the rest."""
    parts = name.split(".")
    if parts[0] == "blk":
        return 1, int(parts[1]), name
    return (0 if parts[0] == "token_embd" else 2), 0, name


def _writer(
    file: Path, source: ModelSource, checkpoint: Checkpoint, family: Family, quantize: str | None, plan: list[Planned]
) -> GGUFWriter:
    import gguf

    writer = gguf.GGUFWriter(file, family.arch)
    writer.add_type("model")
    writer.add_name(source.name if source.kind != "path" else source.path.name)
    sizes: dict[str, int] = {}
    for tensor in plan:
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + math.prod(tensor.shape)
    most = quantize.upper() if quantize else max(sizes, key=lambda kind: sizes[kind])
    writer.add_file_type(FILE_TYPES[most])
    if quantize:
        writer.add_quantization_version(QUANTISATION_VERSION)
    write_figures(writer, checkpoint, family)
    return writer


def _write(writer: GGUFWriter, plan: list[Planned], extra: dict[str, np.ndarray], progress: Progress | None) -> None:
    """Header first, then one tensor after the other, each read only then."""
    import gguf

    done, total = 0, 0
    for name, numbers in extra.items():
        writer.add_tensor_info(name, numbers.shape, numbers.dtype, numbers.nbytes)
    for tensor in plan:
        size = size_of(tensor.shape, tensor.kind)
        raw = gguf.GGMLQuantizationType(NUMBERS[tensor.kind])
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, raw_dtype=raw)
        total += size
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for numbers in extra.values():
            writer.write_tensor_data(numbers)
        for tensor in plan:
            made: Any = tensor.read()
            writer.write_tensor_data(np.ascontiguousarray(made))
            done += made.nbytes
            if progress is not None:
                progress(done, total)
    finally:
        writer.close()


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A file beside `target` that becomes it at the end, or goes away."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.parent / f".{target.stem}-{secrets.token_hex(4)}{GGUF}"
    try:
        yield file
        os.replace(file, target)
    finally:
        file.unlink(missing_ok=True)
