"""What every backend that runs a model from a folder shares: prompt in, token loop, text out, one Chunk a token."""

from __future__ import annotations

import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..cache import Answerer, KVStates, Prefixes, prefix_namespace
from ..cache.private import secret_in
from ..decision import Accepted, Decision, Rejected
from ..errors import BackendError, OptionError, UnsupportedModelError
from ..models import Checkpoint
from ..models.fit import kv_bytes
from ..request import DTYPES, Request
from ..result import Chunk
from .base import Cancelled, ModelInfo, Watch
from .batch import SUBJECT as BATCH
from .batch import Batch, Member
from .logprobs import LogprobGuide
from .memory import release
from .reuse import Feed, Reuse
from .row import Row
from .speculative import Decoder, checked, forced
from .steering import Guide, Steering
from .structure import structure_for
from .thinking_budget import ThinkingBudget
from .tokenizer import Prompt, Tokenizer, check_context

# Tokens of a whole prefill from which its rate says something, and of any from which it says enough: below, what a
# request takes whatever its length weighs too much, so that only the longest so far counts, and no rest of a prompt.
SOME_RATE, GOOD_RATE = 32, 256
SUBJECT = "prefix cache"

# Of log-probabilities that are on this side at a time: those of 50 positions for a vocabulary of 150,000.
PIECE_BYTES = 32 << 20


class LocalModel(ABC):
    """A LoadedModel with a tokenizer of its own. A backend adds `tokens`, its decode loop, and `close`."""

    info: ModelInfo

    # Length in tokens beyond which every position is embedded differently (LongRoPE), so that the KV cache of a
    # longer sequence must be computed anew; None for every other model.
    stretches_beyond: int | None = None

    # Whether `tokens` can keep its KV cache quantised.
    quantises_cache = False

    # Whether a request can say in which pieces its prompt is fed.
    steps_prefill = False

    # What the KV cache is kept in, where that is not the dtype of the weights.
    cache_dtype = ""

    # Whether it has a `decoder`, so that it can verify what a draft says, and be one.
    drafts = False

    # What copies, cuts and stores this model's KV states; None where they cannot be used a second time.
    states: KVStates | None = None

    # Set by whoever keeps states over requests, with what `model_identity` says of the model, and of its adapter.
    prefixes: Prefixes | None = None
    identity = ""
    adapter: str | None = None

    # What the configuration says of the model, for the size of a KV state where `states` is None.
    checkpoint: Checkpoint | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._prefill_rate: float | None = None
        self._rate_of = SOME_RATE  # tokens that were prefilled for it
        self._prompt: tuple[Request, Prompt] | None = None

    @abstractmethod
    def new_state(self, request: Request, watch: Watch) -> Any:
        """A KV state without tokens, kept as the request wants it; `watch` hears how it really is."""

    @abstractmethod
    def tokens(self, ids: list[int], request: Request, limit: int, watch: Watch, feed: Feed) -> Iterator[int]:
        """Yield up to `limit` token ids for the prompt `ids`, each as soon as it is known; the caller closes early.

        Feeds what `feed` does not hold yet, pauses at its places to call `keep`, and keeps its length true.

        Of `request` it reads the sampling, whose seed is set where it matters, and how the KV cache is kept. Asks
        `watch.steering` before it draws a token, where that is set, and tells it the token. Reports prefill progress in
        `watch.prefill_done` and leaves prefill by Cancelled.
        """

    def decoder(self, feed: Feed, request: Request) -> Decoder:
        """What feeds a state several tokens at once and cuts it back, for speculative decoding where `drafts` is set.

        Raises:
            UnsupportedModelError: this backend cannot.
        """
        raise UnsupportedModelError(f"The {self.info.backend} backend has no speculative decoding.", "Leave out draft.")

    @abstractmethod
    def losses(self, ids: list[int]) -> list[float]:
        """The negative log-likelihood in nats of every token but the first, given those before it."""

    def log_probs(self, ids: list[int]) -> Iterator[Any]:
        """For every token but the last of `ids`, how likely each token is to follow it and those before it: pieces of
        log-probabilities [positions, vocabulary] in order, float32 numpy arrays of at most some PIECE_BYTES.

        Raises:
            BackendError: this backend does not tell.
        """
        raise BackendError(f"The {self.info.backend} backend does not tell how likely every token is.", "Take torch.")

    def piece(self, most: int) -> int:
        """Positions of one piece of `log_probs`, `most` at most."""
        stated = self.checkpoint.config.get("vocab_size") if self.checkpoint is not None else None
        return max(1, min(most, PIECE_BYTES // (4 * int(stated or self.tokenizer.vocabulary.size))))

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""

    def give_back(self) -> None:
        """Hand memory that nothing refers to any more back to the device and the system."""
        release()

    def prompt(self, request: Request) -> Prompt:
        """The request's prompt in tokens; the last one is remembered, for the caches ask before the generation does."""
        if self._prompt is None or self._prompt[0] is not request:
            self._prompt = request, self.tokenizer.prompt(request)
        return self._prompt[1]

    def answerer(self, watch: Watch | None = None) -> Answerer:
        """What answers here, as far as it decides an answer; with `watch`, how its KV state is really kept too."""
        info = self.info
        return Answerer(
            identity=self.identity,
            backend=info.backend,
            backend_version=info.backend_version,
            device=info.device,
            dtype=info.dtype,
            quantization=info.quantization,
            adapter=self.adapter,
            kv_bits=watch.kv_bits if watch else None,
            kv_group_size=watch.kv_group_size if watch else None,
            kernels=self.kernels(),
        )

    def kernels(self) -> str:
        """The attention in use, as far as it changes what is computed."""
        return self.info.attention

    def needed(self, request: Request, prompt_tokens: int | None = None) -> int:
        """Bytes of the KV state that a request will have at its end, as far as that can be told.

        What is reused counts too: a state is copied before it is fed. A draft model is given its prompt in tokens, so
        that it needs no chat template: `prompt_tokens` of them.
        """
        return self.size(request, self.longest(request, prompt_tokens))

    def size(self, request: Request, tokens: int) -> int:
        """Bytes of a KV state of so many tokens, kept as the request wants it, as far as that can be told."""
        if self.states is not None:
            return self.states.size(self.new_state(request, Watch()), tokens)
        return 0 if self.checkpoint is None else int(kv_bytes(self.checkpoint, tokens, DTYPES.get(self.info.dtype, 2)))

    def longest(self, request: Request, prompt_tokens: int | None = None) -> int:
        """Tokens that a request comes to at most, its prompt included."""
        prompt = len(self.prompt(request).ids) if prompt_tokens is None else prompt_tokens
        return min(prompt + request.max_tokens, self.info.context_length or sys.maxsize)

    def namespace(self, request: Request) -> str:
        """Where the prefix cache keeps the states of a request."""
        watch = Watch()
        self.new_state(request, watch)  # which tells how they are kept
        return prefix_namespace(self.answerer(watch))

    def keeps(self, request: Request) -> Decision:
        """Whether the KV state of a request may be kept, in memory, on disk or by a pin."""
        if self.stretches_beyond is not None:
            return Rejected(SUBJECT, "a state of this model (LongRoPE) depends on the length that it was made for")
        if self.states is None:
            return Rejected(SUBJECT, "the KV states of this model cannot be used a second time")
        if self.prefixes is None or not self.identity:
            return Rejected(SUBJECT, "nothing names the content of this model")
        if request.cache == "off":
            return Rejected(SUBJECT, "the request was made with the cache off", "ask with --cache auto")
        secret = secret_in(said(request))
        if secret:
            return Rejected(SUBJECT, f"the prompt holds {secret}")
        return Accepted(SUBJECT, "may be kept")

    def cuttable(self, state: Any) -> bool:
        """Whether any state of this model can be cut back to fewer tokens."""
        return True

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        """See LoadedModel.stream."""
        request, prompt = self._begin(request, watch)
        forced(self, request, watch)
        try:
            yield from self._generate(request, prompt, watch)
        except Cancelled:
            watch.finish_reason = "interrupted"

    def _begin(self, request: Request, watch: Watch) -> tuple[Request, Prompt]:
        """A request that can be answered, as far as it can, and its prompt; prefill starts now."""
        prompt = self.prompt(request)
        check_context(len(prompt.ids), self.info.context_length, request.model)
        if prompt.note:
            watch.notes.append(prompt.note)
        self._check_cache(request, watch)
        self._check_step(request, watch)
        request = checked(self, request, watch)
        guides = self.guides(request, prompt, watch)
        watch.steering = Steering(guides, len(prompt.ids)) if guides else None
        watch.begin(len(prompt.ids))
        return request, prompt

    def guides(self, request: Request, prompt: Prompt, watch: Watch) -> list[Guide]:
        """What steers the answer to a request, token by token; see Steering.

        Raises:
            OptionError: the answer cannot be kept to what is asked of it.
        """
        guides: list[Guide] = []
        if isinstance(request.think, int) and self.tokenizer.markers is not None:
            guides.append(ThinkingBudget(self.tokenizer, request.think, prompt.thinking, watch))
        structure = structure_for(self.tokenizer, request, prompt)
        if structure is not None:
            guides.append(structure)
        if request.logprobs is not None:
            likely = LogprobGuide(self.tokenizer, request.logprobs)
            watch.logprobs = likely.told
            guides.append(likely)
        return guides

    def batchable(self, request: Request) -> Decision:
        """Whether a request can be computed together with others of this model, in one batch."""
        return Rejected(BATCH, f"the {self.info.backend} backend computes one at a time")

    def new_batch(self) -> Batch:
        """An empty batch, for requests that are `batchable`."""
        raise NotImplementedError

    def member(self, request: Request, watch: Watch) -> Member:
        """A request as a batch takes it.

        Raises:
            PromptError: the prompt cannot be used.
        """
        request, prompt = self._begin(request, watch)
        limit = self._limit(request, len(prompt.ids), watch)
        row = Row(self.tokenizer, request, prompt.thinking, watch)
        return Member(_seeded(request, watch), watch, prompt.ids, row, limit)

    def start(self, member: Member) -> tuple[Feed, Callable[[Feed], None]]:
        """What a member's prefill starts from, and what to call with it once the prompt is fed: that is kept at once,
        so that the next of a batch starts from all that it has in common with this one.
        """
        fresh, ids = self.new_state(member.request, member.watch), member.ids
        reuse = self._reuse(member.request, member.watch)
        if reuse is None:
            return Feed(fresh), lambda feed: None
        feed = reuse.begin(ids, fresh, self.cuttable(fresh), lambda: self.tokenizer.turn_ends(member.request, ids))
        return feed, lambda fed: reuse.end(ids, replace(fed, state=reuse.states.copy(fed.state)))

    def _check_cache(self, request: Request, watch: Watch) -> None:
        if request.kv_bits is None or self.quantises_cache:
            return
        kept = self.cache_dtype or self.info.dtype
        refused = f"kv_bits {request.kv_bits} not used: {self.info.backend} keeps its KV cache in {kept}"
        if request.strict:
            raise OptionError(
                f"{refused[0].upper()}{refused[1:]}.", "Leave out kv_bits, strict, or take --backend mlx."
            )
        watch.notes.append(refused)

    def _check_step(self, request: Request, watch: Watch) -> None:
        watch.prefill_step = request.prefill_step if self.steps_prefill else None
        if request.prefill_step == watch.prefill_step:
            return
        whole = self.stretches_beyond is not None
        feeds = "in one piece, for LongRoPE" if whole else "in pieces of its own"
        refused = f"prefill_step {request.prefill_step} not used: {self.info.backend} feeds this model {feeds}"
        if request.strict:
            raise OptionError(f"{refused[0].upper()}{refused[1:]}.", "Leave out prefill_step, or strict.")
        watch.notes.append(refused)

    def _generate(self, request: Request, prompt: Prompt, watch: Watch) -> Iterator[Chunk]:
        limit = self._limit(request, len(prompt.ids), watch)
        row = Row(self.tokenizer, request, prompt.thinking, watch)
        tokens = self._tokens(prompt.ids, _seeded(request, watch), limit, watch)
        try:
            for token in tokens:
                chunk = row.feed(token)
                if chunk is not None:
                    yield chunk
                if row.over():
                    break
        finally:
            tokens.close()  # type: ignore[attr-defined]
        last = row.finish()
        if last is not None:
            yield last

    def _tokens(self, ids: list[int], request: Request, limit: int, watch: Watch) -> Iterator[int]:
        """`tokens`, started again with everything so far where the sequence outgrows `stretches_beyond`."""
        border = self.stretches_beyond
        room = limit if border is None or len(ids) > border else min(limit, border + 1 - len(ids))
        history = list(ids)
        for token in self._continued(ids, request, room, watch):
            history.append(token)
            yield token
        if room < limit:
            watch.prefill_done = 0
            yield from self._continued(history, _next_seed(request), limit - room, watch)

    def _continued(self, ids: list[int], request: Request, limit: int, watch: Watch) -> Iterator[int]:
        """`tokens` from the longest prefix that is kept; what it leaves is kept too, once the answer is out."""
        history = list(ids)
        feed = self.begin(ids, history, request, watch)
        watch.reused_tokens = watch.prefill_done = feed.length
        tokens = self.tokens(ids, request, limit, watch, feed)
        try:
            for token in tokens:
                history.append(token)
                yield token
        except Cancelled:
            raise  # between two pieces of the prompt: what was fed by then is whole
        except Exception:
            feed.state = None
            raise
        finally:
            tokens.close()  # type: ignore[attr-defined]
            self._saw(watch)

    def begin(self, ids: list[int], history: list[int], request: Request, watch: Watch) -> Feed:
        """A Feed for `ids` from the longest prefix that is kept. What it holds at the end of `history`, which begins
        with them and grows, is kept once the answer is out.
        """
        feed = Feed(self.new_state(request, watch))
        reuse = self._reuse(request, watch)
        if reuse is not None:
            cuttable = self.cuttable(feed.state)
            feed = reuse.begin(ids, feed.state, cuttable, lambda: self.tokenizer.turn_ends(request, ids))
            watch.afterwards.append(lambda: reuse.end(history, feed))
        return feed

    def _reuse(self, request: Request, watch: Watch) -> Reuse | None:
        if not self.keeps(request):
            secret = secret_in(said(request))
            note = f"prefix cache not used: the prompt holds {secret}"
            if secret and request.cache != "off" and note not in watch.notes:
                watch.notes.append(note)
            return None
        assert self.prefixes is not None
        assert self.states is not None
        namespace = prefix_namespace(self.answerer(watch))
        self.prefixes.stats.label(namespace, self.info.name)
        return Reuse(self.prefixes, namespace, self.states, watch.notes, lambda: self._prefill_rate)

    def _saw(self, watch: Watch) -> None:
        """Remember how fast a prompt of some length was computed, for what reuse is worth."""
        computed = watch.prompt_tokens - watch.reused_tokens
        least = GOOD_RATE if watch.reused_tokens else min(self._rate_of, GOOD_RATE)
        if watch.token_times and watch.start is not None and computed >= least:
            self._rate_of = computed
            self._prefill_rate = computed / (watch.token_times[0] - watch.start)

    def _limit(self, request: Request, prompt_tokens: int, watch: Watch) -> int:
        context = self.info.context_length
        if context is None or prompt_tokens + request.max_tokens <= context:
            return request.max_tokens
        room = context - prompt_tokens
        watch.notes.append(f"max_tokens {request.max_tokens} lowered to {room}: the context holds {context} tokens")
        return room


def _seeded(request: Request, watch: Watch) -> Request:
    """Give an unseeded random request a seed of its own, so that its Result can be repeated."""
    sampling = request.sampling
    if sampling.temperature > 0 and sampling.seed is None:
        sampling = replace(sampling, seed=secrets.randbits(32))
    watch.seed = sampling.seed
    return replace(request, sampling=sampling)


def said(request: Request) -> bytes:
    """All that a person said in a request, in UTF-8."""
    said = "\n".join([request.prompt or "", *(message.said for message in request.messages)])
    return said.encode("utf-8", "surrogatepass")


def _next_seed(request: Request) -> Request:
    seed = request.sampling.seed
    return request if seed is None else replace(request, sampling=replace(request.sampling, seed=seed + 1))
