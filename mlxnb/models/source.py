"""Where a model comes from: the folder that holds it, and how its name led there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["pocket", "path", "local", "cache", "hub"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's folder. `name` is what a person asked for; `note` what they should know about how it was found.

    kind: "pocket" ships with mlxnb, "path" is a folder they named, "local" lies under LOCAL_MODELS_DIR, "cache" was
    in the Hugging Face cache, "hub" was downloaded for this call. `revision` is the commit for the last two.
    """

    name: str
    path: Path
    kind: Kind
    revision: str | None = None
    note: str = ""
