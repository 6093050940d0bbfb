"""The list of what is here: every place and format, made in the test; what is damaged is a row that says so."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from mlxnb import pocket
from mlxnb.models import find_models, resolve
from mlxnb.models.entry import Entry
from mlxnb.models.inventory import inventory

from .conftest import CONFIG, write_model
from .stand_in_hub import Hub

onnx = pytest.importorskip("onnx", reason="onnx writes the graph of a test")

GB = 10**9


def write_gguf(path: Path, layers: int = 2, name: str = "tiny", cut: int = 0) -> Path:
    """A GGUF file with one tensor of 64 numbers in float16, written by the format's own rules."""
    kinds = {int: (4, lambda v: struct.pack("<I", v)), str: (8, lambda v: text(v))}

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    metadata = {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": 1,
        "general.alignment": 32,
        "llama.block_count": layers,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.embedding_length": 64,
        "llama.context_length": 2048,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(metadata))
    for key, value in metadata.items():
        number, written = kinds[type(value)]
        head += text(key) + struct.pack("<I", number) + written(value)
    head += text("token_embd.weight") + struct.pack("<I", 2) + struct.pack("<QQ", 8, 8) + struct.pack("<IQ", 1, 0)
    head += b"\0" * (-len(head) % 32)
    data = head + np.zeros(64, np.float16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[: len(data) - cut])
    return path


def write_onnx(folder: Path) -> Path:
    """A folder as onnxruntime-genai reads it, with one weight of 5,000 float16 numbers beside the graph."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT16
    folder.mkdir(parents=True)
    decoder = {
        "filename": "model.onnx",
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_size": 64,
        "hidden_size": 50,
        "inputs": {"input_ids": "x"},
        "outputs": {"logits": "y"},
    }
    model = {"type": "qwen3", "context_length": 4096, "vocab_size": 100, "eos_token_id": 1, "decoder": decoder}
    (folder / "genai_config.json").write_text(json.dumps({"model": model}))
    (folder / "tokenizer.json").write_text("{}")
    weight = helper.make_tensor("w", kind, [50, 100], bytes(10_000), raw=True)
    ends = [helper.make_tensor_value_info(name, kind, [1, n]) for name, n in (("x", 50), ("y", 100))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    options = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
    onnx.save_model(helper.make_model(graph), str(folder / "model.onnx"), **options)
    return folder


def by_name(entries: list[Entry]) -> dict[str, Entry]:
    named = {entry.name: entry for entry in entries}
    assert len(named) == len(entries)
    return named


def test_pocket_is_always_there_and_fits() -> None:
    [entry] = inventory()
    assert (entry.name, entry.where, entry.format, entry.path) == ("pocket", "in mlxnb", "safetensors", pocket.path())
    assert entry.room is not None
    assert entry.room.state == "fits"
    assert entry.attention.startswith("GQA")
    assert entry.context == entry.room.most
    assert entry.weights is not None
    assert entry.size is not None
    assert entry.size > entry.weights > 0


def test_folders_of_every_format(local_models: Path) -> None:
    write_model(local_models / "lab" / "tiny", {**CONFIG, "sliding_window": 8})
    write_gguf(local_models / "alone-Q4.gguf")
    write_gguf(local_models / "one" / "inside.gguf")
    write_gguf(local_models / "many" / "a-Q4.gguf")
    write_gguf(local_models / "many" / "a-Q8.gguf", layers=3)
    write_gguf(local_models / "many" / "mmproj-a.gguf")
    write_onnx(local_models / "lab" / "tiny-onnx")
    found = by_name(inventory(free=GB))
    assert list(found) == ["pocket", "lab/tiny", "lab/tiny-onnx", "many/a-Q4", "many/a-Q8", "one", "alone-Q4"]
    assert {entry.problem for entry in found.values()} == {""}
    tiny, gguf, exported = found["lab/tiny"], found["alone-Q4"], found["lab/tiny-onnx"]
    assert (tiny.where, tiny.precision, tiny.context, tiny.architecture) == (
        "LOCAL_MODELS_DIR",
        "float16",
        512,
        "llama",
    )
    assert (tiny.parameters, tiny.weights, tiny.attention) == (32, 64, "GQA 4:2")
    assert (gguf.format, gguf.precision, gguf.parameters, gguf.context) == ("gguf", "float16", 64, 2048)
    assert (gguf.architecture, gguf.attention, gguf.size) == ("llama", "GQA 4:2", gguf.path.stat().st_size)
    assert found["many/a-Q8"].shape.layers == 3
    assert (exported.format, exported.architecture, exported.attention) == ("onnx", "qwen3", "GQA 8:2")
    assert (exported.weights, exported.context) == (10_000, 4096)
    assert (exported.parameters, exported.precision) == (5_000, "float16")
    assert exported.room is not None
    assert exported.room.cache == 4096 * 6 * 2 * 2 * 64 * 2


def test_every_name_of_the_list_is_one_that_resolve_takes(local_models: Path, tmp_path: Path) -> None:
    for make in (write_model, write_onnx):
        make(local_models / "lab" / make.__name__)
    write_gguf(local_models / "many" / "a-Q4.gguf")
    write_gguf(local_models / "many" / "a-Q8.gguf")
    for entry in inventory():
        source = resolve(entry.name, download=False)
        assert (source.path, source.format) == (entry.path, entry.format)
    assert [source.name for source in find_models()] == [entry.name for entry in inventory()]


def test_a_file_by_its_other_spelling(local_models: Path) -> None:
    file = write_gguf(local_models / "tiny-4bit.gguf")
    source = resolve("tiny", download=False)
    assert (source.path, source.format) == (file, "gguf")
    assert source.note == "tiny is not there; tiny-4bit is, and was taken"


def test_damage_is_a_row(local_models: Path) -> None:
    whole = write_model(local_models / "whole")
    for name in ("cut", "config", "no-tokenizer"):
        write_model(local_models / name)
    weights = local_models / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (local_models / "config" / "config.json").write_text("{")
    (local_models / "no-tokenizer" / "tokenizer.json").unlink()
    write_gguf(local_models / "cut.gguf", cut=7)
    (local_models / "empty.gguf").touch()
    (local_models / "broken-onnx").mkdir()
    (local_models / "broken-onnx" / "genai_config.json").write_text("[]")
    found = by_name(inventory())
    assert found["whole"].problem == ""
    assert found["whole"].path == whole
    for name, says in {
        "config": "config.json is not JSON",
        "no-tokenizer": "has no tokenizer",
        "empty": "empty",
        "broken-onnx": "JSON object",
    }.items():
        assert says in found[name].problem, found[name]
        assert found[name].room is None
    assert found["no-tokenizer"].remedy.startswith("Copy tokenizer.json")
    # The folder and the file are both called cut; the one that resolve takes by that name is listed.
    assert "cut off" in found["cut"].problem


def test_a_context_that_is_asked_for(local_models: Path) -> None:
    config = {**CONFIG, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
              "num_key_value_heads": 8, "max_position_embeddings": 32_768}  # fmt: skip
    write_model(local_models / "long", config)
    free = 200_000_000 + 131_072 * 1000 + 100
    states = {}
    for tokens in (None, 700, 800, 10**6):
        entry = by_name(inventory(tokens, free))["long"]
        assert entry.room is not None
        assert entry.room.most == 1000
        states[tokens] = (entry.room.state, entry.room.tokens)
    assert states == {None: ("tight", 4096), 700: ("fits", 700), 800: ("tight", 800), 10**6: ("tight", 32_768)}


def test_the_cache_whole_in_part_and_at_other_revisions(hub: Hub, tmp_path: Path) -> None:
    source = resolve("lab/tiny")
    cache = source.path.parents[2]
    half = cache / "models--lab--half"
    (half / "blobs").mkdir(parents=True)
    (half / "blobs" / "abc.incomplete").write_bytes(b"x")
    old = cache / "models--lab--old"
    at_v1 = write_model(old / "snapshots" / ("b" * 40))
    (old / "refs").mkdir()
    (old / "refs" / "v1").write_text("b" * 40)
    only_config = cache / "models--lab--tokenizer-only" / "snapshots" / ("c" * 40)
    only_config.mkdir(parents=True)
    (only_config / "config.json").write_text("{}")
    pickles = cache / "models--lab--pickles" / "snapshots" / ("d" * 40)
    pickles.mkdir(parents=True)
    (pickles / "config.json").write_text('{"model_type": "gpt2"}')
    (pickles / "pytorch_model.bin").write_bytes(b"x")
    gguf = write_gguf(cache / "models--lab--tiny-GGUF" / "snapshots" / ("e" * 40) / "tiny-Q4_0.gguf")
    (cache / "models--empty").mkdir()
    found = by_name(inventory())
    assert set(found) == {"pocket", "lab/tiny", "lab/half", str(at_v1), "lab/pickles", str(gguf)}
    assert found["lab/tiny"].where == "Hugging Face cache"
    assert found["lab/half"].problem == "lab/half was downloaded in part only."
    assert found["lab/half"].remedy == "%mlxnb download lab/half goes on."
    assert found[str(at_v1)].note == "lab/old at v1"
    assert "format that can run code" in found["lab/pickles"].problem
    assert found[str(gguf)].note == f"lab/tiny-GGUF at {'e' * 40}"
    for name in (str(gguf), str(at_v1)):
        assert resolve(name).path == Path(name)


def test_lm_studio_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = write_gguf(tmp_path / ".lmstudio" / "models" / "lab" / "tiny-GGUF" / "tiny.gguf")
    moved = tmp_path / "elsewhere"
    write_model(moved / "models" / "lab" / "tiny-mlx")
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{moved}\n")
    found = by_name(inventory())
    names = [str(moved / "models" / "lab" / "tiny-mlx"), str(file.parent)]
    assert list(found) == ["pocket", *names]
    assert [found[name].where for name in names] == ["LM Studio"] * 2
    assert [found[name].note for name in names] == ["lab/tiny-mlx", "lab/tiny-GGUF"]
    assert resolve(names[1]).format == "gguf"


def test_a_folder_that_is_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "gone"))
    found = inventory()
    assert [entry.name for entry in found] == ["pocket", str(tmp_path / "gone")]
    assert found[1].problem == f"LOCAL_MODELS_DIR ({tmp_path / 'gone'}) is no folder."


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read everything")
def test_a_model_that_may_not_be_read_is_a_row(local_models: Path) -> None:
    folder = write_model(local_models / "locked")
    (folder / "model.safetensors").chmod(0)
    assert "cannot be read" in by_name(inventory())["locked"].problem
