"""Where a model comes from: the folder, file or server that holds it, and how its name led there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["pocket", "path", "local", "cache", "hub", "server"]
Format = Literal["safetensors", "gguf", "onnx", "served"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on this machine or on a server. `name` is what a person asked for; `note` what they should know about
    how it was found.

    kind: "pocket" ships with mlxnb, "path" is a folder or file they named, "local" lies under LOCAL_MODELS_DIR, "cache"
    was in the Hugging Face cache, "hub" was downloaded for this call, "server" is a model that a server runs.
    `revision` is the commit for "cache" and "hub". `path` is the model's folder or its GGUF file; a served model has an
    empty one, but a `url` and the name that it is `served_as`.
    """

    name: str
    path: Path
    kind: Kind
    revision: str | None = None
    note: str = ""
    format: Format = "safetensors"
    url: str = ""
    served_as: str = ""
