"""The contract of a backend: it says whether it can run here, loads a model, and streams tokens from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Protocol

from ..decision import Rejected
from ..errors import MlxnbError, UnsupportedModelError
from ..request import AS_STORED, Precision

if TYPE_CHECKING:
    from ..decision import Decision
    from ..models import Checkpoint, ModelSource
    from ..request import Request
    from ..result import Chunk, FinishReason, Speculation, TokenLogprob
    from ..tools import ToolCall
    from .local import LocalModel
    from .steering import Steering


# The subject of a way to load a model by which it comes as it was asked for.
AS_ASKED = "load as asked"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, as a person wants to know it. Sizes in bytes, `context_length` in tokens.

    `refused` is what was asked of it and could not be done, such as quantising it; `notes` say so too. `unasked` is
    what would be said of this very model had nobody asked to quantise it; None where that made another one of it.
    `adapter` is the name of the LoRA adapter on top, empty where there is none.
    """

    name: str
    source: str
    revision: str | None
    backend: str
    backend_version: str
    device: str
    dtype: str
    quantization: str | None
    parameters: int
    memory: int
    context_length: int | None
    attention: str
    notes: tuple[str, ...] = ()
    refused: tuple[Rejected, ...] = ()
    unasked: ModelInfo | None = field(default=None, compare=False, repr=False)
    adapter: str = ""


@dataclass(slots=True)
class Watch:
    """What the engine and a running generation tell each other, safe to read from any thread.

    The engine sets `cancelled`, and `draft` to the draft model of a request that names one. A LocalModel sets
    `steering`, where its decode loop has something to ask before it draws a token, and `logprobs`, which tells how
    likely the tokens of the answer were, where that was asked for, and `prefill_step`, by which it feeds the prompt.
    The backend fills in the rest: when it started, download progress in bytes and prefill progress in tokens, the
    finish reason, the seed it really used, how the KV cache was really quantised, how speculative decoding goes, and
    the attention calls by path where those are counted.
    `counted` is how many tokens the answer has, where only a server knows, `doing` what goes on beside loading, in
    words, `tool_calls` what the model asks to call. What is left to do once the answer is out waits in `afterwards`.
    """

    cancelled: Event = field(default_factory=Event)
    start: float | None = None
    load_done: int = 0
    load_total: int = 0
    doing: str = ""
    prefill_done: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    token_times: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    seed: int | None = None
    peak_memory: int | None = None
    counted: int | None = None
    kv_bits: int | None = None
    kv_group_size: int | None = None
    prefill_step: int | None = None
    attention_calls: dict[str, int] = field(default_factory=dict)
    draft: LocalModel | None = None
    steering: Steering | None = None
    logprobs: Callable[[Sequence[int]], tuple[TokenLogprob, ...] | None] | None = None
    speculation: Speculation | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def begin(self, prompt_tokens: int) -> None:
        """Prefill starts now, over `prompt_tokens` tokens."""
        self.start, self.prompt_tokens = time.perf_counter(), prompt_tokens

    def anew(self) -> Watch:
        """An empty one for another try of the same request, which is cancelled together with this one."""
        return Watch(cancelled=self.cancelled)


class Cancelled(Exception):
    """Raised to leave a download or a prefill that was cancelled; it never reaches a front."""


def no_adapter(backend: str, source: ModelSource, precision: Precision) -> None:
    """Refuse an adapter, for a backend that has no way to add one.

    Raises:
        UnsupportedModelError: one was asked for.
    """
    if precision.adapter is not None:
        raise UnsupportedModelError(
            f"The {backend} backend cannot put an adapter on {source.name}.",
            "Use --backend mlx or torch with the model in safetensors, or leave out adapter.",
        )


def in_folder(backend: str, source: ModelSource) -> ModelSource | Rejected:
    """A source for a backend that reads folders with weights in safetensors, or why it cannot."""
    if source.format == "safetensors":
        return source
    reader = {"gguf": "llamacpp", "onnx": "onnx"}.get(source.format, "server")
    return Rejected(backend, f"{source.name} is {source.format.upper()}", f"take --backend {reader}")


def to_convert(source: ModelSource, to: str) -> str:
    """What a person can do about a model with weights in safetensors that is wanted in another format."""
    from ..models import inspect

    try:
        held = inspect(source.path).quantization
    except MlxnbError:
        held = None  # whoever reads it says what is wrong
    if held:
        return f"take the full model that this one ({held}) was made from: what is quantised is not converted"
    return f"convert it with `%mlxnb convert {source.name} --to {to}`"


class LoadedModel(Protocol):
    """A model in memory. It is used and closed on the engine's thread only."""

    info: ModelInfo

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        """Generate for `request`, one Chunk a token, until done or `watch.cancelled`; fills in `watch`.

        Raises:
            PromptError: before the first token, when the prompt cannot be used.
            GenerationError: when the backend fails on the way.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class Backend(Protocol):
    """One way to run models. Making one imports nothing heavy."""

    name: str

    def available(self) -> Decision:
        """Whether it can run on this machine, or why not and what mends it."""
        ...

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """The model that `name` stands for on this backend, or why it has none in a format that it reads.

        `here` looks for it on this machine, and downloads it where its name says so; it raises what `resolve` raises.
        `named` tells that a person named this backend, so that it may go to some length, such as exporting the model.
        """
        ...

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> LoadedModel:
        """Load a model that `find` gave. For formats other than safetensors it is the backend that checks whether it
        is whole and fits. One that cannot be quantised as asked comes in full precision and says so.

        Raises:
            ModelTooLargeError: it does not fit, where the backend checks.
            UnsupportedModelError: the architecture or a dtype is not known here.
            ModelError: the files cannot be used.
        """
        ...

    def memory_free(self) -> int | None:
        """Bytes free on the device it computes on, where that has memory of its own or a limit; else None."""
        ...

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """Whether `load` has a way for a model that does not fit as it is asked for: elsewhere, or in fewer bits. What
        it took is then in the notes of its ModelInfo, and what was asked for in `refused`. The subject is AS_ASKED
        where what comes of it is what was asked for all the same, quantised while it is read for one.
        """
        ...

    def close(self) -> None:
        """The engine's thread is about to end; called on it, after every model was closed."""
        ...
