"""Says which model a folder holds, in a string that changes with anything that could change its answers."""

from __future__ import annotations

import hashlib
from pathlib import Path

WEIGHTS = (".safetensors", ".gguf", ".onnx", ".onnx_data", ".data", ".npz", ".bin")
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
HEADER = 64 * 1024
SAMPLES, SAMPLE = 64, 4096


def model_identity(path: Path, revision: str | None = None) -> str:
    """`commit:…` for a snapshot of a hub, whose commit names its content; else `files:…`, a hash over the folder,
    or over the one file.

    The hash takes in the content of configuration, tokenizer, chat template and weights index, and of each weight file
    the size, the time of its last change, the first 64 KiB, where the header is, and 64 samples of 4 KiB from the rest:
    reading every weight would take longer than the answer, and times say nothing where tools set them. A copy of a
    folder with new times is another model, which costs a miss and nothing else. Works for adapters too.

    Raises:
        OSError: it cannot be read.
    """
    if revision:
        return f"commit:{revision}"
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.name.startswith(".") or not file.is_file():
            continue
        if file.suffix in WEIGHTS:
            _add(digest, file.name, _weights(file))
        elif file.suffix in TEXTS:
            _add(digest, file.name, file.read_bytes())
    return f"files:{digest.hexdigest()}"


def _weights(file: Path) -> bytes:
    stat = file.stat()
    with file.open("rb") as opened:
        parts = [opened.read(HEADER)]
        for i in range(SAMPLES):
            opened.seek(max(0, (stat.st_size - SAMPLE) * (i + 1) // SAMPLES))
            parts.append(opened.read(SAMPLE))
    return f"{stat.st_size} {stat.st_mtime_ns} ".encode() + b"".join(parts)


def _add(digest: hashlib._Hash, name: str, content: bytes) -> None:
    # With its length before each part, no two lists of parts run together into the same bytes.
    for part in (name.encode("utf-8", "surrogateescape"), content):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
