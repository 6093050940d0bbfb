"""Writes a model in the format that was asked for, MLX's, GGUF or ONNX, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import local_models_dir
from ..conversion import GROUP, Conversion
from ..errors import OptionError, UnsupportedModelError
from ..quiet import LOADING
from .checkpoint import inspect
from .convert import DTYPE_BITS, Progress, Quantisation, convert
from .convert_target import aside, check_disk, check_free, check_target
from .format import GGUF
from .gguf_vocabulary import read_tokenizer
from .source import ModelSource


def default_target(source: ModelSource, conversion: Conversion) -> Path:
    """The place of a model that nobody named one for: in LOCAL_MODELS_DIR, or in the current folder."""
    last = re.split(r"[/\\]", source.name.rstrip("/\\"))[-1]
    stem = source.path.name if last in ("", ".", "..") else last
    parts = [stem, conversion.kind or conversion.dtype, None if conversion.kind else conversion.to]
    if conversion.to == "mlx":
        name = "-".join(filter(None, parts)).replace("-bit", "bit")
    elif conversion.to == "gguf":
        name = "-".join(filter(None, parts[:2])) + GGUF
    else:
        name = "-".join(filter(None, [*parts[:2], "onnx"]))
    return (local_models_dir() or Path()) / name


def check_place(target: Path, conversion: Conversion, force: bool = False) -> None:
    """What is wrong with a target whatever the source, so that it is said before a download.

    Raises:
        OptionError: it is taken, or no name for a file of its format.
    """
    if conversion.to == "gguf" and target.suffix.lower() != GGUF:
        raise OptionError(f"{target.name} does not end in {GGUF}.", f"GGUF is one file: name it {target.name}{GGUF}.")
    check_free(target, force)


def write(
    source: ModelSource, target: Path, conversion: Conversion, force: bool = False, progress: Progress | None = None
) -> None:
    """Write `source` to `target`, which appears whole or not at all; with `force` in the place of a model there.

    Any thread may call it. `progress` hears of steps done, steps in all and what is under way, and what it raises ends
    the conversion.

    Raises:
        OptionError: the target is taken, or the format has no such dtype.
        UnsupportedModelError: the model is in no folder of safetensors, is quantised already, or of an architecture
            that is not known.
        TokenizerMissingError: the tokenizer cannot be read.
        BackendMissingError: what writes the format is not installed.
        ConversionError: the disk has no room, or failed.
    """
    _check_source(source)
    if conversion.to == "mlx":
        convert(source, target, _quantisation(conversion), conversion.dtype, progress, force)
        return
    check_place(target, conversion, force)
    check_target(target, source.path, force)
    check_disk(target, _at_most(source, conversion))
    writer = _writer(conversion.to)
    options: dict[str, Any] = {"dtype": conversion.dtype, "quantize": conversion.kind}
    with LOADING:  # so that the writer finds all of transformers that it needs, and may run beside a load
        read_tokenizer(source.path)
    with aside(target, force) as building:
        writer(source, building, **options, progress=_in_two(progress, f"writing {target.name}"))


def _writer(to: str) -> Callable[..., Path]:
    if to == "gguf":
        from .gguf import to_gguf

        return to_gguf
    from .onnx_export import to_onnx

    return to_onnx


def _check_source(source: ModelSource) -> None:
    if source.format != "safetensors":
        problem = f"{source.name} is {source.format.upper()}, and conversions start from safetensors."
        raise UnsupportedModelError(problem, "Convert the model that it was made from.")
    stored = inspect(source.path).quantization
    if stored:
        problem = f"{source.name} is quantised already ({stored}); rounding again would only add to its error."
        raise UnsupportedModelError(problem, "Convert the model that it was made from.")


def _quantisation(conversion: Conversion) -> Quantisation | None:
    """As the writer of MLX's format takes it."""
    if conversion.kind is None:
        return None
    bits = conversion.bits if isinstance(conversion.bits, int) else 4
    return Quantisation(conversion.group_size or GROUP, bits, conversion.mixed)


def _at_most(source: ModelSource, conversion: Conversion) -> float:
    """Bytes that a model may take in another format: ONNX is float32 before it is anything else."""
    checkpoint = inspect(source.path)
    stored = 8 * checkpoint.weight_bytes / max(1, checkpoint.parameters)
    plain = DTYPE_BITS[conversion.dtype] if conversion.dtype else stored if conversion.to == "gguf" else 32
    return checkpoint.parameters * plain / 8


def _in_two(progress: Progress | None, doing: str) -> Any:
    """A progress that hears no words, as these writers know it."""
    return None if progress is None else lambda done, total: progress(done, total, doing)
