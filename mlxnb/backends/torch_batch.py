"""Continuous batching in torch: rows are prefilled alone, decoded together, and come and go between two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..decision import Accepted, Decision, Rejected
from ..errors import in_words
from .batch import SUBJECT, Batch, Member
from .memory import memory_ran_out
from .steering import steered
from .torch_layers import kind
from .torch_sampling import TorchSampler, likeliest
from .torch_slots import Slots

if TYPE_CHECKING:
    from .reuse import Feed
    from .torch import TorchModel

# What the logits of rows fed together may differ by from those fed alone, root mean square as a share of their spread.
# The largest one would not do: among half a million logits after 28 layers in bfloat16 it is 0.10 by rounding alone.
EXACT, ROUNDED = 1e-3, 0.1


class TorchBatch(Batch):
    """See Batch."""

    def __init__(self, model: TorchModel) -> None:
        import torch

        self._model = model
        self._counts = model.info.device == "cuda"  # the only device that keeps a peak
        if self._counts:
            torch.cuda.reset_peak_memory_stats()
        self._slots: Slots | None = None
        self.members: list[Member] = []

    def join(self, member: Member) -> list[tuple[Member, int]]:
        """See Batch.join."""
        import torch

        ids = member.history
        if member.draw is None:
            member.draw = TorchSampler(member.request.sampling, self._model.info.device)
        self._model.use_threads()
        feed, keep = self._started(member)
        member.watch.prefill_done = feed.length
        if not member.prefilled:  # what it is given when it comes again is of its own making
            member.watch.reused_tokens = feed.length
        with torch.inference_mode():
            logits = self._model.prefill(ids, feed, member.watch)
            keep(feed)
            member.prefilled = True
            if self._slots is None:
                self._slots = Slots(feed.state.layers)
            self._slots.join(feed.state)
            self.members.append(member)
            try:
                return [(member, self._draw(logits, [member])[0])]
            except Exception:
                self.leave([member])
                raise

    def _started(self, member: Member) -> tuple[Feed, Callable[[Feed], None]]:
        """See LocalModel.start; what is fed again is not kept again."""
        feed, keep = self._model.start(member)
        return feed, (lambda _: None) if member.prefilled else keep

    def step(self) -> list[tuple[Member, int]]:
        """See Batch.step. One that fails leaves the rows as they were."""
        import torch

        if self._slots is None or not self.members:
            return []
        with torch.inference_mode():
            logits = forward(self._model.model, self._slots, [member.made[-1] for member in self.members])
            tokens = self._draw(logits, self.members)
        self._slots.end()
        for member in self.members if self._counts else ():
            member.watch.peak_memory = torch.cuda.max_memory_allocated()
        return list(zip(self.members, tokens, strict=True))

    def _draw(self, logits: Any, members: Sequence[Member]) -> list[int]:
        """The next token of each row of logits [rows, vocabulary]; the likeliest of all rows are found at once.
        Where one fails, none has drawn.
        """
        plain = likeliest(logits) if any(_plain(member) for member in members) else []
        before = [(member.draw, member.draw.state()) for member in members if not _plain(member)]
        try:
            return [
                plain[i]
                if _plain(member)
                else steered(member.draw, member.watch.steering)(logits[i : i + 1], member.history)
                for i, member in enumerate(members)
            ]
        except Exception:
            for draw, state in before:
                draw.back_to(state)
            raise

    def leave(self, members: Sequence[Member]) -> None:
        """See Batch.leave."""
        import torch

        assert self._slots is not None
        for member in members:
            slot, last = self.members.index(member), self.members.pop()
            with torch.inference_mode():
                self._slots.leave(slot)
            if slot < len(self.members):
                self.members[slot] = last
        if not self.members:
            self._slots = None
            return
        with torch.inference_mode():
            self._slots.shrink(max(member.longest for member in self.members))

    def nbytes(self) -> int:
        """See Batch.nbytes."""
        return self._slots.nbytes() if self._slots is not None else 0

    def after(self, tokens: int) -> int:
        """See Batch.after."""
        assert self._slots is not None
        return self._slots.size(len(self.members) + 1, max(tokens, *(member.longest for member in self.members)))

    def close(self) -> None:
        """See Batch.close."""
        self.members, self._slots = [], None


def _plain(member: Member) -> bool:
    """Whether its next token is the likeliest one, whatever came before."""
    sampling = member.request.sampling
    return sampling.temperature == 0 and sampling.repetition_penalty == 1.0 and member.watch.steering is None


def forward(model: Any, slots: Slots, tokens: Sequence[int]) -> Any:
    """Logits [rows, vocabulary] after one more token a row."""
    import torch

    slots.begin(model.device)
    windows = {layer.window for layer in slots.layers}
    masks = {window: slots.mask(window, model.dtype) for window in windows}
    mask: Any = next(iter(masks.values()))
    if len(masks) > 1:  # a model with both kinds of layers takes a mask for each, by the names of its configuration
        named = {window: "full_attention" if window is None else "sliding_attention" for window in windows}
        mask = {named[window]: made for window, made in masks.items()}
    out = model(
        input_ids=torch.tensor(tokens, device=model.device)[:, None],
        position_ids=slots.positions[:, None],
        attention_mask=mask,
        past_key_values=slots.held,
        use_cache=True,
    )
    return out.logits[:, -1]


def batchable(model: Any) -> Decision:
    """Whether rows of unlike length can be decoded together by this transformers model, shown by doing so once.

    Raises:
        Exception: memory ran out, which says nothing of the model.
    """
    from transformers import DynamicCache

    layers = DynamicCache(config=model.config).layers
    unlike = sorted({type(layer).__name__ for layer in layers} - {"DynamicLayer", "DynamicSlidingWindowLayer"})
    if unlike or any(kind(layer) is None for layer in layers):
        return Rejected(SUBJECT, f"rows of unlike length cannot share this model's {', '.join(unlike) or 'layers'}")
    named = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if named - {"full_attention", "sliding_attention"}:
        return Rejected(SUBJECT, f"this model's {', '.join(sorted(named))} is not known to be safe to batch")
    try:
        apart = _difference(model)
    except Exception as err:  # a probe: what a model's own code does with a mask or positions is its own
        if memory_ran_out(err):
            raise
        return Rejected(SUBJECT, f"this model did not take rows of unlike length: {in_words(err)}")
    allowed = EXACT if str(model.dtype) == "torch.float32" else ROUNDED
    if not apart <= allowed:
        return Rejected(SUBJECT, f"rows that were fed together came out {apart:.2g} apart from those fed alone")
    return Accepted(SUBJECT, f"rows fed together came out within {apart:.2g} of those fed alone")


def _difference(model: Any) -> float:
    """How far the logits of three rows fed together are from those fed alone, as a share of their spread; of the row
    that is furthest.
    """
    import torch
    from transformers import DynamicCache

    top = int(model.config.get_text_config().vocab_size)
    prompts = [[(7 * i + 3 * n) % top for i in range(n)] for n in (9, 2, 5)]
    with torch.inference_mode():
        caches, alone = [DynamicCache(config=model.config) for _ in prompts], []
        slots: Slots | None = None
        for cache, ids in zip(caches, prompts, strict=True):
            given = torch.tensor([ids], device=model.device)
            model(input_ids=given[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
            slots = slots or Slots(cache.layers)
            slots.join(cache)
            alone.append(model(input_ids=given[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1])
        assert slots is not None
        together, one = forward(model, slots, [ids[-1] for ids in prompts]).float(), torch.cat(alone).float()
        return float(((together - one).square().mean(-1).sqrt() / one.std(-1)).max())
