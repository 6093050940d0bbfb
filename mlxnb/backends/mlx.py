"""The mlx backend: models through mlx-lm on whatever MLX has (Metal, CUDA or the CPU)."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import hardware
from ..decision import Absent, Accepted, Decision, Rejected
from ..errors import UnsupportedModelError
from ..kernels.device import device
from ..models.quantization import quantization_of
from ..quiet import import_transformers
from ..request import AS_STORED, Precision, Request, Sampling
from . import mlx_quantize
from .adapters import adapter_for, with_adapter
from .base import Cancelled, ModelInfo, Watch, in_folder
from .batch import SUBJECT as BATCH
from .batch import Batch
from .local import LocalModel
from .memory import release
from .mlx_adapter import attach
from .mlx_attention import attention_in_use, counted
from .mlx_batch import MlxBatch, batchable
from .mlx_cache import make_cache
from .mlx_config import as_mlx_lm_reads_it
from .mlx_decoder import MlxDecoder
from .mlx_fixes import LongRope, correct, experts_that_cannot_run, readable_context
from .mlx_states import MlxStates
from .mlx_steering import steering_processors
from .prefill import Feeding, prefill
from .quantization import as_it_is, with_quantization
from .reuse import Feed
from .speculative import proposer, speculate
from .steering import Steering
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource


class MlxBackend:
    """See Backend."""

    name = "mlx"

    def available(self) -> Decision:
        """Whether mlx and mlx-lm are installed; imports neither."""
        missing = [name for name in ("mlx", "mlx_lm") if importlib.util.find_spec(name) is None]
        if not missing:
            return Accepted(self.name, "mlx and mlx-lm are installed")
        if sys.platform == "win32" or (sys.platform == "darwin" and platform.machine() != "arm64"):
            return Absent(self.name, "MLX runs on Apple silicon and Linux only", "use --backend torch")
        return Absent(self.name, f"{' and '.join(missing)} not installed", "pip install --upgrade mlxnb")

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """See Backend.find."""
        return in_folder(self.name, here())

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> MlxModel:
        """See Backend.load."""
        from ..models import inspect

        import_transformers()  # mlx-lm would import it aloud
        import mlx.core as mx
        from mlx_lm.utils import load_model

        checkpoint = inspect(source.path)
        adapter = adapter_for(source, checkpoint, precision, in_mlx=True)
        overlay = as_mlx_lm_reads_it(checkpoint.config)
        try:
            model, _ = load_model(source.path, lazy=precision.quantize is not None, model_config=overlay)
        except ValueError as err:
            raise _foreign(err, source.name) from err
        except (TypeError, AttributeError, KeyError, NotImplementedError) as err:
            reason = " ".join(str(err).split()[:30])
            raise UnsupportedModelError(
                f"mlx-lm cannot build {source.name}: {reason}.", "Try --backend torch."
            ) from err
        if precision.dtype is not None:
            model.set_dtype(getattr(mx, precision.dtype))
        decision = _quantised(model, checkpoint, precision.quantize)
        if without := experts_that_cannot_run(model):
            message = f"MLX on this {device()} has no product for the experts of {source.name} in {without}."
            raise UnsupportedModelError(message, "Use --backend torch, --dtype float32, or --quantize int8.")
        mx.eval(model.parameters())
        long_rope = correct(model, checkpoint.config)
        if adapter is not None:
            attach(model, adapter, source.name)
            mx.eval(model.parameters())
        info = _info(source, model, checkpoint)
        if adapter is not None:
            info = with_adapter(info, adapter, "beside the weights")
        if decision is not None:
            info = with_quantization(info, decision, _said(model, checkpoint) if decision else None)
        made = MlxModel(model, Tokenizer(source.path), info, checkpoint.head_dim, long_rope)
        made.checkpoint = checkpoint
        return made

    def memory_free(self) -> int | None:
        """On Apple silicon what the recommended working set leaves, for beyond it the system starts to swap, or what
        the machine has free where that is less; buffers that MLX holds for later are free.
        """
        import mlx.core as mx

        limit = mx.device_info().get("max_recommended_working_set_size") if device() == "metal" else None
        if limit is None:
            return None
        return min(int(limit) - mx.get_active_memory(), hardware.memory_free() + mx.get_cache_memory())

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """See Backend.smaller_way."""
        return Rejected(self.name, "a model is loaded as it is asked for, or not at all")

    def close(self) -> None:
        """Drop this thread's streams: the interpreter aborts at exit where one is left with work in flight."""
        if "mlx.core" in sys.modules:
            import mlx.core as mx

            mx.clear_streams()


def _quantised(model: Any, checkpoint: Checkpoint, kind: str | None) -> Decision | None:
    """Quantise `model` if it can be; None where nothing was asked for."""
    if kind is None:
        return None
    if checkpoint.quantization:
        bits = quantization_of(checkpoint.config).get("bits")
        return as_it_is(checkpoint.quantization, bits if isinstance(bits, int) else None, kind)
    return mlx_quantize.quantise(model, kind)


def _said(model: Any, checkpoint: Checkpoint) -> str | None:
    """What a person should know beside what the quantised model is in."""
    if checkpoint.quantization:
        return f"stored in {checkpoint.quantization} already: nothing was quantised again"
    return mlx_quantize.left_in_full(model)


def _foreign(err: ValueError, name: str) -> UnsupportedModelError:
    """mlx-lm raises ValueError for an unknown architecture, and for weights its own version of one has no place for."""
    return UnsupportedModelError(f"mlx-lm cannot run {name}: {' '.join(str(err).split()[:30])}", "Use --backend torch.")


def _info(source: ModelSource, model: Any, checkpoint: Checkpoint) -> ModelInfo:
    from importlib.metadata import version

    import mlx.core as mx
    from mlx.utils import tree_flatten

    arrays = [array for _, array in tree_flatten(model.parameters())]
    floating = [a for a in arrays if mx.issubdtype(a.dtype, mx.floating)]
    dtype = max(floating, key=lambda a: a.nbytes).dtype if floating else mx.float32
    exact = readable_context(model, checkpoint.config)
    contexts = [length for length in (checkpoint.context_length, exact) if length is not None]
    notes = [source.note] if source.note else []
    if exact is not None and exact == min(contexts):
        notes.append(f"context limited to {exact} tokens: mlx-lm ignores this model's sliding window beyond it")
    return ModelInfo(
        name=source.name,
        source=source.kind,
        revision=source.revision,
        backend="mlx",
        backend_version=f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}",
        device=device(),
        dtype=str(dtype).removeprefix("mlx.core."),
        quantization=checkpoint.quantization,
        parameters=checkpoint.parameters,
        memory=sum(a.nbytes for a in arrays),
        context_length=min(contexts, default=None),
        attention="mlx-lm stock",
        notes=tuple(notes),
    )


class MlxModel(LocalModel):
    """A model in MLX arrays, decoded by mlx-lm's own `generate_step`."""

    quantises_cache = drafts = steps_prefill = True

    def __init__(
        self, model: Any, tokenizer: Tokenizer, info: ModelInfo, head_dim: int = 0, long_rope: LongRope | None = None
    ) -> None:
        super().__init__(tokenizer)
        self.model: Any = model
        self.info = info
        self._head_dim = head_dim
        self._batchable: Decision | None = None
        self._states = MlxStates(model)
        self.states = self._states if self._states.reusable() else None
        self._long_rope = long_rope
        self.stretches_beyond = long_rope.original_context if long_rope else None
        # A prefill chunk is the grain of an interrupt: a CPU needs seconds for what a GPU does at once.
        self.prefill_step = 256 if info.device == "cpu" else 2048

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return len(self.tokenizer.inner)

    def new_state(self, request: Request, watch: Watch) -> list[Any]:
        """See LocalModel.new_state. One entry a layer."""
        return make_cache(self.model, self._head_dim, request.kv_bits, request.kv_group_size, watch)

    def cuttable(self, state: Any) -> bool:
        """See LocalModel.cuttable."""
        return self._states.cuttable

    def kernels(self) -> str:
        """See LocalModel.kernels: while kernels are patched in, which of them there are."""
        return attention_in_use() or self.info.attention

    def decoder(self, feed: Feed, request: Request, steering: Steering | None = None) -> MlxDecoder:
        """See LocalModel.decoder."""
        sampling = request.sampling
        return MlxDecoder(self.model, feed, sampling, make_sampler(sampling), make_processors(sampling, []), steering)

    def batchable(self, request: Request) -> Decision:
        """See LocalModel.batchable."""
        if request.kv_bits is not None:
            return Rejected(BATCH, "mlx-lm's batches do not keep a quantised KV cache", "leave out kv_bits")
        if self._long_rope is not None:
            return Rejected(BATCH, "LongRoPE embeds every position of this model by the length of its row")
        if self._batchable is None:
            self._batchable = batchable(self.model)
        return self._batchable

    def new_batch(self) -> Batch:
        """See LocalModel.new_batch."""
        return MlxBatch(self)

    def tokens(
        self,
        ids: list[int],
        request: Request,
        limit: int,
        watch: Watch,
        feed: Feed,
        sampler: Callable[[Any], Any] | None = None,
    ) -> Iterator[int]:
        """See LocalModel.tokens. `sampler` as `make_sampler` makes one, in its place where nothing is speculated."""
        import mlx.core as mx
        from mlx_lm.generate import wired_limit

        sampling = request.sampling
        if sampling.seed is not None:
            mx.random.seed(sampling.seed)
        if self._long_rope is not None:
            self._long_rope.set_for(len(ids))
        mx.reset_peak_memory()
        try:
            with wired_limit(self.model), counted(watch):
                self.prefill(ids, watch, feed, lambda: self.new_state(request, Watch()))
                plain = request.draft is None and watch.speculation is None
                draw = sampler or make_sampler(request.sampling)
                decode = partial(self._decode, draw) if plain else self._speculate
                yield from decode(ids, request, limit, watch, feed)
        finally:
            watch.peak_memory = mx.get_peak_memory()

    def prefill(self, ids: list[int], watch: Watch, feed: Feed, fresh: Callable[[], list[Any]]) -> None:
        """Feed the prompt but for its last token, in chunks as mlx-lm does; see `prefill`. `fresh` makes a state."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        def take(start: int, end: int, feed: Feed) -> None:
            self.model(mx.array(ids[start:end])[None], cache=feed.state)
            mx.eval([cache.state for cache in feed.state])
            mx.clear_cache()

        def rewind(feed: Feed) -> None:
            # Its arrays wait for what could not be computed, and so would any part that was cut out of them.
            feed.state, feed.length = fresh(), 0

        with mx.stream(generation_stream):
            prefill(feed, len(ids) - 1, self.prefill_step, Feeding(self, watch, take, rewind))

    def _speculate(self, ids: list[int], request: Request, limit: int, watch: Watch, feed: Feed) -> Iterator[int]:
        if watch.cancelled.is_set():
            raise Cancelled
        decoder = self.decoder(feed, request, watch.steering)
        first = decoder.draw(decoder.feed(ids[feed.length :], 1), 0, ids)
        watch.prefill_done = len(ids)
        yield from speculate(first, ids, limit, decoder, proposer(self, request, watch), watch)

    def _decode(
        self, sampler: Any, ids: list[int], request: Request, limit: int, watch: Watch, feed: Feed
    ) -> Iterator[int]:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        if watch.cancelled.is_set():
            raise Cancelled
        sampling, steering = request.sampling, steering_processors(watch.steering, ids)
        for processor in steering:
            sampler = processor.hearing(sampler)
        steps = generate_step(
            mx.array(ids[feed.length :]),
            self.model,
            max_tokens=limit,
            sampler=sampler,
            logits_processors=[*steering, *make_processors(sampling, ids[: feed.length])],
            prompt_cache=feed.state,
        )
        try:
            for made, (token, _) in enumerate(steps, 1):
                watch.prefill_done = len(ids)
                feed.length = len(ids) + made  # mlx-lm has fed a token, to compute the next, before it hands it over
                yield token
        finally:
            steps.close()

    def losses(self, ids: list[int]) -> list[float]:
        """See LocalModel.losses."""
        import mlx.core as mx
        import mlx.nn as nn

        if self._long_rope is not None:
            self._long_rope.set_for(len(ids))
        said: list[float] = []
        state = make_cache(self.model, self._head_dim, None, None, Watch())
        for start in range(0, len(ids) - 1, self.prefill_step):
            end = min(start + self.prefill_step, len(ids) - 1)
            logits = self.model(mx.array(ids[start:end])[None], cache=state)[0].astype(mx.float32)
            said += nn.losses.cross_entropy(logits, mx.array(ids[start + 1 : end + 1])).tolist()
        return said

    def log_probs(self, ids: list[int]) -> Iterator[Any]:
        """See LocalModel.log_probs."""
        import mlx.core as mx
        import numpy as np

        if self._long_rope is not None:
            self._long_rope.set_for(len(ids))
        state, step = make_cache(self.model, self._head_dim, None, None, Watch()), self.piece(self.prefill_step)
        for start in range(0, len(ids) - 1, step):
            end = min(start + step, len(ids) - 1)
            logits = self.model(mx.array(ids[start:end])[None], cache=state)[0].astype(mx.float32)
            yield np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))

    def give_back(self) -> None:
        """See LocalModel.give_back. MLX keeps freed buffers, and frees some only when Python has let go."""
        import mlx.core as mx

        release()
        mx.clear_cache()
        release()

    def close(self) -> None:
        """Drop every reference, then MLX's cache of freed buffers: only both together give memory back."""
        self.model = self._long_rope = self.states = None
        del self._states
        self.give_back()


def make_sampler(sampling: Sampling) -> Any:
    """mlx-lm's sampler for our options: log-probabilities [batch, vocabulary] to token ids [batch]."""
    from mlx_lm.sample_utils import make_sampler as mlx_lm_sampler

    s = sampling
    filtering = mlx_lm_sampler(temp=s.temperature, top_p=s.top_p, min_p=s.min_p, top_k=s.top_k)
    if s.top_k == 0:
        return filtering
    # mlx-lm refuses a top_k as large as the vocabulary, which asks for nothing to be dropped.
    keeping = mlx_lm_sampler(temp=s.temperature, top_p=s.top_p, min_p=s.min_p)
    return lambda logprobs: (filtering if s.top_k < logprobs.shape[-1] else keeping)(logprobs)


def make_processors(sampling: Sampling, before: list[int]) -> list[Any]:
    """mlx-lm's repetition penalty over the last 20 tokens; none at 1.0, where it would only cost time.

    `before` are tokens that were fed ahead of the first that mlx-lm tells its processors of.
    """
    import mlx.core as mx
    from mlx_lm.sample_utils import make_logits_processors

    if sampling.repetition_penalty == 1.0:
        return []
    (penalise,) = make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    earlier = mx.array(before, mx.int32)
    return [lambda tokens, logits: penalise(mx.concatenate([earlier, tokens.astype(mx.int32)]), logits)]
