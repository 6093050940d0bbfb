"""Writes a model as ONNX for onnxruntime-genai, with the builder that comes with it, in a process of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..decision import Accepted, Decision, Rejected
from ..errors import BackendMissingError, OptionError, UnsupportedModelError
from . import onnx_build
from .checkpoint import Checkpoint, inspect
from .format import GENAI
from .source import ModelSource

Progress = Callable[[int, int], None]

SUBJECT = "ONNX export"
NEEDED = ("onnxruntime_genai", "onnxruntime", "onnx_ir", "onnx", "torch", "transformers")

# What the builder calls them. On a CPU it writes no other float type; int8 and int4 are of the weights that are
# multiplied, in blocks of 32 that share a scale.
PRECISIONS = {None: "fp32", "int8": "int8", "int4": "int4"}
DTYPES = (None, "float32")

# Ways to scale rotary angles that change with the length of the text.
BY_LENGTH = ("longrope", "dynamic", "su")

# Files that say what the model was, beside what the builder writes: where a turn ends, and for the next conversion.
KEPT = ("config.json", "generation_config.json")

# No network, and no output that is not a line.
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1"}
LAST_LINES = 40


def exportable() -> Decision:
    """Whether the builder can run here: it takes torch and transformers to read a model, onnx-ir to write one."""
    missing = [name.replace("_", "-") for name in NEEDED if find_spec(name) is None]
    if missing:
        return Rejected(SUBJECT, f"{' and '.join(missing)} not installed", "pip install 'mlxnb[onnx,torch]'")
    return Accepted(SUBJECT)


def to_onnx(
    source: ModelSource,
    target: Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `source` to the new folder `target`, which appears whole or not at all.

    dtype: "float32" or None, which is the same: the builder writes no other for a CPU. quantize: "int8" or "int4".
    progress: hears of the steps done and in all; what it raises stops the export.

    Raises:
        OptionError: the target exists, or a dtype or quantisation that the builder has not for a CPU.
        BackendMissingError: the builder is not installed.
        UnsupportedModelError: it does not know the model, or the model is quantised already.
        ModelError: the model cannot be read.
    """
    _check(source, target, dtype, quantize)
    checkpoint = inspect(source.path)
    if reason := _not_shown_right(checkpoint):
        raise UnsupportedModelError(f"{source.name} {reason}.", "Take --backend torch.")
    decision = exportable()
    if isinstance(decision, Rejected):
        raise BackendMissingError(f"{SUBJECT} cannot run here: {decision.reason}.", f"Try {decision.remedy}.")
    with _aside(target) as folder:
        _build(source, checkpoint, folder, PRECISIONS[quantize], progress)
        for name in KEPT:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
    return target


def _check(source: ModelSource, target: Path, dtype: str | None, quantize: str | None) -> None:
    if dtype not in DTYPES:
        raise OptionError(f"dtype is {dtype!r}.", "ONNX models are written in float32; leave it out.")
    if quantize not in PRECISIONS:
        raise OptionError(f"quantize is {quantize!r}.", "ONNX models are quantised to int8 or int4.")
    if os.path.lexists(target):
        raise OptionError(f"Cannot save to {target}: it already exists.", "Delete it, or name another folder.")
    if source.format != "safetensors":
        raise UnsupportedModelError(
            f"{source.name} is {source.format.upper()}, and ONNX is made from safetensors.",
            "Export the model that it was made from.",
        )


def _not_shown_right(checkpoint: Checkpoint) -> str:
    """What of a model a proof over a few tokens would not see; "" where there is none."""
    if checkpoint.quantization:
        return f"is stored quantised ({checkpoint.quantization}), and is exported from its original only"
    config, window = checkpoint.config, checkpoint.shape.window
    kinds = config.get("layer_types") or ["sliding_attention"]
    if window and config.get("use_sliding_window", True) and "sliding_attention" in kinds:
        return f"attends to a window of {window} tokens, which is not exported here"
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
    if kind in BY_LENGTH:
        return f"embeds positions by the length of the text ({kind}), which is not exported here"
    return ""


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it at the end, or goes away."""
    folder = target.parent / f".{target.name}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _build(
    source: ModelSource, checkpoint: Checkpoint, folder: Path, precision: str, progress: Progress | None
) -> None:
    last: deque[str] = deque(maxlen=LAST_LINES)
    with tempfile.TemporaryDirectory(prefix="mlxnb-onnx-") as scratch:
        # -P: neither this package's folder nor the current one is searched for modules.
        command = [sys.executable, "-P", onnx_build.__file__]
        command += [str(source.path), str(folder.absolute()), precision, scratch]
        with _running(command, scratch) as process:
            assert process.stdout is not None
            steps, done = _steps(checkpoint), 0
            for line in process.stdout:
                last.append(line)
                if progress is not None and line.startswith(STEPS):
                    done = min(done + 1, steps)
                    progress(done, steps)
            failed = process.wait()
    if failed or not (folder / GENAI).is_file():
        raise UnsupportedModelError(
            f"onnxruntime-genai's builder cannot export {source.name} ({checkpoint.model_type}): {_reason(last)}.",
            "Take --backend torch.",
        )


# What is said on the way: by the builder once a layer and once each, by ours in between.
STEPS = ("Reading ", "Saving ONNX model", "Saving GenAI config", "Saving processing files", onnx_build.PROVING)


def _steps(checkpoint: Checkpoint) -> int:
    """How many lines there will be: two exports, each with an embedding, layers, a norm, a head, and three files."""
    return min(checkpoint.layers, onnx_build.LAYERS) + checkpoint.layers + 2 * 6 + 1


@contextmanager
def _running(command: list[str], folder: str) -> Iterator[subprocess.Popen[str]]:
    """A process with one stream of lines, which does not outlive the block."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _reason(last: deque[str]) -> str:
    """The last thing that was said, which is the error where there is a traceback; cut where it is long."""
    said = [line.strip() for line in last if line.strip()]
    return (said[-1] if said else "it ended without a word").rstrip(".")[:300]
