"""The LoRA adapter that a model is asked for with, and what the loaded model says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource
    from ..models.adapter import Adapter
    from ..request import Precision
    from .base import ModelInfo


def adapter_for(source: ModelSource, checkpoint: Checkpoint, precision: Precision, in_mlx: bool) -> Adapter | None:
    """The adapter to put on a model, in mlx or in torch; None where none was asked for.

    Raises:
        AdapterError: it cannot be read.
        UnsupportedModelError: the other library wrote it, and may mean other layers of this family by the same names.
    """
    if precision.adapter is None:
        return None
    from ..models.adapter import read_adapter

    adapter = read_adapter(Path(precision.adapter))
    adapter.check_names(source.name, checkpoint.model_type, in_mlx)
    return adapter


def with_adapter(info: ModelInfo, adapter: Adapter, where: str) -> ModelInfo:
    """The info of a model with an adapter, and `where` it was put; also of what it would be had nobody asked to
    quantise it.
    """
    unasked = with_adapter(info.unasked, adapter, where) if info.unasked is not None else None
    other = adapter.other_base(info.name)
    warning = (f"adapter {adapter.path.name} says that it was made for {other}",) if other else ()
    notes = (*info.notes, f"{adapter}, {where}", *warning)
    return replace(info, adapter=adapter.path.name, notes=notes, unasked=unasked)
