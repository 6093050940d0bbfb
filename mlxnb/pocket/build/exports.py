"""The pocket model for other backends, as GGUF and as ONNX, written into the cache folder the first time it is wanted.

It comes in float32: its bfloat16 weights are the same numbers then, and nothing that is computed is rounded further.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import cache_dir
from ...decision import Rejected
from ...errors import ModelError, OptionError

if TYPE_CHECKING:
    from ...models import ModelSource

DTYPE = "float32"
FORM = "2"  # of the GGUF file that is written; a new one leaves the files of the old alone
GGUF_NEEDS = ("gguf", "transformers")
NOTE = "exported to ONNX in float32, once, and kept in the cache folder"


def as_gguf(source: ModelSource) -> ModelSource | Rejected:
    """The pocket model as a GGUF file, written by the gguf package, or why it cannot be.

    Raises:
        ModelError, OSError: writing it failed.
    """
    from ...models.gguf import to_gguf
    from ...models.gguf_info import gguf_info

    file = cache_dir() / "gguf" / f"pocket-{_content(source.path, FORM)}.gguf"
    if not _whole(file, gguf_info):
        missing = [name for name in GGUF_NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            reason = f"writing the pocket model as GGUF takes {' and '.join(missing)}, which is not installed"
            return Rejected("llamacpp", reason, "run pip install 'mlxnb[llamacpp]'")
        _once(lambda: to_gguf(source, file, dtype=DTYPE), file, gguf_info)
    return replace(source, path=file, format="gguf")


def as_onnx(source: ModelSource) -> ModelSource:
    """The pocket model as a folder in ONNX, exported by onnxruntime-genai's builder, and again by a newer one.

    Raises:
        ModelError, BackendMissingError: it cannot be exported here; see `to_onnx`.
    """
    from ...models.onnx_export import to_onnx
    from ...models.onnx_folder import inspect_onnx

    folder = cache_dir() / "onnx" / f"pocket-{_content(source.path, version('onnxruntime-genai'))}"
    if not _whole(folder, inspect_onnx):
        _once(lambda: to_onnx(source, folder), folder, inspect_onnx)
    return replace(source, path=folder, note=NOTE, format="onnx")


def _whole(target: Path, inspect: Callable[[Path], object]) -> bool:
    """Whether it is there and can be read; what is damaged goes, or it would stay damaged for ever."""
    if not target.exists():
        return False
    try:
        inspect(target)
    except ModelError:
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        return False
    return True


def _once(write: Callable[[], object], target: Path, inspect: Callable[[Path], object]) -> None:
    """Write it, unless another process does so meanwhile."""
    try:
        write()
    except (OptionError, OSError):  # a target that is there is not written over
        if not target.exists():
            raise
        inspect(target)


def _content(folder: Path, written_by: str) -> str:
    """A name for what the folder holds and for what writes it, the same wherever the folder lies."""
    digest = hashlib.sha256(f"{written_by} {DTYPE}".encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".jinja"):
            digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
