"""Models written as GGUF: whole or not at all, with what llama.cpp needs, refused where it would compute otherwise."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlxnb.pocket
from mlxnb.errors import BackendMissingError, DamagedModelError, OptionError, UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.models.gguf_header import read_gguf
from mlxnb.models.gguf_info import gguf_info
from tests.tiny import Maker, save

gguf = pytest.importorskip("gguf", reason="gguf writes GGUF files")
pytest.importorskip("transformers", reason="the tokenizer is read by transformers")

from mlxnb.models.gguf import HERE, to_gguf  # noqa: E402

LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None
needs_llama_cpp = pytest.mark.skipif(not LLAMA_CPP, reason="llama-cpp-python is not installed")


def source(path: Path) -> ModelSource:
    return ModelSource(path.name, path, "path")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "room"
    made.mkdir()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the pocket model that a test may spoil."""
    return shutil.copytree(mlxnb.pocket.path(), tmp_path / "model")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def numbers(file: Path) -> dict[str, np.ndarray]:
    """Every tensor of a GGUF file in float32."""
    reader = gguf.GGUFReader(file)
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}


def test_the_pocket_model_keeps_its_numbers(folder: Path, room: Path) -> None:
    from safetensors import safe_open

    seen: list[tuple[int, int]] = []
    file = to_gguf(source(folder), room / "pocket.gguf", progress=lambda done, total: seen.append((done, total)))
    written, stored = numbers(file), safe_open(folder / "model.safetensors", framework="pt")
    for theirs, ours in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"),
        ("model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        assert (written[ours] == stored.get_tensor(theirs).float().numpy()).all()
    assert "output.weight" not in written  # it is tied
    info = gguf_info(file)
    assert (info.architecture, info.dtype, info.context_length, info.template) == ("qwen3", "bfloat16", 1024, True)
    assert (info.layers, info.heads, info.kv_heads, info.head_dim, info.vocabulary) == (4, 4, 2, 64, 4096)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert [path.name for path in room.iterdir()] == ["pocket.gguf"]


def test_what_ends_a_turn_is_in_the_file(folder: Path, room: Path) -> None:
    header = read_gguf(to_gguf(source(folder), room / "pocket.gguf"))
    assert header.metadata["mlxnb.end_token_ids"] == (0, 2)
    assert header.metadata["tokenizer.ggml.eos_token_id"] == 2
    assert header.metadata["tokenizer.ggml.pre"] == "gpt-2"


def test_rows_change_places_for_llama_and_not_for_qwen(checkpoint: Maker, room: Path) -> None:
    """Rotating neighbouring pairs of the new order is rotating halves of the old one."""
    from safetensors import safe_open

    path = checkpoint("mistral")
    written = numbers(to_gguf(source(path), room / "m.gguf"))
    stored = safe_open(path / "model.safetensors", framework="np")
    for part, ours, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        old = stored.get_tensor(f"model.layers.0.self_attn.{part}.weight").reshape(heads, 32, 64)
        new = written[f"blk.0.{ours}.weight"].reshape(heads, 32, 64)
        assert (new[:, 0::2] == old[:, :16]).all()
        assert (new[:, 1::2] == old[:, 16:]).all()


@pytest.mark.parametrize(("dtype", "bytes_of_one"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_dtypes(checkpoint: Maker, room: Path, dtype: str, bytes_of_one: int) -> None:
    path = checkpoint("qwen3")
    info = gguf_info(to_gguf(source(path), room / "m.gguf", dtype=dtype))
    assert info.dtype == dtype
    assert info.quantization is None
    assert info.weight_bytes == pytest.approx(info.parameters * bytes_of_one, rel=0.02)


@pytest.mark.parametrize("kind", HERE)
def test_quantised(checkpoint: Maker, room: Path, kind: str) -> None:
    path = checkpoint("qwen2")
    full = numbers(to_gguf(source(path), room / "full.gguf"))
    file = to_gguf(source(path), room / "m.gguf", quantize=kind)
    less, step = numbers(file), {"q8_0": 1 / 127, "q5_1": 1 / 16, "q5_0": 1 / 15, "q4_1": 1 / 8, "q4_0": 1 / 7}[kind]
    name = "blk.1.ffn_up.weight"
    largest = np.abs(full[name]).reshape(-1, 32).max(axis=1, keepdims=True)
    assert (np.abs(full[name] - less[name]).reshape(-1, 32) <= largest * step).all()
    assert gguf.GGUFReader(file).get_tensor(0).name == "token_embd.weight"
    assert gguf.GGUFReader(file).get_tensor(0).tensor_type.name == "Q8_0"
    assert gguf_info(file).bits < 20


@needs_llama_cpp
def test_k_quants_are_llama_cpp_s(folder: Path, room: Path) -> None:
    info = gguf_info(to_gguf(source(folder), room / "m.gguf", quantize="q4_k_m"))
    assert info.quantization == "Q4_K_M"
    assert info.bits < 8
    assert [path.name for path in room.iterdir()] == ["m.gguf"]


def test_a_window_bounds_the_context(checkpoint: Maker, room: Path) -> None:
    assert gguf_info(to_gguf(source(checkpoint("mistral-window")), room / "m.gguf")).context_length == 12


REFUSED = {
    "gemma": "stores a gemma",
    "phi3": "stores a phi3",
    "qwen2-tied-yarn": "YaRN with beta_fast 24",
    "qwen3-untied-bias": "YaRN",
    "llama-yarn-untruncated": "YaRN",
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused(checkpoint: Maker, room: Path, family: str) -> None:
    with pytest.raises(UnsupportedModelError, match=REFUSED[family]) as raised:
        to_gguf(source(checkpoint(family)), room / "m.gguf")
    assert raised.value.remedy
    assert list(room.iterdir()) == []


def test_biases_that_have_no_place_are_refused(room: Path) -> None:
    path = save("Qwen3Config", {"head_dim": 16, "attention_bias": True}, room / "biased")
    with pytest.raises(UnsupportedModelError, match=r"o_proj\.bias, which llama\.cpp does not know in a qwen3"):
        to_gguf(source(path), room / "m.gguf")


def test_tokenizers_that_llama_cpp_has_no_name_for_are_refused(folder: Path, room: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    for change, words in (
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text in a way"),
        ({"normalizer": {"type": "Lowercase"}}, "normalises text by Lowercase"),
        ({"model": {**spec["model"], "ignore_merges": True}}, "splits text in a way"),
    ):
        (folder / "tokenizer.json").write_text(json.dumps({**spec, **change}))
        with pytest.raises(UnsupportedModelError, match=words):
            to_gguf(source(folder), room / "m.gguf")
    assert not (room / "m.gguf").exists()


@needs_llama_cpp
def test_a_tokenizer_that_only_looks_right_is_caught(folder: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxnb.models.gguf_vocabulary._split_name", lambda pre, ignores: "llama-bpe")
    with pytest.raises(UnsupportedModelError, match="would split text otherwise"):
        to_gguf(source(folder), room / "m.gguf")
    assert list(room.iterdir()) == []


def test_bad_options(folder: Path, room: Path) -> None:
    (room / "there.gguf").write_text("mine")
    for target, options, words in (
        ("there.gguf", {}, "already exists"),
        ("m.bin", {}, r"does not end in \.gguf"),
        ("m.gguf", {"dtype": "float8"}, "dtype is 'float8'"),
        ("m.gguf", {"quantize": "int3"}, "GGUF takes q8_0"),
    ):
        with pytest.raises(OptionError, match=words):
            to_gguf(source(folder), room / target, **options)
    assert (room / "there.gguf").read_text() == "mine"


def test_a_missing_package_is_named(folder: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(BackendMissingError, match="Writing GGUF takes gguf") as raised:
        to_gguf(source(folder), room / "m.gguf")
    assert "mlxnb[llamacpp]" in raised.value.remedy


def test_an_interrupt_leaves_nothing(folder: Path, room: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_gguf(source(folder), room / "m.gguf", progress=stop)
    assert list(room.iterdir()) == []


def test_a_damaged_model_is_told(folder: Path, room: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DamagedModelError, match="is cut off"):
        to_gguf(source(folder), room / "m.gguf")


def test_numbers_too_large_for_float16(room: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = save("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": True}, room / "large")
    weights = load_file(path / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.tensor(7e4)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="float16 cannot hold"):
        to_gguf(source(path), room / "m.gguf", dtype="float16")


def test_llama3_divisors_are_transformers() -> None:
    torch = pytest.importorskip("torch")
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from mlxnb.models.gguf_families import llama3_divisors
    from tests.tiny import LLAMA3, SHAPE

    config = transformers.LlamaConfig(**{**SHAPE, "head_dim": 32, "rope_parameters": LLAMA3})
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = LLAMA3["rope_theta"] ** -(torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    divisors = llama3_divisors({"rope_parameters": LLAMA3}, 32)
    assert divisors is not None
    assert np.allclose(plain.numpy() / divisors, theirs.numpy(), rtol=1e-5)
    assert llama3_divisors({"rope_theta": 1e4}, 32) is None


WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}


def split(regex: str) -> dict[str, Any]:
    first = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [first, {**BYTES, "use_regex": False}]}


EACH_DIGIT = {"type": "Digits", "individual_digits": True}
DIGITS = {"type": "Sequence", "pretokenizers": [EACH_DIGIT, {**BYTES, "use_regex": True}]}
WAYS = {
    "qwen2": (split(WORDS + r"\p{N}" + REST), False, {"type": "NFC"}),
    "llama-bpe": (split(WORDS + r"\p{N}{1,3}" + REST), True, None),
    "dbrx": (split(WORDS + r"\p{N}{1,3}" + REST), False, None),
    "smollm": (DIGITS, False, None),
}


@needs_llama_cpp
@pytest.mark.parametrize("pre", WAYS)
def test_ways_to_split_text(folder: Path, room: Path, pre: str) -> None:
    """Each that llama.cpp has a name for here, on text of any kind."""
    from hypothesis import example, given, settings
    from hypothesis import strategies as st

    from mlxnb.backends.llamacpp_tokenizer import LlamaTokenizer
    from mlxnb.backends.tokenizer import Tokenizer
    from mlxnb.models.llama_vocabulary import vocabulary_in

    way, ignores, normalizer = WAYS[pre]
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"]["ignore_merges"] = ignores
    (folder / "tokenizer.json").write_text(json.dumps({**spec, "pre_tokenizer": way, "normalizer": normalizer}))
    file = to_gguf(source(folder), room / "m.gguf")
    metadata, theirs = read_gguf(file).metadata, Tokenizer(folder)
    assert metadata["tokenizer.ggml.pre"] == pre
    with vocabulary_in(file) as vocabulary:
        ours = LlamaTokenizer(vocabulary, metadata)

        @settings(max_examples=150)
        @given(st.text(st.sampled_from([*"aeT'sS 019\n\r\t.,!_", "\u0301", "é", "中", "🙂"]), max_size=30))
        @example("It'S 12345 cafe\u0301s,  \r\n\n x")
        def holds(text: str) -> None:
            ids = theirs.inner.encode(text, add_special_tokens=False)
            assert ours.inner.encode(text, add_special_tokens=False) == ids

        holds()
