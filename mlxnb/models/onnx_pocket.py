"""The pocket model as ONNX: exported once a machine, and again where the model or the builder has changed."""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

from ..config import cache_dir
from ..errors import ModelError, OptionError
from .onnx_export import to_onnx
from .onnx_folder import inspect_onnx
from .source import ModelSource

NOTE = "exported to ONNX in float32, once, and kept in the cache folder"


def pocket_onnx(source: ModelSource) -> ModelSource:
    """The pocket model's folder in ONNX, which is made where it is not there or is damaged.

    Raises:
        ModelError, BackendMissingError: it cannot be exported here; see `to_onnx`.
    """
    target = cache_dir() / "onnx" / f"pocket-{_key(source.path)}"
    if target.exists():
        try:
            inspect_onnx(target)
        except ModelError:
            shutil.rmtree(target, ignore_errors=True)
    if not target.exists():
        try:
            to_onnx(source, target)
        except (OptionError, OSError):
            inspect_onnx(target)  # another process was faster, or there is nothing and this says so
    return ModelSource(source.name, target, source.kind, source.revision, NOTE, "onnx")


def _key(folder: Path) -> str:
    """A hash of every file of a folder, and of the builder's version."""
    digest = hashlib.sha256(version("onnxruntime-genai").encode())
    for file in sorted(folder.iterdir()):
        if file.is_file():
            digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
