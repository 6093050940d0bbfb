"""Models on disk: finding one by its name, looking into it, and deciding whether it fits."""

from .checkpoint import Checkpoint, inspect, kv_bytes_per_token
from .find import find_models
from .fit import check_fits, fits
from .resolve import resolve
from .source import ModelSource

__all__ = [
    "Checkpoint",
    "ModelSource",
    "check_fits",
    "find_models",
    "fits",
    "inspect",
    "kv_bytes_per_token",
    "resolve",
]
