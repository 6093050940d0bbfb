"""Writes a model in MLX's format without MLX: its names and shapes, and affine quantisation where that is wanted.

What mlx-lm 0.32's `convert` writes, bit for bit, for the model types in CONVERTIBLE. Tensors are read, quantised and
written a shard at a time.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, UnsupportedModelError
from .affine import BITS, GROUPS, quantise
from .cache import repository_of
from .checkpoint import inspect
from .files import listing, read_json, weight_files
from .headers import Tensor, read_header
from .mlx_format import is_mlx
from .mlx_names import EXPERTS, LATENT, PLUS_ONE, SAME
from .quantization import quantization_of
from .source import ModelSource

if TYPE_CHECKING:
    import torch

CONVERTIBLE = SAME | (EXPERTS.keys() - LATENT - PLUS_ONE)
DTYPES = ("float16", "bfloat16", "float32")
SHARD_BYTES = 5 << 30

# Weights that mlx-lm leaves more bits, by model type: the end of their path and how they are quantised instead.
FINER: Mapping[str, tuple[str, ...]] = {
    "granite": ("self_attn.o_proj", "mlp.down_proj", "lm_head"),
    "qwen3_moe": ("mlp.gate",),
}
FINE = {"group_size": 64, "bits": 8}
FLOATS = ("F16", "BF16", "F32")


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Affine, `bits` a weight in groups of `group_size`."""

    group_size: int = 64
    bits: int = 4

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise OptionError(f"q_bits is {self.bits}.", f"It takes {', '.join(map(str, BITS))}.")
        if self.group_size not in GROUPS:
            raise OptionError(f"q_group_size is {self.group_size}.", f"It takes {', '.join(map(str, GROUPS))}.")


@dataclass(frozen=True, slots=True)
class Plan:
    """One tensor to write: from which ones, whether they are stacked, and how it is quantised, if at all."""

    name: str
    parts: tuple[str, ...]
    stacked: bool
    quantised: Mapping[str, int] | None = None

    @property
    def path(self) -> str:
        """The layer that it is the weight of."""
        return self.name.removesuffix(".weight")


def convert(source: ModelSource, target: Path, quantisation: Quantisation | None, dtype: str | None) -> float:
    """Write `source` to the new folder `target`; bits that a weight takes on the average.

    dtype: of what is not packed; None for the configuration's `torch_dtype`, or as stored. The folder appears whole or
    not at all. No Python file is copied.

    Raises:
        OptionError: the target exists, or the dtype is none of DTYPES.
        UnsupportedModelError: the model type is not in CONVERTIBLE, or it is quantised already.
    """
    if os.path.lexists(target):
        raise OptionError(f"Cannot save to {target}: it already exists.", "Delete it, or name another folder.")
    if dtype is not None and dtype not in DTYPES:
        raise OptionError(f"dtype is {dtype!r}.", f"It takes {', '.join(DTYPES)}.")
    checkpoint = inspect(source.path)
    config = checkpoint.config
    if checkpoint.model_type not in CONVERTIBLE:
        raise UnsupportedModelError(
            f"How mlx-lm stores a {checkpoint.model_type} is not known here.", "Convert it with mlx-lm (MLXNB_LM=mlx)."
        )
    if quantization_of(config) or is_mlx(checkpoint):
        raise UnsupportedModelError(f"{source.name} is converted or quantised already.", "Take its original.")
    written = dtype or (config.get("torch_dtype") if config.get("torch_dtype") in DTYPES else None)
    files = weight_files(source.path, listing(source.path))
    with _aside(target) as folder:
        bits = _Writer(files, folder, written).write(checkpoint.model_type, config, quantisation)
        _finish(source.path, folder, config, quantisation, bits.settings)
        (folder / "README.md").write_text(_card(source), encoding="utf-8")
    return bits.average


def _finish(
    origin: Path,
    folder: Path,
    config: Mapping[str, Any],
    quantisation: Quantisation | None,
    own: Mapping[str, Mapping[str, int]],
) -> None:
    """config.json, the tokenizer's files and the generation config."""
    generation = origin / "generation_config.json"
    ends = read_json(generation).get("eos_token_id") if generation.is_file() else None
    written = {**config, **({"eos_token_id": ends} if ends else {})}
    for name in ("_name_or_path", "vision_config"):
        written.pop(name, None)
    if quantisation is not None:
        settings = {"group_size": quantisation.group_size, "bits": quantisation.bits, "mode": "affine", **own}
        written |= {"quantization": settings, "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(dict(sorted(written.items())), indent=4), encoding="utf-8")
    from ..quiet import import_transformers

    tokenizer = import_transformers().AutoTokenizer.from_pretrained(origin, local_files_only=True)
    tokenizer.save_pretrained(folder)
    if generation.is_file():
        shutil.copy(generation, folder)


def _card(source: ModelSource) -> str:
    """A model card that names the repository that was converted, where it is one."""
    base = repository_of(source.path)
    named = f"base_model: {base}\n" if base else ""
    return f"---\nlibrary_name: mlx\npipeline_tag: text-generation\ntags:\n- mlx\n{named}---\n"


def _plans(
    kind: str, config: Mapping[str, Any], headers: Mapping[str, Tensor], quantisation: Quantisation | None
) -> list[Plan]:
    """What to write, in the order of MLX's names; a tied head and tables that are computed anew are left out."""
    stacks: dict[str, list[tuple[int, str]]] = {}
    for name in headers:
        if "rotary_emb.inv_freq" in name or (name == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        stacked, expert = _stack(kind, name)
        stacks.setdefault(stacked, []).append((expert, name))
    plans = []
    for name, parts in sorted(stacks.items()):
        several, sources = parts[0][0] >= 0, tuple(part for _, part in sorted(parts))
        how = None if quantisation is None else _how(kind, name, headers[sources[0]], quantisation)
        plans.append(Plan(name, sources, several, how))
    return plans


def _stack(kind: str, name: str) -> tuple[str, int]:
    """MLX's name of the tensor that `name` goes into, and its place in there; -1 where it is that tensor itself."""
    if kind not in EXPERTS:
        return name, -1
    names = EXPERTS[kind]
    match = re.fullmatch(rf"(.*\.){re.escape(names.single)}(\d+)\.(\w+)\.(\w+)", name)
    if match is None:
        return name, -1
    theirs = {other: own for own, other in names.projections.items()}
    return f"{match[1]}{names.stacked}{theirs.get(match[3], match[3])}.{match[4]}", int(match[2])


def _how(kind: str, name: str, tensor: Tensor, quantisation: Quantisation) -> Mapping[str, int] | None:
    """How a tensor is quantised: the weights of linear layers and embeddings whose rows are whole groups."""
    if not name.endswith(".weight") or len(tensor.shape) < 2 or tensor.dtype not in FLOATS:
        return None
    if tensor.shape[-1] % quantisation.group_size:
        return None
    if name.removesuffix(".weight").endswith(FINER.get(kind, ("\0",))):
        return FINE
    return {"group_size": quantisation.group_size, "bits": quantisation.bits}


class _aside:
    """A folder beside `target` that becomes it at the end, or goes away."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> Path:
        # A plain mkdir, not tempfile's: the folder gets the permissions that any folder of this person has.
        self._folder = self._target.parent / f".{self._target.name}-{secrets.token_hex(4)}"
        self._folder.mkdir(parents=True)
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.replace(self._folder, self._target)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a weight on the average, and the settings of the weights that are not quantised like the others."""

    average: float
    settings: Mapping[str, Mapping[str, int]]


class _Writer:
    """Reads the tensors of `files` and writes them as MLX does into `folder`."""

    def __init__(self, files: Iterable[Path], folder: Path, dtype: str | None) -> None:
        from safetensors import safe_open

        self._folder, self._dtype = folder, dtype
        self._headers: dict[str, Tensor] = {}
        self._files: dict[str, Any] = {}
        for path in files:
            here, handle = read_header(path), safe_open(path, framework="pt")
            self._headers |= here
            self._files |= dict.fromkeys(here, handle)

    def write(self, kind: str, config: Mapping[str, Any], quantisation: Quantisation | None) -> Bits:
        plans = _plans(kind, config, self._headers, quantisation)
        shards, shard, size = [], {}, 0  # type: ignore[var-annotated]
        total = numbers = 0
        for plan in plans:
            made = self._made(plan)
            count = sum(tensor.nbytes for tensor in made.values())
            if shard and size + count > SHARD_BYTES:
                shards.append(self._save(shard, len(shards)))
                shard, size = {}, 0
            shard |= made
            size, total = size + count, total + count
            numbers += math.prod(self._headers[plan.parts[0]].shape) * len(plan.parts)
        shards.append(self._save(shard, len(shards)))
        self._index(shards, total, numbers)
        finer = {plan.path: plan.quantised for plan in plans if plan.quantised is FINE}
        return Bits(total * 8 / numbers, finer)

    def _made(self, plan: Plan) -> dict[str, torch.Tensor]:
        import torch

        parts = [self._files[part].get_tensor(part) for part in plan.parts]
        tensor = torch.stack(parts) if plan.stacked else parts[0]
        if self._dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, self._dtype))
        if plan.quantised is None:
            return {plan.name: tensor.contiguous()}
        packed, scales, biases = quantise(tensor, plan.quantised["group_size"], plan.quantised["bits"])
        return {plan.name: packed, f"{plan.path}.scales": scales, f"{plan.path}.biases": biases}

    def _save(self, shard: dict[str, torch.Tensor], number: int) -> tuple[str, list[str]]:
        from safetensors.torch import save_file

        name = f"part-{number}"
        save_file(shard, self._folder / name, metadata={"format": "mlx"})
        return name, list(shard)

    def _index(self, shards: list[tuple[str, list[str]]], total: int, numbers: int) -> None:
        places: dict[str, str] = {}
        for number, (name, tensors) in enumerate(shards, 1):
            final = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            os.replace(self._folder / name, self._folder / final)
            places |= dict.fromkeys(tensors, final)
        index = {
            "metadata": {"total_size": total, "total_parameters": numbers},
            "weight_map": dict(sorted(places.items())),
        }
        (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=4), encoding="utf-8")
