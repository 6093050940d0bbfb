"""What a loaded model says of the LoRA adapter on top of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.adapter import Adapter
    from .base import ModelInfo


def with_adapter(info: ModelInfo, adapter: Adapter) -> ModelInfo:
    """The info of a model with an adapter; also of what it would be had nobody asked to quantise it."""
    unasked = with_adapter(info.unasked, adapter) if info.unasked is not None else None
    return replace(info, adapter=adapter.path.name, notes=(*info.notes, str(adapter)), unasked=unasked)
