"""What a step or a prompt of a profiled model needs, in bytes and operations, at a length of context."""

from __future__ import annotations

from typing import Protocol

from ..report import Window


class Figures(Protocol):
    """What Costs and Profiled have in common."""

    @property
    def weights_read(self) -> float | None: ...
    @property
    def kv_read(self) -> float | None: ...
    @property
    def flops(self) -> float | None: ...
    @property
    def flops_context(self) -> float | None: ...
    @property
    def windows(self) -> tuple[Window, ...]: ...
    @property
    def state_read(self) -> float: ...
    @property
    def flops_head(self) -> float: ...
    @property
    def weights_prefill(self) -> float | None: ...


def step_bytes(model: Figures, context: float, rows: int = 1) -> float | None:
    """Bytes that a decode step of `rows` sequences reads, each with `context` tokens of context: the weights once, the
    keys and values of each. None where the backend does not tell.
    """
    if model.weights_read is None or model.kv_read is None:
        return None
    return model.weights_read + rows * (kv_bytes(model, context) or 0.0)


def kv_bytes(model: Figures, context: float) -> float | None:
    """Bytes of keys, values and recurrent states that a step reads at `context` tokens; windows end at their length."""
    if model.kv_read is None:
        return None
    windowed = sum(window.kv_read * min(context, window.tokens) for window in model.windows)
    return model.kv_read * context + windowed + model.state_read


def step_flops(model: Figures, context: float, rows: int = 1) -> float | None:
    """Operations of a decode step of `rows` sequences with `context` tokens each; None where that is not told."""
    if model.flops is None or model.flops_context is None:
        return None
    windowed = sum(window.flops * min(context, window.tokens) for window in model.windows)
    return rows * (model.flops + model.flops_context * context + windowed)


def prompt_flops(model: Figures, tokens: int, reused: int = 0) -> float | None:
    """Operations of a prefill of `tokens` tokens, of which the first `reused` are there already; None where that is
    not told. A token attends to itself and those before it; the head works for the last one only.
    """
    if model.flops is None or model.flops_context is None:
        return None
    new = tokens - reused
    attended = _sum_to(tokens) - _sum_to(reused)
    windowed = sum(each.flops * (_seen(tokens, each.tokens) - _seen(reused, each.tokens)) for each in model.windows)
    heads = model.flops_head * (new - 1)
    return new * model.flops - heads + model.flops_context * attended + windowed


def prompt_bytes(model: Figures, tokens: int) -> float | None:
    """Bytes that a prefill cannot do without: every weight once, experts that any token may go to among them, and the
    keys and values of all tokens once. One in pieces reads the weights with each piece. None where that is not told.
    """
    weights = model.weights_read if tokens <= 1 or model.weights_prefill is None else model.weights_prefill
    kept = kv_bytes(model, tokens)
    return None if weights is None or kept is None else weights + kept


def _sum_to(n: float) -> float:
    """1 + 2 + … + n."""
    return n * (n + 1) / 2


def _seen(n: int, window: int) -> float:
    """Tokens that the first n attend to together, each to at most `window`."""
    return _sum_to(n) if n <= window else _sum_to(window) + (n - window) * window
