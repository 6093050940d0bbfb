"""What format the model in a folder has, told from the names of its files."""

from __future__ import annotations

import os
from pathlib import Path

from .source import Format

GGUF = ".gguf"
GENAI = "genai_config.json"  # what onnxruntime-genai reads first


def format_of(path: Path) -> Format:
    """The format of a model's folder or file: "onnx" with a genai_config.json, "gguf" for GGUF files without a
    config.json and weights in safetensors; everything else counts as "safetensors", whose readers say what is missing.
    """
    if path.suffix.lower() == GGUF and path.is_file():
        return "gguf"
    try:
        names = os.listdir(path)
    except OSError:
        return "safetensors"
    if GENAI in names:
        return "onnx"
    held = {Path(name).suffix.lower() for name in names if not name.startswith(".")}
    return "gguf" if GGUF in held and ".safetensors" not in held else "safetensors"
