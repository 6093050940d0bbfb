"""The steps on the way to an answer: a tool's call, what came back, and the summary that stands for earlier turns."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from . import style
from .footer import footer_text
from .markdown import to_html
from .math import LEFT_ALONE
from .text import one_row, plain

if TYPE_CHECKING:
    from ..result import Result
    from ..tools import ToolCall

CALL, ANSWER = 300, 120  # characters of a call and of its answer that go on a line
LONGEST = 20_000  # characters of an answer that are shown at all


def calling_bundle(call: ToolCall) -> dict[str, str]:
    """A call that is being run."""
    words = f"running {_cut(one_row(call.written()), CALL)}"
    page = style.page(f'<div class="mlxnb-thinking {LEFT_ALONE}">{html.escape(words)}</div>', css=style.FOOTER)
    return {"text/plain": words, "text/html": page}


def called_bundle(call: ToolCall) -> dict[str, str]:
    """A call with what came back; all of it when unfolded."""
    written, answer = _cut(one_row(call.written()), CALL), _cut(one_row(call.answer), ANSWER)
    shown = html.escape(answer)
    if call.output is None:
        shown = f'<span class="mlxnb-warn">{shown}</span>'
    whole = html.escape(_cut(plain(call.answer), LONGEST))
    folded = _folded(f"{html.escape(written)} → {shown}", f"<pre>{whole}</pre>")
    return {"text/plain": f"{written} → {answer}", "text/html": folded}


def summary_bundle(result: Result, turns: int) -> dict[str, str]:
    """What the model made of its conversation's oldest turns, and what that took."""
    oldest = "turn" if turns == 1 else f"{turns} turns"
    title = f"The oldest {oldest} summarised by the model"
    figures = f'<div class="mlxnb-footer">{html.escape(footer_text(result))}</div>'
    folded = _folded(html.escape(title), to_html(result.text) + figures)
    return {"text/plain": f"{title}: {one_row(result.text)}\n{footer_text(result)}", "text/html": folded}


def _folded(summary: str, body: str) -> str:
    inner = f'<div class="{LEFT_ALONE}" dir="auto">{body}</div>'
    fold = f'<details class="mlxnb-thought"><summary class="{LEFT_ALONE}">{summary}</summary>{inner}</details>'
    return style.page(fold, css=style.ANSWER + style.FOOTER)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
