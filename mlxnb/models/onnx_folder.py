"""Looks into a folder that onnxruntime-genai reads before anything is loaded: what it holds, whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

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

# What a session may be asked for. The library takes far more, also to load other libraries and to write files.
SAFE = frozenset(
    [
        "log_id",
        "log_severity_level",
        "intra_op_num_threads",
        "inter_op_num_threads",
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "graph_optimization_level",
        "provider_options",
    ]
)
SAFE_PREFIXES = ("session.", "optimization.", "ep.cuda.")
FILES = ("file", "path", "folder", "library")  # in a name with one of these prefixes: it reads or writes elsewhere

# And what an execution provider may: others take files, libraries and even addresses of functions.
SAFE_OF_PROVIDERS = frozenset(
    [
        "device_id",
        "device_type",
        "device_filter",
        "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode",
        "arena_extend_strategy",
        "gpu_mem_limit",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "cudnn_conv1d_pad_to_nc1d",
        "use_tf32",
        "prefer_nhwc",
        "do_copy_in_default_stream",
        "use_ep_level_unified_stream",
        "sdpa_kernel",
        "fuse_conv_bias",
        "tunable_op_enable",
        "tunable_op_tuning_enable",
        "tunable_op_max_tuning_duration_ms",
        "performance_preference",
        "disable_metacommands",
        "enable_graph_capture",
        "enable_dynamic_graph_fusion",
        "enableGraphCapture",
        "validationMode",
        "storageBufferCacheMode",
        "uniformBufferCacheMode",
        "preferredLayout",
        "precision",
        "num_of_threads",
        "num_streams",
        "MLComputeUnits",
        "ModelFormat",
        "RequireStaticInputShapes",
        "EnableOnSubgraphs",
    ]
)
NOWHERE = ("custom_ops_library", "enable_profiling")


def inspect_onnx(path: Path) -> Checkpoint:
    """Read genai_config.json and the names and shapes in the ONNX file; no weight is read.

    `config` of what it gives has the figures by config.json's names, with all of genai_config.json under "genai".

    Raises:
        NotAModelError: the folder has no genai_config.json.
        DamagedModelError: a file is broken, cut or missing, or genai_config.json lacks a part, or asks for what may
            run code or write files; names it.
        TokenizerMissingError: there are weights and no tokenizer.
        UnsupportedModelError: the model takes more than text.
    """
    names = listing(path)
    if GENAI not in names:
        problem = f"{path} has no {GENAI}; it {what_is_there(names)}."
        raise NotAModelError(problem, "Export the model with `%mlxnb convert NAME --to onnx`.")
    genai = read_json(path / GENAI, unique=True)
    _check_harmless(genai)
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


def _check_harmless(value: Any) -> None:
    """Refuse a genai_config.json that asks the library for more than to compute, in whatever part of it."""
    if isinstance(value, list):
        for each in value:
            _check_harmless(each)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        asked = [name] if name in NOWHERE else []
        if name == "session_options" and isinstance(inner, dict):
            asked = [option for option in inner if option not in SAFE and not _known(option)]
        elif name == "provider_options":
            asked = [option for option in _provider_options(inner) if option not in SAFE_OF_PROVIDERS]
        if asked:
            _refuse_option(asked[0])
        _check_harmless(inner)


def _known(option: str) -> bool:
    return option.startswith(SAFE_PREFIXES) and not any(word in option.lower() for word in FILES)


def _provider_options(named: Any) -> list[str]:
    """The names of all options of all providers; `providers` looks at the form of the rest."""
    entries = [entry for entry in named if isinstance(entry, dict)] if isinstance(named, list) else []
    return [option for entry in entries for given in entry.values() if isinstance(given, dict) for option in given]


def _refuse_option(name: str) -> NoReturn:
    refuse(GENAI, f"asks for {short(name)}, which may run code or write files", "Take another export.")


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
