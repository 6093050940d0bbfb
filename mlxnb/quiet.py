"""Imports transformers without the remarks it makes on the way, which would land in the cell of a first answer."""

from __future__ import annotations

import os
import warnings
from threading import RLock
from types import ModuleType

# Held by whoever loads a model or uses transformers off the engine's thread: a thread that imports transformers beside
# another may get half of it, and two loads at once would each count on the same free memory.
LOADING = RLock()


def import_transformers() -> ModuleType:
    """transformers; silent about an absent torch, and about absent widgets for its progress bars."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import transformers
    return transformers
