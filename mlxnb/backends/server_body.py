"""A Request as an OpenAI-compatible server takes it, with a note of what that kind of server cannot do."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from ..errors import OptionError
from ..request import THINK, Message, Request, Sampling
from ..tools import in_json
from .base import Watch
from .server_kinds import Kind
from .server_logprobs import logprobs_of
from .server_schema import structure_of
from .tokenizer import check_text

MOST_STOPS = 4  # OpenAI takes no more; the rest is cut here, as every one of them is
OFF = Sampling()


def body_of(request: Request, model: str, kind: Kind, watch: Watch) -> dict[str, Any]:
    """The arguments of the openai client's call; `watch` gets the seed, and a note of what was left out.

    Raises:
        OptionError: a strict request asks for what the server does not take.
        PromptError: the prompt holds half a character.
    """
    for text in (request.prompt or "", *(message.said for message in request.messages)):
        check_text(text)
    _refuse(request, kind, watch)
    sampling = _seeded(request.sampling, kind)
    watch.seed = sampling.seed
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "extra_body": _extra(request, sampling, kind),
    }
    if request.stop and kind.stops:
        body["stop"] = list(request.stop[:MOST_STOPS])
    if request.raw:
        return {**body, "prompt": request.prompt}
    if request.tools:
        body["tools"] = [tool.as_schema() for tool in request.tools]
    return {**body, "messages": [_message(message) for message in request.messages]}


def _message(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        made["tool_calls"] = [call.as_message(in_json(call.arguments)) for call in message.tool_calls]
    if message.role == "tool":
        made["tool_call_id"] = message.call_id
    return made


def _extra(request: Request, sampling: Sampling, kind: Kind) -> dict[str, Any]:
    limit = "max_tokens" if request.raw else kind.limit
    options = {theirs: getattr(sampling, ours) for ours, theirs in kind.takes.items()}
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("top_k") == 0:
        given["top_k"] = kind.no_top_k
    think = kind.think.get(str(request.think), {})
    return {
        limit: request.max_tokens,
        **given,
        **kind.also,
        **think,
        **structure_of(request, kind),
        **logprobs_of(request, kind),
    }


def _seeded(sampling: Sampling, kind: Kind) -> Sampling:
    """With a seed of its own for a random request that has none, so that its Result can be repeated."""
    if "seed" not in kind.takes:
        return replace(sampling, seed=None)
    if sampling.temperature > 0 and sampling.seed is None:
        return replace(sampling, seed=secrets.randbits(31))  # llama.cpp's seeds have 32 bits, and one stands for none
    return sampling


def _refuse(request: Request, kind: Kind, watch: Watch) -> None:
    """Note what the server cannot do.

    Raises:
        OptionError: where the request is strict.
    """
    asked = [name for name in kind.untaken if getattr(request.sampling, name) != getattr(OFF, name)]
    refused = [f"{name} {getattr(request.sampling, name):g} not used: {kind.label} takes none" for name in asked]
    if request.think is not None and str(request.think) not in kind.think:
        what = f"{kind.label} is not told whether to think" if request.think in THINK else "a server counts no thinking"
        refused.append(f"think {request.think} not used: {what}")
    if request.kv_bits is not None:
        refused.append(f"kv_bits {request.kv_bits} not used: a server keeps its KV cache as it was started")
    if request.prefill_step is not None:
        refused.append(f"prefill_step {request.prefill_step} not used: a server feeds prompts as it was started")
    if request.cache == "always":
        refused.append("cache always not used: what a server's model is cannot be told, so its answers are not kept")
    if request.logprobs is not None and not kind.logprobs:
        refused.append(f"logprobs {request.logprobs} not used: {kind.label} tells none")
    if refused and request.strict:
        raise OptionError(f"{refused[0][0].upper()}{refused[0][1:]}.", "Leave it out, strict, or take another backend.")
    watch.notes += refused
