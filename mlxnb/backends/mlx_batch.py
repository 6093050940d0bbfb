"""Continuous batching in MLX: rows are prefilled alone and decoded together by mlx-lm's BatchGenerator."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..decision import Accepted, Decision, Rejected
from ..request import Sampling
from .base import Watch
from .batch import SUBJECT, Batch, Member
from .mlx_attention import counted
from .mlx_layers import kind, leaves
from .mlx_steering import steering_processors

if TYPE_CHECKING:
    from .mlx import MlxModel

# What `BatchGenerator.insert` must take for a row that was prefilled here.
TAKES = {"prompts", "max_tokens", "caches", "all_tokens", "samplers", "logits_processors"}

# mlx-lm's buffers grow by so many tokens, from wherever they are.
STEP = 256

# More than any row makes: rows are taken out here, by what ends them.
ENDLESS = 2**31 - 1


class Draw:
    """One row's sampler: mlx-lm's filters, in its order, and a random key of the row's own. The keys follow one another
    as MLX's own state does, so a seeded row draws what it draws alone, whoever is beside it.
    """

    def __init__(self, sampling: Sampling) -> None:
        import mlx.core as mx

        assert sampling.seed is not None
        self._sampling = sampling
        # The key before each draw: mlx-lm draws ahead, so a row that leaves has drawn a token that it never saw.
        self._keys = [mx.random.key(sampling.seed)]

    def __call__(self, logprobs: Any) -> Any:
        """Token ids [1] of log-probabilities [1, vocabulary]."""
        import mlx.core as mx
        from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

        s = self._sampling
        if 0 < s.top_p < 1:
            logprobs = apply_top_p(logprobs, s.top_p)
        if s.min_p > 0:
            logprobs = apply_min_p(logprobs, s.min_p)
        if 0 < s.top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, s.top_k)
        following, key = mx.random.split(self._keys[-1])
        self._keys.append(following)
        return mx.random.categorical(logprobs * (1 / s.temperature), key=key)

    def back_to(self, drawn: int) -> None:
        """Go on as after so many draws."""
        del self._keys[drawn + 1 :]


class MlxBatch(Batch):
    """See Batch."""

    def __init__(self, model: MlxModel) -> None:
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        self._model = model
        self._generator: Any = BatchGenerator(model.model)
        self._by_uid: dict[int, Member] = {}
        mx.reset_peak_memory()

    @property
    def members(self) -> list[Member]:  # type: ignore[override]
        """See Batch."""
        return list(self._by_uid.values())

    def join(self, member: Member) -> list[tuple[Member, int]]:
        """See Batch.join. The first token comes with the next step."""
        from .mlx import make_processors

        ids, sampling = member.history, member.request.sampling
        feed, keep = self._model.start(member)
        member.watch.prefill_done = feed.length
        if not member.prefilled:  # what it is given when it comes again is of its own making
            member.watch.reused_tokens = feed.length
        with counted(member.watch):
            self._model.prefill(ids, member.watch, feed, lambda: self._model.new_state(member.request, Watch()))
        if not member.prefilled:
            keep(feed)
        member.prefilled = True
        (uid,) = self._generator.insert(
            [ids[feed.length :]],
            max_tokens=[ENDLESS],
            caches=[feed.state],
            all_tokens=[ids[: feed.length]],
            samplers=[self._sampler(member)],
            logits_processors=[
                [*steering_processors(member.watch.steering, ids, alone=False), *make_processors(sampling, [])]
            ],
        )
        self._by_uid[uid] = member
        member.watch.prefill_done = len(ids)
        return []

    def _sampler(self, member: Member) -> Any:
        """One for all greedy rows, which mlx-lm then calls once for all of them."""
        sampling = member.request.sampling
        if sampling.temperature == 0:
            return _likeliest
        if member.draw is None:
            member.draw = Draw(sampling)
        member.draw.back_to(len(member.made))
        return member.draw

    def step(self) -> list[tuple[Member, int]]:
        """See Batch.step."""
        import mlx.core as mx

        if not self._by_uid:
            return []
        watch = Watch()
        with counted(watch):
            responses = self._generator.next_generated()
        given = [(self._by_uid[r.uid], int(r.token)) for r in responses if r.uid in self._by_uid]
        for member, _ in given:
            member.watch.attention_calls = _added(member.watch.attention_calls, watch.attention_calls)
            member.watch.peak_memory = mx.get_peak_memory()
        return given

    def leave(self, members: Sequence[Member]) -> None:
        """See Batch.leave."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        going = [uid for uid, member in self._by_uid.items() if any(member is one for one in members)]
        with mx.stream(generation_stream):
            self._generator.remove(going)
        for uid in going:
            del self._by_uid[uid]

    def nbytes(self) -> int:
        """See Batch.nbytes."""
        return int(self._generator.prompt_cache_nbytes) if self._by_uid else 0

    def after(self, tokens: int) -> int:
        """See Batch.after. Rows are as long as the longest; mlx-lm cuts them when that one leaves."""
        members = self.members
        longest = max(tokens, *(member.longest for member in members))
        return (len(members) + 1) * self._model.size(members[0].request, longest + STEP)

    def close(self) -> None:
        """See Batch.close."""
        self._by_uid = {}
        if self._generator is not None:
            self._generator.close()
        self._generator = None


def _likeliest(logprobs: Any) -> Any:
    """Token ids [rows] of log-probabilities [rows, vocabulary]."""
    import mlx.core as mx

    return mx.argmax(logprobs, axis=-1)


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {path: one.get(path, 0) + other.get(path, 0) for path in {**one, **other}}


def batchable(model: Any) -> Decision:
    """Whether mlx-lm, as it is installed, can decode rows of this model together that were prefilled alone."""
    from mlx_lm.models.cache import make_prompt_cache

    # The package has a function of the module's name, which hides the module.
    generator = getattr(importlib.import_module("mlx_lm.generate"), "BatchGenerator", None)
    missing = TAKES - set(inspect.signature(generator.insert).parameters) if generator else TAKES
    if generator is None or missing or not hasattr(generator, "next_generated"):
        return Rejected(SUBJECT, "this mlx-lm's BatchGenerator takes no rows with a cache", "pip install -U mlx-lm")
    layers = list(leaves(make_prompt_cache(model)))
    unlike = sorted({type(layer).__name__ for layer in layers if kind(layer) is None or not hasattr(layer, "merge")})
    if unlike:
        return Rejected(SUBJECT, f"mlx-lm cannot batch this model's {', '.join(unlike)}")
    return Accepted(SUBJECT, "mlx-lm's BatchGenerator")
