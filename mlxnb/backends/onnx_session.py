"""Opens a model with onnxruntime-genai on the execution provider that its graph was built for, or says why not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import hardware
from ..errors import DamagedModelError, UnsupportedModelError
from ..models.format import GENAI

if TYPE_CHECKING:
    from ..hardware import Cores
    from ..models import Checkpoint, ModelSource

# What genai_config.json calls execution providers, and onnxruntime.
PROVIDERS = {"cuda": "CUDA", "dml": "DirectML", "coreml": "CoreML", "webgpu": "WebGPU", "openvino": "OpenVINO"}

# Threads that wait by spinning slow down whatever else wants a core, and themselves with it: beside programs that kept
# both of two cores busy the pocket model decoded at 260 tok/s, and at 650 where they slept.
SPINNING = "session.intra_op.allow_spinning"

# Words of onnxruntime for a file that is not what it should be.
DAMAGED = ("pars", "protobuf", "corrupt", "invalid", "out of bounds", "failed to read")


@dataclass(frozen=True, slots=True)
class Session:
    """A model that is open: `device` is "cpu", or what else it computes on; `notes` say what was passed over."""

    model: Any
    version: str
    device: str
    notes: tuple[str, ...] = ()


def open_session(source: ModelSource, checkpoint: Checkpoint) -> Session:
    """Open the model on the first of the providers that its genai_config.json names, or on the CPU.

    Raises:
        DamagedModelError, UnsupportedModelError: onnxruntime cannot; in its words.
    """
    og = import_genai()
    asked = providers(checkpoint.config["genai"])
    refused = [f"{_called(name)} passed over: {reason}" for name in asked if (reason := absent(og, name))]
    if asked and not refused:
        try:
            return _open(og, checkpoint, on_cpu=False)
        except RuntimeError as err:
            refused = [f"{' and '.join(map(_called, asked))} passed over: {_line(err)}"]
    try:
        return _open(og, checkpoint, on_cpu=True, notes=(*refused, *_unused(og, asked)))
    except RuntimeError as err:
        raise _foreign(err, source.name) from err


def import_genai() -> Any:
    """onnxruntime_genai, which sends nobody anything."""
    import onnxruntime_genai as og

    og.disable_telemetry_events()
    return og


def providers(genai: dict[str, Any]) -> list[str]:
    """The execution providers that a genai_config.json names for the decoder, in lower case; none is the CPU.

    Raises:
        DamagedModelError: it names them in another form than a list of objects.
    """
    options = genai["model"]["decoder"].get("session_options") or {}
    named = options.get("provider_options", []) if isinstance(options, dict) else None
    if not isinstance(named, list) or not all(isinstance(entry, dict) for entry in named):
        raise DamagedModelError(f"{GENAI} has provider_options that are no list of objects.", "Export the model again.")
    return [name.lower() for entry in named for name in entry if name.lower() != "cpu"]


def absent(og: Any, provider: str) -> str:
    """Why this build cannot use a provider, "" where it may."""
    asked = getattr(og, f"is_{provider}_available", None)
    return "" if asked is None or asked() else f"this build of onnxruntime-genai has no {_called(provider)}"


def _unused(og: Any, asked: list[str]) -> list[str]:
    """What this machine has and a model for the CPU leaves unused."""
    here = [name for name in ("cuda", "dml") if not asked and not absent(og, name)]
    return [f"{_called(name)} passed over: the model was exported for the CPU" for name in here]


def _open(og: Any, checkpoint: Checkpoint, on_cpu: bool, notes: tuple[str, ...] = ()) -> Session:
    config = og.Config(str(checkpoint.path))
    if on_cpu:
        config.clear_providers()
    own = checkpoint.config["genai"]["model"]["decoder"].get("session_options") or {}
    options = {name: value for name, value in thread_options(hardware.cores()).items() if name not in own}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)
    return Session(model, og.__version__, str(model.device_type).lower(), notes)


def thread_options(cores: Cores) -> dict[str, Any]:
    """onnxruntime's options for as many threads as there are fast cores that this process may use."""
    fast = cores.performance or cores.physical or cores.usable
    return {"intra_op_num_threads": max(1, min(cores.usable, fast)), SPINNING: "0"}


def _called(provider: str) -> str:
    return PROVIDERS.get(provider, provider)


def _foreign(err: RuntimeError, name: str) -> DamagedModelError | UnsupportedModelError:
    """What the library says of a model that it cannot open, as an error of ours."""
    said = _line(err)
    if any(word in said.lower() for word in DAMAGED):
        return DamagedModelError(f"onnxruntime cannot read {name}: {said}.", "Export or fetch the model again.")
    return UnsupportedModelError(f"onnxruntime-genai cannot run {name}: {said}.", "Take the model in another format.")


def _line(err: RuntimeError) -> str:
    """What it says, on one line that is not too long."""
    return " ".join(str(err).split())[:300].rstrip(".")
