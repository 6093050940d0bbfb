"""Says cheaply whether a model's folder is what it was: asked before every request of a model given as a folder."""

from __future__ import annotations

import os
from pathlib import Path

# The files that decide what a model answers: weights, configuration, tokenizer and chat template.
DECIDING = (
    ".safetensors", ".gguf", ".onnx", ".onnx_data", ".data", ".npz", ".bin",
    ".json", ".jinja", ".txt", ".model", ".tiktoken",
)  # fmt: skip

Mark = tuple[tuple[str, int, int, int], ...]


def mark_of(path: Path) -> Mark:
    """Name, size in bytes, time of the last change in ns and inode of each deciding file of a folder, or of the file
    itself; () where there is neither.
    """
    try:
        if path.is_file():
            stat = path.stat()
            return ((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino),)
        with os.scandir(path) as entries:
            stats = [(e.name, e.stat()) for e in entries if e.name.endswith(DECIDING) and e.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats))
