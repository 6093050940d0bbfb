"""The torch backend: transformers models with a decode loop of our own, on CUDA, MPS or the CPU."""

from __future__ import annotations

import importlib.util
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..decision import Absent, Accepted, Decision, Rejected
from ..errors import DamagedModelError, UnsupportedModelError
from ..quiet import import_transformers
from ..request import AS_STORED, DTYPES, Precision, Request
from . import torch_quantize
from .adapters import adapter_for, with_adapter
from .base import ModelInfo, Watch, in_folder
from .batch import SUBJECT as BATCH
from .batch import Batch
from .local import LocalModel
from .memory import memory_ran_out, release, unless_short
from .prefill import Feeding, make_room, prefill, step_again
from .quantization import as_it_is, with_quantization
from .reuse import Feed
from .speculative import proposer, speculate
from .steering import steered
from .tokenizer import Tokenizer
from .torch_adapter import merge
from .torch_attention import take_packed
from .torch_batch import TorchBatch, batchable
from .torch_blocking import blocked, bytes_in_blocks
from .torch_decoder import Draws, TorchDecoder
from .torch_kv import STEP, expect, new_cache
from .torch_mlx import StoredByMlx, stored_by_mlx
from .torch_norms import take_norms
from .torch_plans import (
    Plan,
    card_free,
    check_on_device,
    first_that_fits,
    give_back,
    placement,
    places,
    plans,
    quantised_in_parts,
    room,
    short_in_conversion,
    smaller_way,
    spread,
    spread_words,
    with_plan,
)
from .torch_sampling import TorchSampler
from .torch_states import TorchStates
from .torch_threads import MEASURED_BELOW, Threads

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource

# Tokens of a request that tell how fast a number of threads decodes.
ENOUGH = 8


class TorchBackend:
    """See Backend."""

    name = "torch"

    def __init__(self) -> None:
        self._threads: int | None = None  # what torch takes by itself; known once it is imported

    def available(self) -> Decision:
        """Whether torch and transformers are installed; imports neither."""
        missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
        if missing:
            return Absent(self.name, f"{' and '.join(missing)} not installed", "pip install 'mlxnb[torch]'")
        return Accepted(self.name, "torch and transformers are installed")

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """See Backend.find."""
        return in_folder(self.name, here())

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> TorchModel:
        """See Backend.load."""
        import torch

        from .. import models

        checkpoint = models.inspect(source.path)
        stored = stored_by_mlx(source, checkpoint, precision.dtype, self.memory_free())
        self._threads = self._threads or torch.get_num_threads()
        held = bool(checkpoint.quantization) and stored is None
        ways = list(plans(places(device_name()), precision.quantize, held))
        made, plan, dropped = first_that_fits(
            ways,
            lambda plan: self._load(source, checkpoint, stored, replace(precision, quantize=plan.quantize), plan),
            lambda plan: room(plan, checkpoint, precision),
            source.name,
        )
        made.info = with_plan(made.info, plan, dropped, next(way for way in ways if isinstance(way, Plan)))
        return made

    def _load(
        self, source: ModelSource, checkpoint: Checkpoint, stored: StoredByMlx | None, precision: Precision, plan: Plan
    ) -> TorchModel:
        import torch

        device, threads_here = plan.device, self._threads or 1
        dtype = getattr(torch, precision.dtype) if precision.dtype else "auto"

        adapter = adapter_for(source, checkpoint, precision, in_mlx=False)

        def full() -> Any:
            model = _from_pretrained(source, dtype, stored, plan)
            if adapter is not None:
                merge(model, adapter, source.name)
            return (model if plan.device_map or plan.in_parts else model.to(device)).eval()

        # What MLX stored quantised is unpacked by now, so that it can be quantised for torch.
        held = checkpoint.quantization if stored is None else None
        decision: Decision | None = None
        blocks: Decision | None = None
        if plan.in_parts:
            model = full()
            decision = quantised_in_parts(model, str(precision.quantize), device)
        else:
            model, decision = _quantised(full, held, precision.quantize)
        if not decision and device == "cpu" and not (plan.device_map or plan.in_parts):
            model, blocks = blocked(model, full)
        short_norms = len(set(spread(model).values())) < 2 and any(take_norms(model))
        small = checkpoint.parameters if device == "cpu" else MEASURED_BELOW
        threads = Threads.measure(model, small, threads_here)
        info = _info(source, model, checkpoint, device)
        if packed := take_packed(model):
            info = replace(info, attention=f"{info.attention}, {packed.subject}")
        if short_norms:  # told here for the caches' keys: last bits differ
            info = replace(info, attention=f"{info.attention}, short norms")
        if blocks:
            info = replace(info, attention=f"{info.attention}, {blocks.subject}")
        if stored is not None:
            info = replace(info, quantization=None, notes=(*info.notes, *stored.notes(again=bool(decision))))
        if said := spread_words(model):
            info = replace(info, notes=(*info.notes, said))
        if decision is not None:
            release()  # the full weights went one by one, into a heap that keeps their pages
            info = with_quantization(info, decision, torch_quantize.left_in_full(model) if decision else None)
            if decision and info.memory >= checkpoint.parameters * DTYPES.get(info.dtype, 2):
                larger = "quantised it takes more memory: its embedding stays, beside an int8 copy of it as the head"
                info = replace(info, notes=(*info.notes, larger))
        if adapter is not None:
            info = with_adapter(info, adapter, "added to the weights")
        made = TorchModel(model, Tokenizer(source.path), info, threads)
        made.checkpoint = checkpoint
        return made

    def memory_free(self) -> int | None:
        """On CUDA what the first card has free, and what torch's allocator holds of it for later. The KV state of a
        model that is split over several lies on all of them, so that this is the least that there is for it.
        """
        return card_free() if device_name() == "cuda" else None

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """See Backend.smaller_way."""
        return smaller_way(places(device_name()), checkpoint, precision)

    def close(self) -> None:
        """torch keeps nothing on the engine's thread."""


def device_name() -> str:
    """`cuda`, `mps` or `cpu`: what torch computes on here."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _from_pretrained(source: ModelSource, dtype: Any, stored: StoredByMlx | None, plan: Plan) -> Any:
    from safetensors import SafetensorError

    transformers = import_transformers()
    logging = transformers.utils.logging
    bar_was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    offloaded = TemporaryDirectory(prefix="mlxnb-") if plan.spills else None
    try:
        kind = transformers.AutoModelForCausalLM if stored is None else stored.model_class()
        model, report = kind.from_pretrained(
            source.path if stored is None else None,
            dtype=dtype if stored is None else stored.dtype,
            **({} if stored is None else stored.arguments()),
            **placement(plan, offloaded.name if offloaded else None),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except RuntimeError as err:
        if not memory_ran_out(err) and short_in_conversion(err):
            raise MemoryError(f"memory ran out where the weights of {source.name} were put together") from err
        raise
    except SafetensorError as err:
        raise DamagedModelError(f"The weights of {source.name} are damaged: {err}.", "Fetch the model again.") from err
    except (ValueError, KeyError, ImportError, AttributeError, TypeError) as err:
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise UnsupportedModelError(f"transformers cannot build {source.name}: {reason}", "Try --backend mlx.") from err
    finally:
        if bar_was_on:
            logging.enable_progress_bar()
    _check_complete(report, source.name)
    if offloaded is not None:
        model.offloaded = offloaded  # the folder goes with it
    if plan.device_map == "auto":
        check_on_device(model, plan)
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        # It would take the cache as a stray keyword, ignore it, and see one token at a time.
        kind = type(model).__name__
        raise UnsupportedModelError(f"The torch backend has no cache for {kind}, which {source.name} is.", "Use mlx.")
    return model


def _quantised(full: Callable[[], Any], held: str | None, kind: str | None) -> tuple[Any, Decision | None]:
    """The model that `full` loads, in `kind` if that can be; None where nothing was asked for. `held`: what its weights
    are quantised to already.
    """
    if kind is None:
        return full(), None
    if held:
        return full(), as_it_is(held, None, kind)
    return torch_quantize.quantised(full, kind)


def _check_complete(report: dict[str, Any], name: str) -> None:
    """transformers fills weights that are missing or of another shape with random numbers and only warns."""
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise DamagedModelError(
            f"{name} lacks {len(wrong)} of the weights that its configuration asks for, {wrong[0]} among them.",
            "Fetch the model again.",
        )


def _info(source: ModelSource, model: Any, checkpoint: Checkpoint, device: str) -> ModelInfo:
    from importlib.metadata import version

    tensors = [*model.parameters(), *model.buffers()]
    return ModelInfo(
        name=source.name,
        source=source.kind,
        revision=source.revision,
        backend="torch",
        backend_version=f"torch {version('torch')}, transformers {version('transformers')}",
        device=device,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=checkpoint.quantization,
        parameters=checkpoint.parameters,
        memory=sum(t.numel() * t.element_size() for t in tensors) + bytes_in_blocks(model),
        context_length=checkpoint.context_length,
        attention=f"transformers {model.config._attn_implementation}",
        notes=(source.note,) if source.note else (),
    )


class TorchModel(LocalModel):
    """A transformers model, decoded one token at a time over its KV cache."""

    drafts = True

    def __init__(self, model: Any, tokenizer: Tokenizer, info: ModelInfo, threads: Threads) -> None:
        super().__init__(tokenizer)
        self.model: Any = model
        self.info = info
        self._threads = threads
        self._batchable: Decision | None = None
        self._states = TorchStates(model)
        self.states = self._states if self._states.reusable() else None
        self.stretches_beyond = _long_rope_border(model.config)
        self._prefill_step = 256 if info.device == "cpu" else 2048
        self.steps_prefill = self.stretches_beyond is None

    def new_state(self, request: Request, watch: Watch) -> Any:
        """See LocalModel.new_state."""
        return new_cache(self.model.config)

    def cuttable(self, state: Any) -> bool:
        """See LocalModel.cuttable."""
        return self._states.cuttable

    def decoder(self, feed: Feed, request: Request, sampler: Draws | None = None) -> TorchDecoder:
        """See LocalModel.decoder. `sampler` in TorchSampler's place."""
        draws = sampler or TorchSampler(request.sampling, self.info.device)
        return TorchDecoder(self.model, self._states, feed, draws, self.info.device)

    def tokens(
        self,
        ids: list[int],
        request: Request,
        limit: int,
        watch: Watch,
        feed: Feed,
        sampler: Callable[[Any, list[int]], int] | None = None,
    ) -> Iterator[int]:
        """See LocalModel.tokens. `sampler` takes logits [1, vocabulary] and the ids so far, in TorchSampler's place."""
        import torch

        threads = self.use_threads()
        own = TorchSampler(request.sampling, self.info.device)
        draw = steered(sampler or own, watch.steering)
        with _peak_memory(self.info.device, watch):
            # inference_mode must not stay on while the generator is suspended: it is a state of the whole thread.
            expect(feed.state, len(ids) + min(limit, STEP))  # room for a long answer is made when it gets long
            with torch.inference_mode():
                logits = self.prefill(ids, feed, watch)
                token = draw(logits, ids)
            if request.draft is not None or watch.speculation is not None:
                room_made = partial(make_room, feeding=self._feeding(ids, watch), then="tried again")
                steered_own = steered(own, watch.steering)
                decoder = TorchDecoder(self.model, self._states, feed, steered_own, self.info.device, room_made)
                yield from speculate(token, ids, limit, decoder, proposer(self, request, watch), watch)
                return
            history, spent = list(ids), 0.0
            try:
                for _ in range(limit - 1):
                    yield token
                    history.append(token)
                    began = time.perf_counter()
                    with torch.inference_mode():
                        token = draw(self._next(history, feed, watch), history)
                    spent += time.perf_counter() - began
                yield token
            finally:
                made = len(history) - len(ids)
                if made >= ENOUGH:
                    self._threads.saw(threads, spent / made)

    def batchable(self, request: Request) -> Decision:
        """See LocalModel.batchable. Asked of the model once, or again where there was no memory to ask."""
        if self.stretches_beyond is not None:
            return Rejected(BATCH, "LongRoPE embeds every position of this model by the length of its row")
        if spread_words(self.model):
            return Rejected(BATCH, "its layers are in several places")
        if self._batchable is None:
            self.use_threads()
            found = unless_short(lambda: batchable(self.model))
            if found is None:
                self.give_back()
                return Rejected(BATCH, "memory ran out where that was tried", "unload another model and ask again")
            (self._batchable,) = found
        return self._batchable

    def new_batch(self) -> Batch:
        """See LocalModel.new_batch."""
        return TorchBatch(self)

    def use_threads(self) -> int:
        """Compute on the number of threads that was fastest, which it returns."""
        import torch

        torch.set_num_threads(self._threads.best)  # holds for this thread only, the engine's
        return torch.get_num_threads()

    def prefill(self, ids: list[int], feed: Feed, watch: Watch) -> Any:
        """Logits [1, vocabulary] after the prompt; see `prefill`."""
        step = self._prefill_step if self.stretches_beyond is None else len(ids)
        return prefill(feed, len(ids), step, self._feeding(ids, watch))

    def _feeding(self, ids: list[int], watch: Watch) -> Feeding:
        import torch

        prompt = torch.tensor([ids], device=self.info.device)

        def take(start: int, end: int, feed: Feed) -> Any:
            return self._step(prompt[:, start:end], feed.state)

        # transformers chooses LongRoPE's factors by the positions of one forward pass, so that must be the whole.
        whole = self.stretches_beyond is not None
        return Feeding(self, watch, take, partial(self._rewind, len(ids)), whole, self.states is not None)

    def _rewind(self, tokens: int, feed: Feed) -> None:
        """Leave of `feed` the tokens that every layer has, where a state can be cut; else it starts again."""
        if feed.length and self._states.cuttable:
            self._states.drop_after(feed.state, feed.length)
        else:
            feed.state, feed.length = new_cache(self.model.config), 0
            expect(feed.state, tokens)

    def _next(self, history: list[int], feed: Feed, watch: Watch) -> Any:
        """Logits [1, vocabulary] after `history`, of which `feed` has all but the last token."""
        import torch

        last = torch.tensor([history[-1:]], device=self.info.device)
        found = unless_short(lambda: self._step(last, feed.state), self.states is None)
        if found is None:
            return step_again(feed, len(history), self._prefill_step, self._feeding(history, watch))
        feed.length += 1
        return found[0]

    def losses(self, ids: list[int]) -> list[float]:
        """See LocalModel.losses."""
        import torch

        self.use_threads()
        said: list[float] = []
        state, tokens = new_cache(self.model.config), torch.tensor([ids], device=self.info.device)
        step = self._prefill_step if self.stretches_beyond is None else len(ids)
        with torch.inference_mode():
            for start in range(0, len(ids) - 1, step):
                end = min(start + step, len(ids) - 1)
                logits = self.model(input_ids=tokens[:, start:end], past_key_values=state, use_cache=True).logits[0]
                right = tokens[0, start + 1 : end + 1]
                said += torch.nn.functional.cross_entropy(logits.float(), right, reduction="none").tolist()
        return said

    def log_probs(self, ids: list[int]) -> Iterator[Any]:
        """See LocalModel.log_probs. LongRoPE wants its text in one piece, however large."""
        import torch

        self.use_threads()
        state, tokens = new_cache(self.model.config), torch.tensor([ids], device=self.info.device)
        step = self.piece(self._prefill_step) if self.stretches_beyond is None else len(ids)
        for start in range(0, len(ids) - 1, step):
            taken = tokens[:, start : min(start + step, len(ids) - 1)]
            with torch.inference_mode():
                logits = self.model(input_ids=taken, past_key_values=state, use_cache=True).logits[0]
                found = logits.float().log_softmax(-1).cpu().numpy()
            yield found

    def _step(self, ids: Any, cache: Any) -> Any:
        """One forward pass over ids [1, L]; logits [1, vocabulary] of the last position."""
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]

    def logits(self, ids: Any, state: Any = None) -> Any:
        """Logits [B, L, vocabulary] of ids [B, L] after what `state` holds, which then holds them too."""
        import torch

        self.use_threads()
        ids = ids.to(self.info.device)
        with torch.inference_mode():
            return self.model(input_ids=ids, past_key_values=state, use_cache=state is not None).logits

    def misfit(self, layers: list[Any]) -> str:
        """See TorchStates.misfit."""
        return self._states.misfit(layers)

    def give_back(self) -> None:
        """See LocalModel.give_back."""
        give_back(self.info.device)

    def close(self) -> None:
        """Drop the model and hand the allocator's cached blocks back to the device."""
        self.model = self.states = None
        del self._states
        self.give_back()


def _long_rope_border(config: Any) -> int | None:
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None


class _peak_memory:
    """Records a CUDA allocator's peak over a request; other devices keep no such figure."""

    def __init__(self, device: str, watch: Watch) -> None:
        self._on, self._watch = device == "cuda", watch

    def __enter__(self) -> None:
        if self._on:
            import torch

            torch.cuda.reset_peak_memory_stats()

    def __exit__(self, *_: object) -> None:
        if self._on:
            import torch

            self._watch.peak_memory = torch.cuda.max_memory_allocated()
