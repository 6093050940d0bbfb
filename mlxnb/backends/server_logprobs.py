"""Log-probabilities as servers are asked for them, and as they tell them, in either of OpenAI's two forms.

Which kinds tell them, by documentation or source of November 2026 (see server_kinds): OpenAI up to 20 beside each token
and 5 of a plain completion, vLLM 20 as it is started, llama-server, Ollama since 0.12.11. LM Studio ignores the option,
llama-cpp-python fails unless it was started to keep all logits, and mlx_lm.server streams ids without their form.
"""

from __future__ import annotations

import math
from typing import Any

from ..request import Request
from ..result import TokenLogprob
from .server_kinds import Kind

# Beside each token of OpenAI's plain completions.
OF_COMPLETIONS = 5


def logprobs_of(request: Request, kind: Kind) -> dict[str, Any]:
    """What goes into the body of a request that asks for them; nothing where the server tells none."""
    if request.logprobs is None or not kind.logprobs:
        return {}
    if request.raw:
        most = OF_COMPLETIONS if kind.label == "OpenAI" else request.logprobs
        return {"logprobs": min(request.logprobs, most)}
    return {"logprobs": True, "top_logprobs": request.logprobs}


def told(choice: dict[str, Any]) -> list[TokenLogprob]:
    """The tokens that a choice of an event tells of; what is not in one of the two forms is left out."""
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return []
    if isinstance(found.get("content"), list):
        return [entry for each in found["content"] if (entry := _entry(each)) is not None]
    tokens, logprobs, top = (found.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        return []
    tops = top if isinstance(top, list) else [None] * len(tokens)
    return [
        TokenLogprob(None, token, float(logprob), _mapped(beside))
        for token, logprob, beside in zip(tokens, logprobs, [*tops, *[None] * len(tokens)], strict=False)
        if isinstance(token, str) and _is_number(logprob)
    ]


def _entry(value: Any) -> TokenLogprob | None:
    if not isinstance(value, dict) or not isinstance(value.get("token"), str) or not _is_number(value.get("logprob")):
        return None
    top = value.get("top_logprobs")
    told = top if isinstance(top, list) else []
    beside = [_entry({**each, "top_logprobs": None}) for each in told if isinstance(each, dict)]
    return TokenLogprob(None, value["token"], float(value["logprob"]), tuple(each for each in beside if each))


def _mapped(beside: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(beside, dict):
        return ()
    found = [TokenLogprob(None, str(text), float(value)) for text, value in beside.items() if _is_number(value)]
    return tuple(sorted(found, key=lambda each: -each.logprob))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
