"""What the engine gives back: Chunks while it generates, then one Result with its timings and provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from .decision import Rejected
from .errors import GenerationError
from .request import Sampling
from .tools import ToolCall

FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One generated token and the text it completed.

    `text` is empty while a character or a possible stop string is still incomplete; the text comes with a later
    chunk. `thinking` is text inside a thinking block, which is no part of the answer. `token` is None for a last
    chunk that only brings held-back text. `time` is on the monotonic clock of `time.perf_counter`, in seconds.
    """

    text: str
    token: int | None
    time: float
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Timings:
    """When things happened, on the engine's monotonic clock; every derived figure follows METRICS definitions.

    `accepted` (t0), `start` of prefill (after queueing and loading), `token_times` t1 … tn of each generated token;
    all in seconds. `load_time` is the part of the wait that went into loading the model. A server sends pieces of text:
    then `token_times` are their arrivals, and `counted` is n as the server counted it.
    """

    accepted: float
    start: float
    token_times: tuple[float, ...]
    prompt_tokens: int
    reused_tokens: int = 0
    load_time: float = 0.0
    thinking_tokens: int = 0
    first_visible: float | None = None
    counted: int | None = None

    @property
    def queue_time(self) -> float:
        """Seconds from acceptance to the start of prefill, loading left out; with those of backends that failed."""
        return self.start - self.accepted - self.load_time

    @property
    def ttft(self) -> float | None:
        """Time to first token in seconds, t1 − t0: queueing and loading included."""
        return self.token_times[0] - self.accepted if self.token_times else None

    @property
    def thinking_time(self) -> float | None:
        """Seconds from the first token to the first visible one, where the model thought; to the last where none is."""
        if not self.token_times or not self.thinking_tokens:
            return None
        end = self.first_visible if self.first_visible is not None else self.token_times[-1]
        return end - self.token_times[0]

    @property
    def tpot(self) -> float | None:
        """Time per output token in seconds, (tn − t1) / (n − 1); None for fewer than two tokens."""
        if len(self.token_times) < 2:
            return None
        n = len(self.token_times) if self.counted is None else self.counted
        return (self.token_times[-1] - self.token_times[0]) / (n - 1) if n > 1 else None

    @property
    def itl(self) -> tuple[float, ...]:
        """The n − 1 gaps between tokens, in seconds."""
        return tuple(b - a for a, b in pairwise(self.token_times))

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens really computed per second of prefill; reused tokens are not credited. None where nobody
        counted the prompt, as a server need not.
        """
        if not self.token_times or self.token_times[0] <= self.start or not self.prompt_tokens:
            return None
        return (self.prompt_tokens - self.reused_tokens) / (self.token_times[0] - self.start)

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second after the first, 1 / TPOT."""
        return 1 / self.tpot if self.tpot else None

    @property
    def total(self) -> float | None:
        """End to end in seconds, tn − t0."""
        return self.token_times[-1] - self.accepted if self.token_times else None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer came from: enough to repeat it, and to know which path produced it.

    `sampling.seed` is the seed really used, also when the request left it open. `passed_over` holds the paths that
    come before this one and were refused, with reasons; an Absent one was merely not installed. `attention_calls`
    counts the attention calls by path while kernels are patched in. `kv_bits` is what the KV cache was really quantised
    to. `schema` is what the answer was kept to, as text: the JSON schema, the regular expression or the choices.
    `notes` is whatever else a reader should know. `adapter` names the LoRA adapter on top of the model, if any.
    """

    model: str
    source: str
    revision: str | None
    backend: str
    backend_version: str
    device: str
    dtype: str
    quantization: str | None
    sampling: Sampling
    max_tokens: int
    stop: tuple[str, ...]
    prompt_tokens: int
    reused_tokens: int
    context_length: int | None
    attention: str
    attention_calls: tuple[tuple[str, int], ...] = ()
    kv_bits: int | None = None
    kv_group_size: int | None = None
    passed_over: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    schema: str | None = None
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Speculation:
    """How speculative decoding went: `draft` is the model that guessed, or `lookup`; or `schema`, where it is the
    tokens that a schema left no choice of.

    `steps` are the forward passes of the model after the prompt's, `proposed` the guessed tokens that they verified
    (those that a stop left unseen do not count), `accepted` the ones among them that the model drew too. `positions`
    holds both numbers for each place in a proposal, `tokens` are those that the steps gave.
    """

    draft: str
    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    positions: tuple[tuple[int, int], ...] = ()
    tokens: int = 0

    def step(self) -> Speculation:
        """It, after one more forward pass."""
        return replace(self, steps=self.steps + 1)

    def verified(self, position: int, accepted: bool) -> Speculation:
        """It, after one more guess was verified, at a place in its proposal that counts from 0."""
        held = [*self.positions, *[(0, 0)] * (position + 1 - len(self.positions))]
        held[position] = held[position][0] + 1, held[position][1] + accepted
        proposed, right = self.proposed + 1, self.accepted + accepted
        return replace(self, proposed=proposed, accepted=right, positions=tuple(held))

    def drawn(self) -> Speculation:
        """It, after one more token was drawn."""
        return replace(self, tokens=self.tokens + 1)

    @property
    def acceptance(self) -> float | None:
        """Accepted per proposed token; None where nothing was proposed."""
        return self.accepted / self.proposed if self.proposed else None

    @property
    def tokens_per_step(self) -> float | None:
        """Tokens that a forward pass gave, tokens / steps; None without a step. Plain decoding has 1."""
        return self.tokens / self.steps if self.steps else None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was where it was drawn: `logprob` is the natural logarithm of its probability in the model's
    own distribution, the log-softmax of its logits before temperature, penalty, filters and a schema's mask.

    `text` is what the token adds to the text: empty for a part of a character that a later token completes. `top` are
    the likeliest tokens there, the likeliest first; the token itself may be among them. A server tells texts, and no
    ids.
    """

    token: int | None
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def probability(self) -> float:
        """From 0 to 1."""
        return math.exp(min(0.0, self.logprob))


@dataclass(frozen=True, slots=True)
class Result:
    """One finished generation. `text` is the answer without thinking; `tokens` every generated token id except the
    one that ended the turn; `peak_memory` the allocator's peak in bytes during the request, where it counts one. A
    `cached` answer was generated earlier, in the time that `original` tells; `timings` are those of finding it again.
    `speculation` is None where every token was decoded by itself. `value` is what `parsed` gives, and None where that
    raises. `logprobs`, where the request asks for them, has an entry for each of `tokens`, thinking included; of a
    server, which sends no ids, one for each token that it told of. None where none are told.

    `tool_calls` are those that the model asked for, and of a conversation all on the way to the answer, each with what
    came back. `before` are the generations that it took before its own: rounds of tools, a summary of earlier turns;
    no figure here counts them. `left_out` is how many of the conversation's oldest turns the model was not given.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason
    timings: Timings
    provenance: Provenance
    thinking: str = ""
    peak_memory: int | None = None
    cached: bool = False
    original: Timings | None = None
    speculation: Speculation | None = None
    value: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    before: tuple[Result, ...] = ()
    left_out: int = 0
    logprobs: tuple[TokenLogprob, ...] | None = None

    @property
    def parsed(self) -> Any:
        """What an answer that was asked for with a schema says: an instance of the model or dataclass, a value of JSON,
        the choice, or the text that matched. None where there was no schema.

        Raises:
            GenerationError: the answer was cut at its token limit, or interrupted, so that it says nothing whole.
        """
        if self.provenance.schema is None or self.finish_reason == "stop":
            return self.value
        limit = f"cut at its {self.generation_tokens} tokens"
        what = limit if self.finish_reason == "length" else "interrupted"
        raise GenerationError(
            f"The answer was {what} before it was all that its schema asks for: there is nothing to parse.",
            "Ask with a larger max_tokens, or bound its lists and strings: maxItems, maxLength.",
            self,
        )

    @property
    def generation_tokens(self) -> int:
        """How many tokens were generated: those of `tokens`, or as many as a server counted."""
        return len(self.tokens) if self.timings.counted is None else self.timings.counted

    def __str__(self) -> str:
        return self.text
