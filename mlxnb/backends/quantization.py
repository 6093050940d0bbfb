"""What both backends say of a model that was to be quantised while it was loaded."""

from __future__ import annotations

from dataclasses import replace

from ..decision import Accepted, Decision, Rejected
from .base import ModelInfo


def with_quantization(info: ModelInfo, decision: Decision, note: str | None = None) -> ModelInfo:
    """`info` with what came of it: an Accepted's reason names the quantisation, a Rejected's goes into the notes."""
    notes = (*info.notes, *([note] if note else []))
    if isinstance(decision, Rejected):
        said = f"{decision.subject} not used: {decision.reason}"
        return replace(info, notes=(*notes, said), refused=(*info.refused, decision), unasked=info)
    as_it_was = info if info.quantization == decision.reason else None
    return replace(info, quantization=decision.reason, notes=notes, unasked=as_it_was)


def as_it_is(stored: str, bits: int | None, kind: str) -> Decision:
    """Whether a model that is stored quantised, in words and `bits`, is in `kind` already; else it stays as it is."""
    if bits is not None and f"int{bits}" == kind:
        return Accepted(f"quantize {kind}", stored)
    reason = f"the model is stored quantised already ({stored}), and quantising it again would lose more"
    return Rejected(f"quantize {kind}", reason, f"leave out quantize, or take the full model for {kind}")
