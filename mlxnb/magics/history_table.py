"""The table of `%mlxnb history`."""

from __future__ import annotations

from pathlib import Path

from ..cache.private import secret_in
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
    beginning, adapter = _beginning(asked), asked.request.adapter
    model = model_label(asked.request.model, Path(adapter).name if adapter else "")
    return asked.number, beginning, model, asked.tokens, asked.rate, asked.finish


def _beginning(asked: Asked) -> str:
    """How a prompt begins; of one with a secret in it only that, for the table is saved with the notebook."""
    secret = secret_in(asked.prompt.encode("utf-8", "surrogatepass"))
    if secret:
        return f"(not shown: it holds {secret})"
    prompt = one_row(asked.prompt)
    return prompt if len(prompt) <= BEGINNING else f"{prompt[: BEGINNING - 1].rstrip()}…"
