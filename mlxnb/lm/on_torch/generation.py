"""mlx-lm's `generate` and `stream_generate` on torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...backends.tokenizer import check_text
from ...errors import OptionError
from .peak import peak_memory
from .refusals import refuse
from .speculation import speculative_generate_step
from .steps import generate_step, token_ids
from .tokenizer import TokenizerWrapper

if TYPE_CHECKING:
    import torch


@dataclass
class GenerationResponse:
    """A segment of text as it comes, with mlx-lm's fields.

    `logprobs` [vocabulary] is a torch tensor. Rates are in tokens a second, `peak_memory` in GB: of the GPU where the
    model is on one, else of this process.
    """

    text: str
    token: int
    logprobs: torch.Tensor
    from_draft: bool
    prompt_tokens: int
    prompt_tps: float
    generation_tokens: int
    generation_tps: float
    peak_memory: float
    finish_reason: str | None = None


def stream_generate(
    model: Any,
    tokenizer: Any,
    prompt: Any,
    max_tokens: int = 256,
    draft_model: Any = None,
    stream: Any = None,
    **kwargs: Any,
) -> Iterator[GenerationResponse]:
    """Yield the answer to `prompt` (text or ids) a token at a time; further options are those of `generate_step`, with
    a `draft_model` those of `speculative_generate_step`, where mlx-lm drops `max_kv_size` and the progress callback.

    Raises:
        ValueError: `max_tokens` is 0, the prompt is empty, or an option is not for torch.
    """
    if max_tokens == 0:
        raise OptionError("max_tokens is 0.", "It takes a number of tokens, or -1 for no limit.")
    wrapped = tokenizer if isinstance(tokenizer, TokenizerWrapper) else TokenizerWrapper(tokenizer)
    ids = encoded(wrapped, prompt)
    text, clock = wrapped.detokenizer, _Clock(len(ids), model)
    token, logprobs, guessed = 0, None, False
    for token, logprobs, guessed in _steps(ids, model, draft_model, stream, {**kwargs, "max_tokens": max_tokens}):
        clock.tick()
        if token in wrapped.eos_token_ids:
            break
        text.add_token(token)
        if clock.tokens == max_tokens:
            break
        yield clock.response(text.last_segment, token, logprobs, guessed)
    text.finalize()
    reason = "stop" if token in wrapped.eos_token_ids else "length"
    yield clock.response(text.last_segment, token, logprobs, guessed, reason)


def _steps(
    ids: list[int], model: Any, draft: Any, stream: Any, options: dict[str, Any]
) -> Iterator[tuple[int, torch.Tensor, bool]]:
    """(token, logprobs, whether a draft had guessed it)."""
    if draft is None:
        options.pop("num_draft_tokens", None)
        yield from ((token, logprobs, False) for token, logprobs in generate_step(ids, model, stream, **options))
        return
    for dropped in ("max_kv_size", "prompt_progress_callback"):
        options.pop(dropped, None)
    refuse(input_embeddings=options.pop("input_embeddings", None))
    yield from speculative_generate_step(ids, model, draft, stream, **options)


def encoded(tokenizer: TokenizerWrapper, prompt: Any) -> list[int]:
    """Ids of a prompt; text that begins with the BOS token does not get it a second time.

    Raises:
        PromptError: text with half a character in it, or ids that are none.
    """
    if not isinstance(prompt, str):
        return token_ids(prompt)
    check_text(prompt)
    bos = tokenizer.bos_token
    return tokenizer.encode(prompt, add_special_tokens=bos is None or not prompt.startswith(bos))


class _Clock:
    """Counts tokens and what they took: the prompt until the first token, then the answer."""

    def __init__(self, prompt_tokens: int, model: Any) -> None:
        self._prompt_tokens, self._model = prompt_tokens, model
        self._began, self._first = time.perf_counter(), 0.0
        self.tokens = 0

    def tick(self) -> None:
        """A token has come."""
        self.tokens += 1
        self._first = self._first or time.perf_counter()

    def response(
        self, text: str, token: int, logprobs: Any, from_draft: bool, reason: str | None = None
    ) -> GenerationResponse:
        """What there is to say after it."""
        return GenerationResponse(
            text=text,
            token=token,
            logprobs=logprobs,
            from_draft=from_draft,
            prompt_tokens=self._prompt_tokens,
            prompt_tps=self._prompt_tokens / (self._first - self._began),
            generation_tokens=self.tokens,
            generation_tps=self.tokens / max(time.perf_counter() - self._first, 1e-9),
            peak_memory=peak_memory(),
            finish_reason=reason,
        )


def generate(model: Any, tokenizer: Any, prompt: Any, verbose: bool = False, **kwargs: Any) -> str | None:
    """The whole answer; with `verbose` printed as it comes, with its rates, and None where it is empty.

    Raises:
        ValueError: see `stream_generate`, which takes the other options.
    """
    if verbose:
        print("=" * 10)
    text, response = "", None
    for response in stream_generate(model, tokenizer, prompt, **kwargs):
        text += response.text
        if verbose:
            print(response.text, end="", flush=True)
    if not verbose:
        return text
    print("\n" + "=" * 10)
    if not text or response is None:
        print("No text generated for this prompt")
        return None
    print(f"Prompt: {response.prompt_tokens} tokens, {response.prompt_tps:.3f} tokens-per-sec")
    print(f"Generation: {response.generation_tokens} tokens, {response.generation_tps:.3f} tokens-per-sec")
    print(f"Peak memory: {response.peak_memory:.3f} GB")
    return text
