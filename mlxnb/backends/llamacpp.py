"""The llamacpp backend: GGUF models through llama.cpp's plain calls, with the decode loop and the sampling of this
package, so that options, stops, seeds and figures mean what they mean elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..decision import Decision, Rejected
from ..errors import ModelTooLargeError, UnsupportedModelError
from ..hardware import human_bytes, is_apple_silicon, memory_free
from ..models.gguf_header import read_gguf
from ..models.gguf_info import GgufInfo, gguf_file, gguf_info
from ..models.llama_library import Library, installed, library
from ..models.llama_vocabulary import LlamaVocabulary
from ..pocket.build.exports import as_gguf
from ..request import AS_STORED, Precision, Request
from .base import Cancelled, ModelInfo, Watch, to_convert
from .llamacpp_context import BATCH, OUTPUTS, LlamaContext, LlamaState, Settings
from .llamacpp_states import LlamaStates
from .llamacpp_threads import Choice, choices, measured
from .llamacpp_tokenizer import LlamaTokenizer
from .local import LocalModel
from .memory import release, unless_short
from .numpy_sampling import NumpySampler, log_softmax
from .prefill import Feeding, prefill, step_again
from .quantization import with_quantization
from .reuse import Feed
from .steering import steered

if TYPE_CHECKING:
    import numpy as np

    from ..models import Checkpoint, ModelSource

PREFILL_STEP = 256
STEP = 256  # tokens that room is made for beyond a prompt; a longer answer makes more as it grows
KV_ALLOWANCE = 4096  # tokens of KV cache that a model must have room for beside its weights
MARGIN = 300_000_000  # bytes for activations, logits and the program itself
ALL_LAYERS = -1
NO_VOCABULARY = 0  # of llama_vocab_type
KV_TYPES = {"float32": (0, 4), "float16": (1, 2)}  # ggml's numbers and the bytes of one


class LlamaCppBackend:
    """See Backend."""

    name = "llamacpp"

    def available(self) -> Decision:
        """Whether llama-cpp-python is installed; does not import it."""
        return installed()

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """See Backend.find. The pocket model is written as GGUF once, where this backend is named."""
        source = here()
        if source.format == "gguf":
            return replace(source, path=gguf_file(source.path))
        if source.kind == "pocket":
            return (
                as_gguf(source)
                if named
                else Rejected(
                    self.name,
                    "the pocket model is not stored as GGUF, and auto converts none",
                    "take --backend llamacpp",
                )
            )
        if source.format == "safetensors":
            return Rejected(self.name, f"{source.name} is stored in safetensors", to_convert(source, "gguf"))
        other = "onnx" if source.format == "onnx" else "server"
        return Rejected(self.name, f"{source.name} is {source.format.upper()}", f"take --backend {other}")

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> LlamaCppModel:
        """See Backend.load."""
        described = gguf_info(source.path)
        _check_room(described, source.name)
        llama = library()
        gpu = bool(llama.module.llama_supports_gpu_offload())
        try:
            return _opened(llama, source, described, precision, gpu)
        except (_NotLoadedError, ModelTooLargeError) as err:
            if not gpu:
                raise
            source = replace(source, note="; ".join(filter(None, (source.note, f"on the CPU: {err.message}"))))
            return _opened(llama, source, described, precision, gpu=False)

    def memory_free(self) -> int | None:
        """Weights are mapped from the file into the memory of the machine."""
        return None

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """See Backend.smaller_way."""
        return Rejected(self.name, "a GGUF model runs as it is stored", "take a file in fewer bits")

    def close(self) -> None:
        """llama.cpp keeps nothing on the engine's thread."""


def _check_room(described: GgufInfo, name: str) -> None:
    """Refuse a model whose weights, a KV cache and a margin do not fit into the memory that is free."""
    tokens = min(described.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
    cache = tokens * _kv_bytes(described)
    need, free = described.weight_bytes + cache + MARGIN, memory_free()
    if need > free:
        raise ModelTooLargeError(
            f"{name} does not fit: it needs {human_bytes(need)} (weights {human_bytes(described.weight_bytes)}, "
            f"KV cache for {tokens:,} tokens {human_bytes(cache)}, working space {human_bytes(MARGIN)}) and "
            f"{human_bytes(free)} of memory is free.",
            "Take a file in fewer bits or a smaller model, or close other programs.",
        )


def _cache_dtype(described: GgufInfo) -> str:
    """What keys and values are kept in: float32 for a model in float32, whose answers would change otherwise."""
    return "float32" if described.quantization is None and described.dtype == "float32" else "float16"


def _kv_bytes(described: GgufInfo) -> int:
    """Bytes of KV cache that a token takes."""
    return described.layers * described.kv_width * KV_TYPES[_cache_dtype(described)][1]


class _NotLoadedError(UnsupportedModelError):
    """llama.cpp gave no model: the file is broken, or a GPU has no room for it."""


def _opened(llama: Library, source: ModelSource, described: GgufInfo, precision: Precision, gpu: bool) -> LlamaCppModel:
    model = _model(llama, source, described.path, gpu)
    try:
        return _loaded(llama, model, source, described, precision, gpu)
    except BaseException:
        llama.module.llama_model_free(model)
        raise


def _model(llama: Library, source: ModelSource, file: Path, gpu: bool) -> Any:
    params = llama.module.llama_model_default_params()
    params.n_gpu_layers = ALL_LAYERS if gpu else 0
    with llama.listening():
        model = llama.module.llama_model_load_from_file(os.fsencode(file), params)
    if not model:
        reason = llama.complaint() or "it gave no reason"
        raise _NotLoadedError(f"llama.cpp cannot load {source.name}: {reason}.", "Fetch or convert it again.")
    if llama.module.llama_model_has_encoder(model) or not llama.module.llama_model_has_decoder(model):
        llama.module.llama_model_free(model)
        raise UnsupportedModelError(f"{source.name} has an encoder; this backend runs decoders only.", "Take another.")
    if llama.module.llama_vocab_type(llama.module.llama_model_get_vocab(model)) == NO_VOCABULARY:
        llama.module.llama_model_free(model)  # asked for its tokens, llama.cpp would end the process
        raise UnsupportedModelError(f"{source.name} holds no vocabulary.", "Take a file with its tokenizer.")
    return model


def _loaded(
    llama: Library, model: Any, source: ModelSource, described: GgufInfo, precision: Precision, gpu: bool
) -> LlamaCppModel:
    kind, per_token = _cache_dtype(described), _kv_bytes(described)
    context, note = _context_length(llama, model, per_token, 0 if gpu else described.weight_bytes)
    counts = choices()
    exact = kind == "float32"
    try:
        cells = LlamaContext(llama, model, Settings(context, counts[-1], KV_TYPES[kind][0], not exact, gpu))
    except MemoryError as err:
        raise ModelTooLargeError(f"{err}.", "Take a file in fewer bits, or unload others.") from None
    try:
        if not cells.remembers:
            raise UnsupportedModelError(
                f"{source.name} ({described.architecture}) keeps no KV cache: it generates no text.",
                "Take a model that does.",
            )
        metadata = read_gguf(described.path).metadata
        tokenizer = LlamaTokenizer(LlamaVocabulary(llama, model), metadata)
        recurrent = llama.module.llama_model_is_recurrent(model) or llama.module.llama_model_is_hybrid(model)
        info = _as_asked(_info(llama, model, source, described, context, gpu, note), precision)
        made = LlamaCppModel(llama, model, cells, tokenizer, info, measured(counts, cells, info.parameters))
    except BaseException:
        cells.close()  # before its model, which the caller frees
        raise
    made.cache_dtype, made.states = kind, LlamaStates(cells, not recurrent, per_token)
    return made


def _context_length(llama: Library, model: Any, per_token: int, mapped: int) -> tuple[int, str]:
    """Tokens that a sequence may have: what the model was trained for, bounded by the memory for their KV cache; and
    what to say of it. `mapped`: bytes of weights in a file, whose pages the system calls free though each token needs
    them.
    """
    trained = int(llama.module.llama_model_n_ctx_train(model))
    room = max(0, memory_free() - mapped - MARGIN) // max(1, per_token)
    if room >= trained:
        return trained, ""
    held = max(min(trained, KV_ALLOWANCE), room // 256 * 256)
    return held, f"context lowered from {trained} to {held} tokens, for which there is memory"


def _info(
    llama: Library, model: Any, source: ModelSource, described: GgufInfo, context: int, gpu: bool, note: str
) -> ModelInfo:
    built = llama.module.llama_version().decode()
    return ModelInfo(
        name=source.name,
        source=source.kind,
        revision=source.revision,
        backend="llamacpp",
        backend_version=f"llama-cpp-python {version('llama-cpp-python')}, llama.cpp {built}",
        device=("metal" if is_apple_silicon() else "gpu") if gpu else "cpu",
        dtype=described.dtype,
        quantization=described.quantization,
        parameters=described.parameters,
        memory=int(llama.module.llama_model_size(model)),
        context_length=context,
        attention="llama.cpp" if _cache_dtype(described) == "float32" else "llama.cpp flash",
        notes=tuple(said for said in (source.note, note) if said),
    )


def _as_asked(info: ModelInfo, precision: Precision) -> ModelInfo:
    """`info` with what was asked for and cannot be: a GGUF model runs as it is stored."""
    stored = info.quantization or info.dtype
    if precision.dtype is not None and precision.dtype != info.dtype:
        refused = Rejected(
            f"dtype {precision.dtype}", f"a GGUF model runs as it is stored, in {stored}", "leave out dtype"
        )
        info = replace(
            info,
            notes=(*info.notes, f"{refused.subject} not used: {refused.reason}"),
            refused=(*info.refused, refused),
        )
    if precision.quantize is None:
        return info
    reason = f"a GGUF model runs as it is stored, in {stored}"
    remedy = "leave out quantize, or convert it with `%mlxnb convert … --to gguf --quantize …`"
    return with_quantization(info, Rejected(f"quantize {precision.quantize}", reason, remedy))


class LlamaCppModel(LocalModel):
    """A GGUF model, decoded one token at a time over its KV cache."""

    states: LlamaStates

    def __init__(
        self,
        llama: Library,
        model: Any,
        context: LlamaContext,
        tokenizer: LlamaTokenizer,
        info: ModelInfo,
        threads: Choice,
    ) -> None:
        super().__init__(tokenizer)
        self.info = info
        self._llama, self._model, self._context, self._threads = llama, model, context, threads

    def new_state(self, request: Request, watch: Watch) -> LlamaState:
        """See LocalModel.new_state."""
        return LlamaState()

    def cuttable(self, state: Any) -> bool:
        """See LocalModel.cuttable."""
        return self.states.cuttable

    def tokens(self, ids: list[int], request: Request, limit: int, watch: Watch, feed: Feed) -> Iterator[int]:
        """See LocalModel.tokens."""
        draw = steered(NumpySampler(request.sampling), watch.steering)
        self._context.use_threads(self._threads.best)
        self._context.reserve(len(ids) + min(limit, STEP))
        token = draw(prefill(feed, len(ids), PREFILL_STEP, self._feeding(ids, watch)), ids)
        history = list(ids)
        for _ in range(limit - 1):
            yield token
            history.append(token)
            began = time.perf_counter()
            token = draw(self._next(history, feed, watch), history)
            self._rechoose(time.perf_counter() - began)
        yield token

    def _rechoose(self, seconds: float) -> None:
        """The last token took so many seconds: go on with as many threads as are fastest now."""
        self._threads.saw(self._context.threads, seconds)
        if self._threads.best != self._context.threads:
            self._context.use_threads(self._threads.best)

    def _feeding(self, ids: list[int], watch: Watch) -> Feeding:
        def take(start: int, end: int, feed: Feed) -> np.ndarray:
            try:
                return self._context.feed(feed.state, ids[start:end], stop=watch.cancelled)
            except Cancelled:
                self._rewind(feed)  # a memory that cannot be cut holds a part of the piece, and must not be kept
                raise

        return Feeding(self, watch, take, self._rewind)

    def _rewind(self, feed: Feed) -> None:
        """Go back to the tokens of `feed` that are whole; the context cuts what is beyond them when it is fed."""
        if not self.states.cuttable:
            feed.state, feed.length = LlamaState(), 0

    def _next(self, history: list[int], feed: Feed, watch: Watch) -> np.ndarray:
        """Logits after `history`, of which `feed` has all but the last token."""
        found = unless_short(partial(self._context.feed, feed.state, history[-1:]))
        if found is None:
            again: np.ndarray = step_again(feed, len(history), PREFILL_STEP, self._feeding(history, watch))
            return again
        feed.length += 1
        return found[0]

    def losses(self, ids: list[int]) -> list[float]:
        """See LocalModel.losses."""
        said: list[float] = []
        for start, logits in self.logits(ids[:-1]):
            right = ids[start + 1 : start + 1 + len(logits)]
            said += (-log_softmax(logits)[range(len(right)), right]).tolist()
        return said

    def log_probs(self, ids: list[int]) -> Iterator[np.ndarray]:
        """See LocalModel.log_probs."""
        for _, logits in self.logits(ids[:-1]):
            yield log_softmax(logits)

    def logits(self, ids: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Logits [tokens, vocabulary] after each of some ids, in pieces with the place of their first token; each
        piece holds until the next.
        """
        self._context.use_threads(self._threads.best)
        state, step = LlamaState(), min(OUTPUTS, BATCH)
        for start in range(0, len(ids), step):
            yield start, self._context.feed(state, ids[start : start + step], every=True)

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._context.close()
        if self._model is not None:
            self._llama.module.llama_model_free(self._model)
            self._model = None
        release()
