"""An environment of its own for every test, tiny model folders, and a stand-in for the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from .stand_in_hub import Hub, Repository, serve

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
MakeModel = Callable[..., Path]


def write_model(folder: Path, config: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None) -> Path:
    """A folder with config.json, model.safetensors and a tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "tokenizer.json").write_text("{}")
    save_file(tensors or {"w": np.zeros((4, 8), np.float16)}, folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine is seen, no cache of its is read, and no server outside is reached."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN",
                 "HUGGING_FACE_HUB_TOKEN", "LOCAL_MODELS_DIR"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens on the discard port
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def local_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LOCAL_MODELS_DIR."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one whole model, lab/tiny, that also has what must not be downloaded."""
    folder = write_model(tmp_path / "served", tensors={"w": np.arange(300_000, dtype=np.float32)})
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files |= {
        "chat_template.jinja": b"{{ messages }}",
        "tokenizer.model": b"spm",
        "pytorch_model.bin": b"pickle",
        "modeling_tiny.py": b"raise SystemExit",
        "README.md": b"# tiny",
        "original/model.safetensors": b"twice",
        "onnx/config.json": b"{}",
    }
    with serve({"lab/tiny": Repository(files)}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served
