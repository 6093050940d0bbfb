"""Imports transformers without the remarks it makes on the way, which would land in the cell of a first answer."""

from __future__ import annotations

import os
import warnings
from types import ModuleType


def import_transformers() -> ModuleType:
    """transformers; silent about an absent torch, and about absent widgets for its progress bars."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import transformers
    return transformers
