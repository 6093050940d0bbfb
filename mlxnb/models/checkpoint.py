"""Looks into a model's folder before anything is loaded: what it is, how large, and whether it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DamagedModelError, NotAModelError
from .cache import repository_of
from .files import INDEX, WEIGHTS, check_config, check_tokenizer, listing, read_json, weight_files
from .headers import AGAIN, Tensor, read_header, refuse, short
from .quantization import count_parameters, describe, quantization_of
from .shape import SANE_CONTEXT, Shape, read_shape

FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "F8_E4M3": "float8_e4m3",
          "F8_E5M2": "float8_e5m2"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole model on disk, as its configuration and its files' headers describe it.

    weight_bytes: size of all tensors as stored. parameters: how many numbers they are, packed ones counted unpacked.
    dtype: the float type that most numbers are stored in, such as "bfloat16"; that of the scales when quantised.
    context_length: in tokens, None where nothing says. See Shape for the rest; 0 there means not stated.
    """

    path: Path
    config: dict[str, Any]
    model_type: str
    architecture: str
    weight_bytes: int
    parameters: int
    dtype: str
    quantization: str | None
    context_length: int | None
    shape: Shape

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return self.shape.layers

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.shape.heads

    @property
    def kv_heads(self) -> int:
        """Key and value heads of a layer: as many as `heads` without grouping, 1 for multi-query."""
        return self.shape.kv_heads

    @property
    def head_dim(self) -> int:
        """Numbers in a head's key."""
        return self.shape.head_dim


def inspect(path: Path) -> Checkpoint:
    """Read a model's config.json and the headers of its weights; no weight is read.

    Raises:
        NotAModelError: the folder holds no model, or one without safetensors; says what it holds.
        DamagedModelError: a file is broken, cut or missing; names it.
        TokenizerMissingError: there are weights and no tokenizer.
    """
    try:
        return _read(path)
    except DamagedModelError as error:
        raise DamagedModelError(f"The model in {path} is damaged: {error.message}", _remedy(path, error)) from None


def _remedy(path: Path, error: DamagedModelError) -> str:
    # The Hugging Face cache would link the same damaged file again, so it must go first.
    if error.remedy == AGAIN and repository_of(path):
        return f"Delete {path.parent.parent} and ask for the model again."
    return error.remedy


def _read(path: Path) -> Checkpoint:
    names = listing(path)
    check_config(path, names)
    config = read_json(path / "config.json")
    model_type = _model_type(path, config)
    tensors = _tensors(path, names)
    check_tokenizer(path, names)
    shape, quantization = read_shape(config), quantization_of(config)
    return Checkpoint(
        path=path,
        config=config,
        model_type=model_type,
        architecture=_architecture(config),
        weight_bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
        parameters=count_parameters(tensors, quantization),
        dtype=_dtype(tensors),
        quantization=describe(quantization),
        context_length=_context_length(path, names, shape),
        shape=shape,
    )


def kv_bytes_per_token(checkpoint: Checkpoint, bytes_per_element: float = 2) -> float:
    """Bytes that one more token adds to the KV cache.

    METRICS' 2 · layers · kv_heads · head_dim · bytes, over the layers that keep keys and values; see Shape.kv_width for
    latent attention. 0 where config.json does not state the figures.
    """
    return checkpoint.shape.kv_layers * checkpoint.shape.kv_width * bytes_per_element


def _tensors(path: Path, names: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path, names):
        tensors.update(read_header(file))
    if not tensors:
        refuse(WEIGHTS, "holds no tensor")
    if INDEX in names:
        for name in read_json(path / INDEX).get("weight_map", {}):
            if name not in tensors:
                refuse(INDEX, f"names the tensor {short(name)}, which no weight file holds")
    return tensors


def _model_type(path: Path, config: Mapping[str, Any]) -> str:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        problem = f"{path}/config.json has no model_type, so it does not describe a language model."
        raise NotAModelError(problem, "Take a folder that Transformers or mlx-lm wrote.")
    return model_type


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _dtype(tensors: Mapping[str, Tensor]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in FLOATS:
            sizes[FLOATS[tensor.dtype]] += tensor.elements
    return sizes.most_common(1)[0][0] if sizes else "unknown"


def _context_length(path: Path, names: list[str], shape: Shape) -> int | None:
    """config.json's figure, and the tokenizer's only where it has none.

    The smaller of the two would be wrong: DeepSeek-R1's distilled models state 131,072 in config.json and a stale
    16,384 in tokenizer_config.json (DeepSeek-R1 issue 695). Rope scaling is not multiplied in: most families state the
    scaled length already, and the unscaled one is safe for the others.
    """
    if shape.context:
        return shape.context
    if "tokenizer_config.json" not in names:
        return None
    stated = read_json(path / "tokenizer_config.json").get("model_max_length")
    if isinstance(stated, bool) or not isinstance(stated, int | float):
        return None
    return int(stated) if 1 <= stated < SANE_CONTEXT else None
