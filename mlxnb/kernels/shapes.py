"""Which attention calls a model makes, seen by running a few tokens through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..decision import Accepted, Rejected
from . import stock
from .config import AttentionConfig
from .device import device
from .dispatch import Choice, Line
from .patch import patch_mlx_lm
from .paths import PATHS, STOCK

PROMPT = 16  # tokens; enough to tell a piece of a prompt from a decode step


class _Onlooker:
    """A Tuner that takes the stock path wherever that computes the shape, and else one that does."""

    def __init__(self) -> None:
        self.device = device()

    def known(self, config: AttentionConfig) -> Choice:
        if stock.takes(config, self.device):
            return Choice(STOCK, Rejected("optimised attention", "only looked at"))
        path = next(path for path in PATHS if path.takes(config, self.device))
        return Choice(path, Accepted(path.name, "only looked at"))

    measure = known

    def stamp(self) -> str:
        """See Tuner.stamp: how it chooses never changes."""
        return "only looked at"


def layers_of(model: Any, make_cache: Callable[[], list[Any]]) -> list[Line]:
    """One Line for each distinct attention call of a short prompt and of one decode step, with the layers' number."""
    import mlx.core as mx

    with patch_mlx_lm(tuner=_Onlooker()) as dispatcher:
        cache = make_cache()
        mx.eval(model(mx.zeros((1, PROMPT), mx.int32), cache=cache))
        mx.eval(model(mx.zeros((1, 1), mx.int32), cache=cache))
        return dispatcher.lines()


def at_lengths(lines: Iterable[Line], lengths: Sequence[int], prefill_step: int) -> list[AttentionConfig]:
    """The shapes of those calls at longer contexts: a decode step, and a prompt's last piece, each once."""
    found: dict[AttentionConfig, None] = {}
    for line in lines:
        for length in lengths:
            queries = 1 if line.config.query_len == 1 else min(prefill_step, length)
            found[replace(line.config, query_len=queries, kv_len=length)] = None
    return list(found)
