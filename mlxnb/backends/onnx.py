"""The onnx backend: folders that onnxruntime-genai reads, on what its build and the model's graph have in common."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..decision import Absent, Accepted, Decision, Rejected
from ..request import AS_STORED, DTYPES, Precision
from .base import ModelInfo, no_adapter, to_convert
from .onnx_model import OnnxModel
from .onnx_session import Session, open_session
from .quantization import as_it_is, with_quantization
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource

NEEDED = ("onnxruntime_genai", "onnxruntime", "transformers")


class OnnxBackend:
    """See Backend."""

    name = "onnx"

    def available(self) -> Decision:
        """Whether onnxruntime-genai, in whichever of its builds, and transformers are installed; imports neither."""
        if sys.version_info < (3, 11):
            return Absent(self.name, "onnxruntime has no build for Python 3.10", "use Python 3.11 or newer")
        missing = [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return Absent(self.name, f"{' and '.join(missing)} not installed", "pip install 'mlxnb[onnx]'")
        return Accepted(self.name, "onnxruntime-genai and transformers are installed")

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """See Backend.find. The pocket model is exported, once, for a person who names this backend."""
        from ..models.onnx_export import exportable
        from ..pocket.build.exports import as_onnx

        source = here()
        if source.format == "onnx":
            return source
        if source.format != "safetensors":
            reader = "llamacpp" if source.format == "gguf" else "server"
            return Rejected(self.name, f"{source.name} is {source.format.upper()}", f"take --backend {reader}")
        if source.kind == "pocket" and not named:
            reason = "the pocket model is not stored in ONNX, and auto exports none"
            return Rejected(self.name, reason, "take --backend onnx")
        if source.kind != "pocket":
            return Rejected(self.name, f"{source.name} is not in ONNX", to_convert(source, "onnx"))
        decision = exportable()
        if isinstance(decision, Rejected):
            return Rejected(self.name, f"{source.name} is not in ONNX, and {decision.reason}", decision.remedy)
        return as_onnx(source)

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> OnnxModel:
        """See Backend.load."""
        from ..models.fit import KV_ALLOWANCE, check_fits
        from ..models.onnx_folder import inspect_onnx

        no_adapter(self.name, source, precision)
        checkpoint = inspect_onnx(source.path)
        tokens = min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
        check_fits(checkpoint, tokens=tokens, bytes_per_key=DTYPES.get(checkpoint.dtype, 4))
        tokenizer = Tokenizer(source.path)
        tokenizer.end_ids |= frozenset(checkpoint.config["eos_token_id"])
        session = open_session(source, checkpoint)
        info = _as_asked(_info(source, checkpoint, session), checkpoint, precision)
        return OnnxModel(session.model, tokenizer, info, checkpoint)

    def memory_free(self) -> int | None:
        """None: what a device with memory of its own has free, onnxruntime-genai does not tell."""
        return None

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """See Backend.smaller_way."""
        return Rejected(self.name, "a model is loaded as it was exported, or not at all")

    def close(self) -> None:
        """onnxruntime keeps nothing on the engine's thread."""


def _info(source: ModelSource, checkpoint: Checkpoint, session: Session) -> ModelInfo:
    from importlib.metadata import version

    return ModelInfo(
        name=source.name,
        source=source.kind,
        revision=source.revision,
        backend="onnx",
        backend_version=f"onnxruntime-genai {session.version}, onnxruntime {version('onnxruntime')}",
        device=session.device,
        dtype=checkpoint.dtype,
        quantization=checkpoint.quantization,
        parameters=checkpoint.parameters,
        memory=checkpoint.weight_bytes,
        context_length=checkpoint.context_length,
        attention="onnxruntime",
        notes=(*([source.note] if source.note else []), *session.notes),
    )


def _as_asked(info: ModelInfo, checkpoint: Checkpoint, precision: Precision) -> ModelInfo:
    """`info` with what it was asked for and is not: a model runs in what it was exported in."""
    if precision.dtype is not None and precision.dtype != info.dtype:
        reason = f"the model was exported in {info.dtype}"
        refused = Rejected(f"dtype {precision.dtype}", reason, "leave out dtype, or take --backend torch")
        said = f"{refused.subject} not used: {refused.reason}"
        info = replace(info, notes=(*info.notes, said), refused=(*info.refused, refused))
    kind = precision.quantize
    if kind is None:
        return info
    if checkpoint.quantization:
        stored = checkpoint.quantization
        return with_quantization(info, as_it_is(stored, int(stored[0]) if stored[1:] == "-bit" else None, kind))
    remedy = f"convert it with `%mlxnb convert NAME --to onnx --quantize {kind.removeprefix('int')}`"
    return with_quantization(info, Rejected(f"quantize {kind}", f"the model was exported in {info.dtype}", remedy))
