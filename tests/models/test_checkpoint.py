"""What `inspect` says of whole models, and of every way in which a folder is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import mlxnb.pocket
from mlxnb.errors import DamagedModelError, MlxnbError, NotAModelError, TokenizerMissingError
from mlxnb.models import fits, inspect, kv_bytes_per_token, resolve
from mlxnb.models.cache import storage_of
from mlxnb.models.fit import kv_bytes
from mlxnb.models.quantization import describe
from mlxnb.models.shape import CONTEXT, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, NESTED, read_shape

from .conftest import CONFIG, write_model
from .stand_in_hub import Hub


def test_pocket() -> None:
    pocket = inspect(mlxnb.pocket.path())
    assert (pocket.model_type, pocket.architecture, pocket.dtype) == ("qwen3", "Qwen3ForCausalLM", "bfloat16")
    assert (pocket.layers, pocket.heads, pocket.kv_heads, pocket.head_dim) == (4, 4, 2, 64)
    assert pocket.weight_bytes == 2 * pocket.parameters
    assert pocket.weight_bytes < (mlxnb.pocket.path() / "model.safetensors").stat().st_size
    assert pocket.quantization is None
    assert kv_bytes_per_token(pocket) == 2 * 4 * 2 * 64 * 2


def test_only_headers_are_read(tmp_path: Path) -> None:
    """A header may claim 500 GB; the file is sparse, and reading it would take forever."""
    folder = write_model(tmp_path / "huge")
    sparse_weights(folder / "model.safetensors", 500 * 10**9)
    huge = inspect(folder)
    assert (huge.weight_bytes, huge.parameters) == (500 * 10**9, 250 * 10**9)


def sparse_weights(path: Path, size: int) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)


def test_shards(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "sharded")
    assert inspect(folder).parameters == 2 * 32
    (folder / "model.safetensors.index.json").unlink()
    assert inspect(folder).parameters == 2 * 32


def write_shards(folder: Path) -> Path:
    write_model(folder)
    (folder / "model.safetensors").unlink()
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for tensor, name in names.items():
        save_file({tensor: np.zeros((4, 8), np.float32)}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


FAMILIES: dict[str, tuple[dict[str, Any], tuple[int, int, int, int], int, int]] = {
    # config, (layers, heads, kv_heads, head_dim), KV bytes a token in 16 bit, context
    "Llama-3.1-8B": (
        {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
         "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        (32, 32, 8, 128), 131_072, 131_072),
    "Qwen3-0.6B": (
        {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 1024,
         "head_dim": 128, "max_position_embeddings": 40960, "sliding_window": None},
        (28, 16, 8, 128), 114_688, 40_960),
    "GPT-2": ({"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "n_ctx": 1024},
              (12, 12, 12, 64), 36_864, 1024),
    "Falcon-7B": ({"num_hidden_layers": 32, "num_attention_heads": 71, "hidden_size": 4544, "multi_query": True,
                   "num_kv_heads": 71},
                  (32, 71, 1, 64), 8_192, 0),
    "MPT-7B": ({"n_layers": 32, "n_heads": 32, "d_model": 4096, "max_seq_len": 2048,
                "attn_config": {"attn_type": "multihead_attention"}}, (32, 32, 32, 128), 524_288, 2048),
    "DBRX": ({"n_layers": 40, "n_heads": 48, "d_model": 6144, "max_seq_len": 32768, "attn_config": {"kv_n_heads": 8}},
             (40, 48, 8, 128), 163_840, 32_768),
    "ChatGLM3": ({"num_layers": 28, "num_attention_heads": 32, "multi_query_group_num": 2, "kv_channels": 128,
                  "hidden_size": 4096, "seq_length": 8192}, (28, 32, 2, 128), 28_672, 8192),
    "DeepSeek-V3": (
        {"model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
         "hidden_size": 7168, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "max_position_embeddings": 163840}, (61, 128, 128, 192), 61 * (512 + 64) * 2, 163_840),
    "DeepSeek-V2-Lite": (
        {"model_type": "deepseek_v2", "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
         "hidden_size": 2048, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "max_position_embeddings": 163840}, (27, 16, 16, 192), 27 * 16 * (192 + 128) * 2, 163_840),
    "Qwen3-Next": (
        {"num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
         "full_attention_interval": 4, "max_position_embeddings": 262144},
        (48, 16, 2, 256), 2 * 12 * 2 * 256 * 2, 262_144),
    "Gemma-3-4B": (
        {"model_type": "gemma3", "vision_config": {"num_hidden_layers": 27},
         "text_config": {"num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                         "sliding_window": 1024, "max_position_embeddings": 131072}},
        (34, 8, 4, 256), 2 * 34 * 4 * 256 * 2, 131_072),
    "Qwen2.5-Omni": (
        {"thinker_config": {"text_config": {"num_hidden_layers": 28, "num_attention_heads": 28, "hidden_size": 3584,
                                            "num_key_value_heads": 4, "max_position_embeddings": 32768}}},
        (28, 28, 4, 128), 57_344, 32_768),
    "Mamba-2": ({"model_type": "mamba2", "num_hidden_layers": 64, "num_heads": 128, "head_dim": 64},
                (64, 0, 0, 64), 0, 0),
    "a config that says little": ({}, (0, 0, 0, 0), 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, tmp_path: Path) -> None:
    config, figures, per_token, context = FAMILIES[family]
    checkpoint = inspect(write_model(tmp_path / "m", {"model_type": "x", **config}))
    assert (checkpoint.layers, checkpoint.heads, checkpoint.kv_heads, checkpoint.head_dim) == figures
    assert kv_bytes_per_token(checkpoint) == per_token
    assert checkpoint.context_length == (context or None)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma", "deepseek-v3-plain"])
def test_figures_are_those_of_the_loaded_model(family: str, checkpoint: Callable[[str], Path]) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    path = checkpoint(family)
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    cache = model(torch.arange(1, 11)[None], use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    found = inspect(path)
    assert kv_bytes_per_token(found, bytes_per_element=4) == kept / 10
    stored = {name for name, _ in model.named_parameters()} | set(model.state_dict()) - {"lm_head.weight"}
    assert found.parameters == sum(model.state_dict()[name].numel() for name in stored)
    assert found.context_length == model.config.max_position_embeddings


def test_layers_with_a_window_are_counted() -> None:
    types = ["sliding_attention"] * 3 + ["full_attention"] + ["linear_attention", "conv", "mamba", "chunked_attention"]
    config = {"num_hidden_layers": 8, "num_attention_heads": 2, "layer_types": types, "sliding_window": 128}
    shape = read_shape(config)
    assert (shape.kv_layers, shape.windowed_layers, shape.window) == (5, 4, 128)
    off = read_shape({**config, "use_sliding_window": False})
    assert (off.kv_layers, off.windowed_layers) == (5, 0)
    odd = read_shape({"num_hidden_layers": 2, "num_attention_heads": 2, "layer_types": ["dense", "moe"]})
    assert (odd.kv_layers, odd.windowed_layers) == (2, 0)


@pytest.mark.parametrize(
    ("config", "tokenizer", "length"),
    [
        ({"max_position_embeddings": 131072}, {"model_max_length": 16384}, 131072),
        ({"max_position_embeddings": 32768}, {"model_max_length": 131072}, 32768),
        ({}, {"model_max_length": 2048}, 2048),
        ({}, {"model_max_length": 1e30}, None),
        ({}, {"model_max_length": "many"}, None),
        ({}, {"model_max_length": True}, None),
        ({"max_position_embeddings": 4096.0}, None, 4096),
        ({"max_position_embeddings": "many", "n_ctx": 1e30}, None, None),
        ({"max_position_embeddings": -1}, {"model_max_length": 512}, 512),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, {}, 4096),
        ({}, None, None),
    ],
)
def test_context_length(
    config: dict[str, Any], tokenizer: dict[str, Any] | None, length: int | None, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", {"model_type": "x", **config})
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert inspect(folder).context_length == length


def quantised(bits: int, group: int = 64, rows: int = 16, columns: int = 256) -> dict[str, Any]:
    return {
        "layer.weight": np.zeros((rows, columns * bits // 32), np.uint32),
        "layer.scales": np.zeros((rows, columns // group), np.float16),
        "layer.biases": np.zeros((rows, columns // group), np.float16),
        "norm.weight": np.zeros(columns, np.float16),
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx_quantised_weights_count_as_what_they_unpack_to(bits: int, tmp_path: Path) -> None:
    config = {**CONFIG, "quantization": {"group_size": 64, "bits": bits}}
    checkpoint = inspect(write_model(tmp_path / "m", config, quantised(bits)))
    assert checkpoint.parameters == 16 * 256 + 256
    assert (checkpoint.quantization, checkpoint.dtype) == (f"{bits}-bit, group 64", "float16")


def test_a_layer_with_bits_of_its_own(tmp_path: Path) -> None:
    own = {"group_size": 64, "bits": 8}
    config = {**CONFIG, "quantization": {"group_size": 64, "bits": 4, "layer": own, "norm": False}}
    checkpoint = inspect(write_model(tmp_path / "m", config, quantised(8)))
    assert checkpoint.parameters == 16 * 256 + 256
    assert checkpoint.quantization == "4-bit mixed, group 64"


@pytest.mark.parametrize(
    ("quantization", "says"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq 4-bit, group 128"),
        ({"quant_method": "awq", "bits": 4, "group_size": -1}, "awq 4-bit"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "mxfp4, group 32"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4-bit"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}}},
         "compressed-tensors 4-bit, group 32"),
        ({"quant_method": 5, "bits": "four", "config_groups": []}, "quantised"),
        ({}, None),
    ],
)  # fmt: skip
def test_how_quantisation_is_told(quantization: dict[str, Any], says: str | None) -> None:
    assert describe(quantization) == says


def test_gptq_weights_count_as_what_they_unpack_to(tmp_path: Path) -> None:
    tensors = {
        "layer.qweight": np.zeros((256 // 8, 64), np.int32),
        "layer.qzeros": np.zeros((2, 8), np.int32),
        "layer.scales": np.zeros((2, 64), np.float16),
        "layer.g_idx": np.zeros(256, np.int32),
    }
    config = {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    assert inspect(write_model(tmp_path / "m", config, tensors)).parameters == 256 * 64


def remove(*names: str) -> Any:
    return lambda folder: [(folder / name).unlink() for name in names]


def put(name: str, data: bytes | dict[str, Any]) -> Any:
    return lambda folder: (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def steps(*changes: Any) -> Any:
    return lambda folder: [change(folder) for change in changes]


def cut_in_half(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) - 30])


BAD: dict[str, tuple[Any, type[MlxnbError], str]] = {
    "no config": (remove("config.json"), NotAModelError, "no config.json; it holds model.safetensors, tokenizer.json"),
    "empty folder": (remove("config.json", "model.safetensors", "tokenizer.json"), NotAModelError, "it is empty"),
    "no weights": (remove("model.safetensors"), NotAModelError, "no weights; it holds config.json, tokenizer.json"),
    "pickles only": (steps(remove("model.safetensors"), put("a.bin", b"x")), NotAModelError, "can run code"),
    "gguf only": (steps(remove("model.safetensors", "config.json"), put("q.gguf", b"x")), NotAModelError, "llama.cpp"),
    "consolidated": (lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors"),
                     NotAModelError, "must be called model.safetensors"),
    "adapter": (steps(remove("config.json"), put("adapter_config.json", {})), NotAModelError, "LoRA adapter"),
    "diffusion": (put("config.json", {"_class_name": "UNet"}), NotAModelError, "no model_type"),
    "config text": (put("config.json", b"not json"), DamagedModelError, "config.json is not JSON (Expecting value in"),
    "config empty": (put("config.json", b" \n"), DamagedModelError, "config.json is not JSON (the file is empty)"),
    "config bytes": (put("config.json", b"\xff\xfe{}"), DamagedModelError, "config.json is not JSON"),
    "config deep": (put("config.json", b'{"a":' * 99_999), DamagedModelError, "nested too deep"),
    "config list": (put("config.json", b"[]"), DamagedModelError, "holds [] where a JSON object was expected"),
    "config digits": (put("config.json", b'{"a":' + b"9" * 5000 + b"}"), DamagedModelError, "number in it is too long"),
    "config words": (put("config.json", {**CONFIG, "num_hidden_layers": "many"}), DamagedModelError, "'many'"),
    "config negative": (put("config.json", {**CONFIG, "num_attention_heads": -4}), DamagedModelError, "= -4"),
    "config float": (put("config.json", {**CONFIG, "head_dim": 64.5}), DamagedModelError, "64.5"),
    "empty weights": (put("model.safetensors", b""), DamagedModelError, "model.safetensors is empty"),
    "cut weights": (cut_in_half, DamagedModelError, "is cut off: 30 bytes of 64 bytes"),
    "no tensors": (lambda f: save_file({}, f / "model.safetensors"), DamagedModelError, "holds no tensor"),
    "no tokenizer": (remove("tokenizer.json"), TokenizerMissingError, "no tokenizer; it holds config"),
    "empty tokenizer": (put("tokenizer.json", b""), DamagedModelError, "tokenizer.json is empty"),
    "half a tokenizer": (steps(remove("tokenizer.json"), put("vocab.json", {})), TokenizerMissingError, "vocab.json"),
    "tokenizer config": (steps(put("config.json", {"model_type": "x"}), put("tokenizer_config.json", b"{")),
                         DamagedModelError, "tokenizer_config.json is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_model_is_told_with_what_is_there(case: str, tmp_path: Path) -> None:
    change, error, says = BAD[case]
    folder = write_model(tmp_path / "m")
    change(folder)
    with pytest.raises(error) as caught:
        inspect(folder)
    assert says in str(caught.value)
    assert str(folder) in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))


SHARDS: dict[str, tuple[Any, str]] = {
    "missing": (remove("model-00002-of-00002.safetensors"), "model-00002-of-00002.safetensors is missing; 1 of 2"),
    "missing, no index": (remove("model-00001-of-00002.safetensors", "model.safetensors.index.json"), "1 of 2 weight"),
    "index without map": (put("model.safetensors.index.json", {}), "no weight_map"),
    "index of numbers": (put("model.safetensors.index.json", {"weight_map": {"a": 5}}), "no weight_map"),
    "index leads out": (put("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}), "same folder"),
    "index text": (put("model.safetensors.index.json", b"{"), "index.json is not JSON"),
    "tensor missing": (put("model.safetensors.index.json", {"weight_map": {
        "a": "model-00001-of-00002.safetensors", "zzz": "model-00002-of-00002.safetensors"}}), "the tensor 'zzz'"),
    "absurd numbering": (put("model-00001-of-999999.safetensors", b""), "model-00001-of-999999.safetensors is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_what_is_wrong_with_shards(case: str, tmp_path: Path) -> None:
    change, says = SHARDS[case]
    folder = write_shards(tmp_path / "m")
    change(folder)
    with pytest.raises(DamagedModelError) as caught:
        inspect(folder)
    assert says in caught.value.message


keys = [*LAYERS, *HEADS, *KV_HEADS, *HEAD_DIM, *HIDDEN, *CONTEXT, "kv_lora_rank", "layer_types", "sliding_window",
        "model_type", "architectures", "quantization", "full_attention_interval", "attn_config"]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*keys, *NESTED]), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(config=st.dictionaries(st.sampled_from([*keys, *NESTED]), values, max_size=8), tokens=st.integers(1, 10**6))
def test_no_config_breaks_it(config: dict[str, Any], tokens: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_model(tmp_path_factory.getbasetemp() / "any", {"model_type": "x", **config})
    try:
        checkpoint = inspect(folder)
    except (NotAModelError, DamagedModelError):
        return
    assert kv_bytes_per_token(checkpoint) >= kv_bytes(checkpoint, 1) >= 0
    assert str(fits(checkpoint, tokens=tokens))


@pytest.mark.parametrize("names", [["tokenizer.model"], ["vocab.json", "merges.txt"], ["qwen.tiktoken"], ["vocab.txt"]])
def test_tokenizers_that_loaders_know(names: list[str], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    for name in names:
        (folder / name).write_bytes(b"x")
    assert inspect(folder).parameters == 32


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(NotAModelError, match="cannot be read"):
        inspect(tmp_path / "none")


def test_a_damaged_file_of_the_cache_must_go_before_it_comes_again(hub: Hub) -> None:
    folder = resolve("lab/tiny").path
    (folder / "model.safetensors").resolve().write_bytes(b"")
    with pytest.raises(DamagedModelError) as caught:
        inspect(folder)
    assert caught.value.remedy == f"Delete {storage_of('lab/tiny')} and ask for the model again."
