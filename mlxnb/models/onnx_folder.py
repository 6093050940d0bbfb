"""Looks into a folder that onnxruntime-genai reads before anything is loaded: what it holds, whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import NotAModelError, UnsupportedModelError
from .checkpoint import Checkpoint
from .files import check_tokenizer, listing, read_json, what_is_there
from .format import GENAI
from .headers import refuse, short
from .onnx_header import Graph, read_graph
from .shape import read_shape

# Parts of a model beside its decoder: it needs more than text to begin with.
OTHER_PARTS = ("encoder", "vision", "speech", "audio", "embedding")

# What genai_config.json calls a figure, and config.json.
FIGURES = {
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "hidden_size": "hidden_size",
}


def inspect_onnx(path: Path) -> Checkpoint:
    """Read genai_config.json and the names and shapes in the ONNX file; no weight is read.

    `config` of what it gives has the figures by config.json's names, with all of genai_config.json under "genai".

    Raises:
        NotAModelError: the folder has no genai_config.json.
        DamagedModelError: a file is broken, cut or missing, or genai_config.json lacks a part; names it.
        TokenizerMissingError: there are weights and no tokenizer.
        UnsupportedModelError: the model takes more than text.
    """
    names = listing(path)
    if GENAI not in names:
        problem = f"{path} has no {GENAI}; it {what_is_there(names)}."
        raise NotAModelError(problem, "Export the model with `%mlxnb convert NAME --to onnx`.")
    genai = read_json(path / GENAI)
    model = _part(genai, "model")
    decoder = _decoder(path, model)
    graph = read_graph(path / _file(decoder))
    check_tokenizer(path, names)
    config = _config(genai, model, decoder)
    shape = read_shape(config)
    return Checkpoint(
        path=path,
        config=config,
        model_type=config["model_type"],
        architecture="",
        weight_bytes=graph.nbytes,
        parameters=graph.parameters,
        dtype=graph.dtype,
        quantization=_quantization(graph),
        context_length=shape.context or None,
        shape=shape,
    )


def _decoder(path: Path, model: Mapping[str, Any]) -> Mapping[str, Any]:
    more = [name for name in OTHER_PARTS if model.get(name)]
    if more:
        raise UnsupportedModelError(
            f"{path.name} has a part for {' and '.join(more)} beside its decoder.", "Take a model that takes text only."
        )
    decoder = _part(model, "decoder", "model.")
    if "pipeline" in decoder:
        raise UnsupportedModelError(
            f"The decoder of {path.name} is a pipeline of several graphs.", "Take a version in one graph, for the CPU."
        )
    return decoder


def _part(config: Mapping[str, Any], name: str, before: str = "") -> Mapping[str, Any]:
    part = config.get(name)
    if not isinstance(part, dict) or not part:
        refuse(GENAI, f"has no {before}{name}")
    return part


def _file(decoder: Mapping[str, Any]) -> str:
    name = decoder.get("filename")
    if not isinstance(name, str) or not name:
        refuse(GENAI, "has no model.decoder.filename")
    if name != os.path.basename(name) or "\\" in name or "\0" in name or name in (".", ".."):
        refuse(GENAI, f"names {short(name)}, which is no file of its own folder")
    return name


def _config(genai: Mapping[str, Any], model: Mapping[str, Any], decoder: Mapping[str, Any]) -> dict[str, Any]:
    kind = model.get("type")
    if not isinstance(kind, str) or not kind:
        refuse(GENAI, "has no model.type")
    for name in ("inputs", "outputs"):
        _part(decoder, name, "model.decoder.")
    counts = {theirs: _count(decoder, ours, "model.decoder.") for ours, theirs in FIGURES.items()}
    counts["vocab_size"] = _count(model, "vocab_size", "model.")
    counts["max_position_embeddings"] = _count(model, "context_length", "model.")
    window = decoder.get("sliding_window")
    if isinstance(window, dict):
        counts["sliding_window"] = _count(window, "window_size", "model.decoder.sliding_window.")
    ends = model.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    known = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
    return {"model_type": kind, **counts, "eos_token_id": known, "genai": dict(genai)}


def _count(part: Mapping[str, Any], name: str, before: str) -> int:
    value = part.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        refuse(GENAI, f"has {before}{name} = {short(value)}, which is no whole number of at least 1")
    return value


def _quantization(graph: Graph) -> str | None:
    bits = sorted(set(graph.packed.values()))
    return f"{' and '.join(str(n) for n in bits)}-bit" if bits else None
