"""The pocket model as GGUF, written into the cache folder the first time that it is wanted there."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import cache_dir
from ..decision import Rejected
from ..errors import ModelError, OptionError
from ..models.gguf_info import gguf_info

if TYPE_CHECKING:
    from ..models import ModelSource

# Its bfloat16 weights are float32 numbers as they are, and in float32 llama.cpp rounds none of what it computes.
DTYPE = "float32"
FORM = 1  # of what is written; a new one leaves the files of the old alone
NEEDED = ("gguf", "transformers")


def pocket_as_gguf(source: ModelSource) -> ModelSource | Rejected:
    """The pocket model as a GGUF file, or why it cannot be written.

    Raises:
        ModelError, OSError: writing it failed.
    """
    file = cache_dir() / "gguf" / f"pocket-{_content(source.path)}.gguf"
    if not _readable(file):
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            reason = f"writing the pocket model as GGUF takes {' and '.join(missing)}, which is not installed"
            return Rejected("llamacpp", reason, "run pip install 'mlxnb[llamacpp]'")
        _write(source, file)
    return replace(source, path=file, format="gguf")


def _readable(file: Path) -> bool:
    """Whether the model is there; a damaged file goes, or it would stay damaged for ever."""
    if not file.exists():
        return False
    try:
        gguf_info(file)
    except ModelError:
        file.unlink(missing_ok=True)
        return False
    return True


def _write(source: ModelSource, file: Path) -> None:
    from ..models.gguf import to_gguf

    try:
        to_gguf(source, file, dtype=DTYPE)
    except OptionError:
        if not file.exists():  # else another process wrote it meanwhile
            raise


def _content(folder: Path) -> str:
    """A name for what the folder holds, the same wherever it lies."""
    digest = hashlib.sha256(f"{FORM} {DTYPE}".encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
