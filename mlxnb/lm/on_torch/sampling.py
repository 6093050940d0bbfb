"""mlx-lm's samplers and logits processors over torch tensors: logprobs [B, vocabulary] in, tokens [B] out.

Filters come in mlx-lm's order (top_p, min_p, XTC, top_k) and temperature last. Random numbers are torch's: seed them by
`torch.manual_seed`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...backends.torch_sampling import filtered, penalise
from ...errors import OptionError
from ...request import Sampling

if TYPE_CHECKING:
    import torch

Sampler = Callable[["torch.Tensor"], "torch.Tensor"]
LogitsProcessor = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def make_sampler(
    temp: float = 0.0,
    top_p: float = 0.0,
    min_p: float = 0.0,
    min_tokens_to_keep: int = 1,
    top_k: int = 0,
    xtc_probability: float = 0.0,
    xtc_threshold: float = 0.1,
    xtc_special_tokens: list[int] | None = None,
) -> Sampler:
    """A function from logprobs to tokens: the likeliest where `temp` is 0, else drawn from what the filters leave.

    A value that a filter does not take raises its ValueError when the sampler is first used, as in mlx-lm.
    """
    if temp == 0:
        return lambda logprobs: logprobs.argmax(dim=-1)
    filters: list[Callable[[torch.Tensor], torch.Tensor]] = []
    if 0 < top_p < 1:
        filters.append(lambda x: filtered(x, Sampling(top_p=top_p)))
    if min_p != 0:
        filters.append(lambda x: _min_p(x, min_p, min_tokens_to_keep))
    if xtc_probability > 0:
        filters.append(lambda x: _xtc(x, xtc_probability, xtc_threshold, xtc_special_tokens or []))
    if top_k > 0:
        filters.append(lambda x: _top_k(x, top_k))

    def sampler(logprobs: torch.Tensor) -> torch.Tensor:
        import torch

        for keep in filters:
            logprobs = keep(logprobs)
        probabilities = torch.softmax(logprobs.float() / temp, dim=-1)
        return torch.multinomial(probabilities, 1).squeeze(-1)

    return sampler


def make_logits_processors(
    logit_bias: dict[int, float] | None = None,
    repetition_penalty: float | None = None,
    repetition_context_size: int | None = 20,
    presence_penalty: float | None = None,
    presence_context_size: int | None = 20,
    frequency_penalty: float | None = None,
    frequency_context_size: int | None = 20,
) -> list[LogitsProcessor]:
    """Functions of (tokens so far, logits [1, vocabulary]) to logits, for the options that are given and not 0.

    Raises:
        ValueError: a repetition penalty below 0, or a bias that is none of a token.
    """
    processors: list[LogitsProcessor] = []
    if logit_bias:
        processors.append(_bias(logit_bias))
    made: tuple[tuple[Callable[..., LogitsProcessor], float | None, int | None], ...] = (
        (_repetition, repetition_penalty, repetition_context_size),
        (_presence, presence_penalty, presence_context_size),
        (_frequency, frequency_penalty, frequency_context_size),
    )
    processors += [make(penalty, size) for make, penalty, size in made if penalty]
    return processors


def _min_p(logprobs: torch.Tensor, min_p: float, least: int) -> torch.Tensor:
    """Drop what is less likely than `min_p` times the likeliest, `least` tokens excepted."""
    if not 0 <= min_p <= 1:
        raise OptionError(f"min_p is {min_p}.", "It takes a number from 0 to 1.")
    if not isinstance(least, int) or least < 1:
        raise OptionError(f"min_tokens_to_keep is {least}.", "It takes a whole number of at least 1.")
    dropped = logprobs < logprobs.amax(dim=-1, keepdim=True) + math.log(min_p)
    if least > 1:
        dropped = dropped.scatter(-1, logprobs.topk(least, dim=-1).indices, False)
    return logprobs.masked_fill(dropped, -math.inf)


def _top_k(logprobs: torch.Tensor, top_k: int) -> torch.Tensor:
    vocabulary = logprobs.shape[-1]
    if not isinstance(top_k, int) or not 0 < top_k < vocabulary:
        raise OptionError(f"top_k is {top_k}.", f"It takes a whole number from 1 to {vocabulary - 1}.")
    dropped = logprobs.topk(vocabulary - top_k, largest=False).indices
    return logprobs.scatter(-1, dropped, -math.inf)


def _xtc(logprobs: torch.Tensor, probability: float, threshold: float, special: list[int]) -> torch.Tensor:
    """With `probability` drop every token above `threshold` but the least likely of them; `special` ones stay.

    Source: "Exclude Top Choices", oobabooga/text-generation-webui pull request 6335.
    """
    import torch

    if not 0 <= threshold <= 0.5:
        raise OptionError(f"xtc_threshold is {threshold}.", "It takes a number from 0 to 0.5.")
    if not 0 <= probability <= 1:
        raise OptionError(f"xtc_probability is {probability}.", "It takes a number from 0 to 1.")
    if float(torch.rand(())) > probability:
        return logprobs
    likely = logprobs.softmax(dim=-1)
    least = likely.masked_fill(likely <= threshold, math.inf).amin(dim=-1, keepdim=True)
    dropped = likely > least
    if special:
        dropped[..., special] = False
    return logprobs.masked_fill(dropped, -math.inf)


def _bias(logit_bias: dict[int, float]) -> LogitsProcessor:
    import torch

    said = _checked(logit_bias)
    ids, values = torch.tensor(list(said), dtype=torch.long), torch.tensor(list(said.values()), dtype=torch.float32)
    most = max(said)

    def process(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        if most >= logits.shape[-1]:
            raise OptionError(f"logit_bias has the token {most}.", f"The model has {logits.shape[-1]} tokens.")
        return logits.index_add(-1, ids.to(logits.device), values.to(logits)[None])

    return process


def _checked(logit_bias: Any) -> dict[int, float]:
    """Tokens with what is added to the logit of each; infinite is a word of its own, and no number is none."""
    if not isinstance(logit_bias, Mapping):
        raise OptionError(f"logit_bias is {repr(logit_bias)[:40]}.", "It takes a mapping of tokens to numbers.")
    said: dict[int, float] = {}
    for token, value in logit_bias.items():
        try:
            number, added = operator.index(token), float(value)
        except (TypeError, ValueError, OverflowError):
            number, added = -1, math.nan
        if number < 0 or math.isnan(added):
            given = f"{repr(token)[:40]}: {repr(value)[:40]}"
            raise OptionError(f"logit_bias has {given}.", "It takes a token's id, from 0 on, and a number for each.")
        said[number] = added
    return said


def _repetition(penalty: float, size: int) -> LogitsProcessor:
    if penalty < 0:
        raise OptionError(f"repetition_penalty is {penalty}.", "It takes a number of at least 0.")
    return lambda tokens, logits: penalise(logits, tokens[-size:].tolist(), penalty) if len(tokens) else logits


def _presence(penalty: float, size: int) -> LogitsProcessor:
    """Subtract `penalty` once from every token that came among the last `size`."""

    def process(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        recent = tokens[-size:][None].to(logits.device)
        return logits.scatter(-1, recent, logits.gather(-1, recent) - penalty)

    return process


def _frequency(penalty: float, size: int) -> LogitsProcessor:
    """Subtract `penalty` from a token as often as it came among the last `size`."""

    def process(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        recent = tokens[-size:].to(logits.device)
        return logits.index_add(-1, recent, logits.new_full((1, len(recent)), -penalty))

    return process
