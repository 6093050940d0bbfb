"""The table of `%mlxnb history`."""

from __future__ import annotations

from pathlib import Path

from ..render import Table
from ..render.footer import model_label
from ..render.text import one_row
from .history import Asked, History

BEGINNING = 60  # characters of a prompt


def history_table(history: History) -> Table:
    """What was asked in this kernel, the newest first."""
    rows = [_row(asked) for asked in reversed(list(history))]
    if not rows:
        return Table(["asked"], [["nothing in this kernel yet"]])
    columns = ("number", "prompt", "model", ("answer", "tokens"), ("decode", "tok/s"), "finish")
    return Table(columns, rows, caption="Asked in this kernel; %generate --last N asks again")


def _row(asked: Asked) -> tuple[int, str, str, int | None, float | None, str]:
    prompt, adapter = one_row(asked.prompt), asked.request.adapter
    beginning = prompt if len(prompt) <= BEGINNING else f"{prompt[: BEGINNING - 1].rstrip()}…"
    model = model_label(asked.request.model) + (f" + {one_row(Path(adapter).name)}" if adapter else "")
    return asked.number, beginning, model, asked.tokens, asked.rate, asked.finish
