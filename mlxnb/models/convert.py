"""Writes a model in MLX's format without MLX: its names and shapes, and affine quantisation where that is wanted.

What mlx-lm 0.32's `convert` writes, bit for bit, for the model types in CONVERTIBLE. Tensors are read, quantised and
written a shard at a time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..conversion import DTYPES, RECIPES
from ..errors import ConversionError, OptionError, UnsupportedModelError
from ..quiet import LOADING
from .affine import BITS, GROUPS, quantise
from .cache import repository_of
from .checkpoint import inspect
from .convert_mixed import mixed_bits, takes_recipes
from .convert_target import aside, check_disk, check_target
from .files import listing, read_json, weight_files
from .gguf_vocabulary import read_tokenizer
from .headers import Tensor, read_header
from .mlx_names import EXPERTS, LATENT, PLUS_ONE, SAME
from .quantization import quantization_of
from .source import ModelSource

if TYPE_CHECKING:
    import torch

CONVERTIBLE = SAME | (EXPERTS.keys() - LATENT - PLUS_ONE)
DTYPE_BITS = dict(zip(DTYPES, (16, 16, 32), strict=True))
SHARD_BYTES = 5 << 30

# Weights that mlx-lm leaves more bits, by model type: the end of their path and how they are quantised instead.
FINER: Mapping[str, tuple[str, ...]] = {
    "granite": ("self_attn.o_proj", "mlp.down_proj", "lm_head"),
    "qwen3_moe": ("mlp.gate",),
}
FINE = {"group_size": 64, "bits": 8}
FLOATS = ("F16", "BF16", "F32")

# Hears of each tensor before it is written: how many are done, how many there are, and its name.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Affine, `bits` a weight in groups of `group_size`; with a `recipe` of RECIPES that says the bits of each layer.

    mlx-lm notes `bits` in the configuration then too, as those of layers that it says nothing else of.
    """

    group_size: int = 64
    bits: int = 4
    recipe: str | None = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise OptionError(f"q_bits is {self.bits}.", f"It takes {', '.join(map(str, BITS))}.")
        if self.group_size not in GROUPS:
            raise OptionError(f"q_group_size is {self.group_size}.", f"It takes {', '.join(map(str, GROUPS))}.")
        if self.recipe is not None and self.recipe not in RECIPES:
            raise OptionError(f"There is no mixed recipe {self.recipe!r}.", f"Recipes are {', '.join(RECIPES)}.")


@dataclass(frozen=True, slots=True)
class Plan:
    """One tensor to write: from which ones, whether they are stacked, and how it is quantised, if at all; `listed`
    tells that the configuration says so of this one.
    """

    name: str
    parts: tuple[str, ...]
    stacked: bool
    quantised: Mapping[str, Any] | None = None
    listed: bool = False

    @property
    def path(self) -> str:
        """The layer that it is the weight of."""
        return self.name.removesuffix(".weight")


def convert(
    source: ModelSource,
    target: Path,
    quantisation: Quantisation | None,
    dtype: str | None,
    progress: Progress | None = None,
    force: bool = False,
) -> float:
    """Write `source` to the new folder `target`; bits that a weight takes on the average.

    dtype: of what is not packed; None for the configuration's `torch_dtype`, or as stored. The folder appears whole or
    not at all; with `force` in the place of a model that is there. No Python file is copied. It loads no model, so any
    thread may call it; what `progress` raises ends it.

    Raises:
        OptionError: the target exists, the dtype is none of DTYPES, or the recipe is not for this model.
        UnsupportedModelError: the model type is not in CONVERTIBLE, or it is quantised already.
        TokenizerMissingError: the tokenizer cannot be read.
        ConversionError: the disk has no room, or failed.
    """
    check_target(target, source.path, force)
    if dtype is not None and dtype not in DTYPES:
        raise OptionError(f"dtype is {dtype!r}.", f"It takes {', '.join(DTYPES)}.")
    checkpoint = inspect(source.path)
    config = checkpoint.config
    if checkpoint.model_type not in CONVERTIBLE:
        raise UnsupportedModelError(
            f"How mlx-lm stores a {checkpoint.model_type} is not known here.", "Convert it with mlx-lm (MLXNB_LM=mlx)."
        )
    if quantization_of(config):
        problem = f"{source.name} is quantised already ({checkpoint.quantization})."
        raise UnsupportedModelError(problem, "Convert the model that it was made from.")
    written = dtype or (config.get("torch_dtype") if config.get("torch_dtype") in DTYPES else None)
    files = weight_files(source.path, listing(source.path))
    writer = _Writer(files, written)
    plans = _plans(checkpoint.model_type, config, writer.headers, quantisation)
    check_disk(target, writer.size(plans))
    with LOADING:
        read_tokenizer(source.path)  # so that a damaged one is told before the weights are written
    with aside(target, force) as folder:
        folder.mkdir()
        bits = writer.write(plans, folder, progress)
        _finish(source.path, folder, config, quantisation, bits.settings)
        (folder / "README.md").write_text(_card(source), encoding="utf-8")
    return bits.average


def _finish(
    origin: Path,
    folder: Path,
    config: Mapping[str, Any],
    quantisation: Quantisation | None,
    own: Mapping[str, Mapping[str, Any]],
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
    with LOADING:
        read_tokenizer(origin).save_pretrained(folder)
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
        plan = Plan(name, sources, several)
        if quantisation is not None and _quantisable(name, headers[sources[0]], quantisation.group_size):
            how = _how(kind, plan.path, quantisation, int(config["num_hidden_layers"]))
            plan = Plan(name, sources, several, how, listed=how is FINE or quantisation.recipe is not None)
        plans.append(plan)
    if quantisation is not None and quantisation.recipe and not takes_recipes(plan.path for plan in plans):
        problem = f"The mixed recipes go by a model's down_proj layers, and {kind} has none of that name."
        raise OptionError(problem, "Quantise all of it alike: leave out the recipe.")
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


def _quantisable(name: str, tensor: Tensor, group_size: int) -> bool:
    """Whether a tensor is the weight of a linear layer or an embedding whose rows are whole groups."""
    matrix = name.endswith(".weight") and len(tensor.shape) > 1 and tensor.dtype in FLOATS
    return matrix and tensor.shape[-1] % group_size == 0


def _how(kind: str, path: str, quantisation: Quantisation, layers: int) -> Mapping[str, Any]:
    """How the weight of the layer at `path` is quantised; FINE itself where mlx-lm leaves it more bits by itself."""
    if quantisation.recipe is not None:
        bits = mixed_bits(quantisation.recipe, path, layers)
        return {"group_size": quantisation.group_size, "bits": bits, "mode": "affine"}
    if path.endswith(FINER.get(kind, ("\0",))):
        return FINE
    return {"group_size": quantisation.group_size, "bits": quantisation.bits}


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a weight on the average, and the settings of the weights that are not quantised like the others."""

    average: float
    settings: Mapping[str, Mapping[str, Any]]


class _Writer:
    """Reads the tensors of `files`, and writes them as MLX does."""

    def __init__(self, files: Iterable[Path], dtype: str | None) -> None:
        from safetensors import safe_open

        self._dtype = dtype
        self.headers: dict[str, Tensor] = {}
        self._files: dict[str, Any] = {}
        for path in files:
            here, handle = read_header(path), safe_open(path, framework="pt")
            self.headers |= here
            self._files |= dict.fromkeys(here, handle)

    def size(self, plans: Iterable[Plan]) -> float:
        """Bytes that the tensors of `plans` will take."""
        return sum(self._bits(plan) / 8 for plan in plans)

    def _bits(self, plan: Plan) -> float:
        tensor = self.headers[plan.parts[0]]
        elements, stored = tensor.elements * len(plan.parts), 8 * (tensor.end - tensor.begin) / max(1, tensor.elements)
        plain = DTYPE_BITS[self._dtype] if self._dtype and tensor.dtype in FLOATS else stored
        if plan.quantised is None:
            return elements * plain
        return elements * (plan.quantised["bits"] + 2 * plain / plan.quantised["group_size"])

    def write(self, plans: Sequence[Plan], folder: Path, progress: Progress | None) -> Bits:
        """The weights and their index into `folder`."""
        shards, shard, size = [], {}, 0  # type: ignore[var-annotated]
        total = numbers = 0
        for done, plan in enumerate(plans):
            if progress is not None:
                progress(done, len(plans), plan.path)
            made = self._made(plan)
            count = sum(tensor.nbytes for tensor in made.values())
            if shard and size + count > SHARD_BYTES:
                shards.append(_save(shard, folder, len(shards)))
                shard, size = {}, 0
            shard |= made
            size, total = size + count, total + count
            numbers += self.headers[plan.parts[0]].elements * len(plan.parts)
        shards.append(_save(shard, folder, len(shards)))
        _index(shards, folder, total, numbers)
        own = {plan.path: plan.quantised for plan in plans if plan.listed and plan.quantised}
        return Bits(total * 8 / numbers, own)

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


def _save(shard: dict[str, torch.Tensor], folder: Path, number: int) -> tuple[str, list[str]]:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    name = f"part-{number}"
    try:
        save_file(shard, folder / name, metadata={"format": "mlx"})
    except SafetensorError as err:  # so it also calls a disk that is full
        problem = f"The weights could not be written: {err}."
        raise ConversionError(problem, "Nothing was left behind. Look at the disk.") from err
    return name, list(shard)


def _index(shards: list[tuple[str, list[str]]], folder: Path, total: int, numbers: int) -> None:
    places: dict[str, str] = {}
    for number, (name, tensors) in enumerate(shards, 1):
        final = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        os.replace(folder / name, folder / final)
        places |= dict.fromkeys(tensors, final)
    index = {
        "metadata": {"total_size": total, "total_parameters": numbers},
        "weight_map": dict(sorted(places.items())),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=4), encoding="utf-8")
