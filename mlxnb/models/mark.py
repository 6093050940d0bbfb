"""Says cheaply whether a model's folder is what it was: asked before every request of a model given as a folder."""

from __future__ import annotations

import os
from pathlib import Path

# The files that decide what a model answers: weights, configuration, tokenizer and chat template.
DECIDING = (
    ".safetensors", ".gguf", ".onnx", ".onnx_data", ".npz", ".bin",
    ".json", ".jinja", ".txt", ".model", ".tiktoken",
)  # fmt: skip

Mark = tuple[tuple[str, int, int, int], ...]


def mark_of(folder: Path) -> Mark:
    """Name, size in bytes, time of the last change in ns and inode of each deciding file; () for no such folder."""
    try:
        with os.scandir(folder) as entries:
            stats = [(e.name, e.stat()) for e in entries if e.name.endswith(DECIDING) and e.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats))
