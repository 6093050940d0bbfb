"""A finished Result as a mime bundle: the answer in one of five formats, thinking folded, the footer under a rule."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from . import style
from .footer import footed, footer_html, footer_text, thought_text
from .formats import FORMATS, Body, known
from .markdown import to_html
from .math import LEFT_ALONE

if TYPE_CHECKING:
    from ..result import Result


def mimebundle(result: Result, format: str = "markdown") -> dict[str, str]:
    """text/html and text/plain for `result`, its text shown as `format`: markdown, text, code, json or html.

    Raises:
        ValueError: another format.
    """
    body = FORMATS[known(format)](result.text)
    return {
        "text/plain": footed(body.text, thought_text(result), footer_text(result)),
        "text/html": whole(body, thought(result), "<hr>" + footer_html(result)),
    }


def whole(body: Body, thought: str, footer: str, live: bool = False) -> str:
    """The page of an answer, its thinking and its footer; live and finished outputs share it, so neither jumps."""
    answer = f'<div class="mlxnb-answer {LEFT_ALONE}" dir="auto">{body.html}</div>' if body.html else ""
    css = style.ANSWER + style.FOOTER + (style.LIVE if live else "")
    if 'class="highlight"' in body.html + thought:
        css += style.CODE
    return style.page(answer, thought, footer, css=css, kind="mlxnb-live" if live else "mlxnb-done")


def thought(result: Result) -> str:
    """The folded thinking, or nothing."""
    label = thought_text(result)
    if not label:
        return ""
    inner = f'<div class="{LEFT_ALONE}" dir="auto">{to_html(result.thinking)}</div>'
    return f'<details class="mlxnb-thought"><summary>{html.escape(label)}</summary>{inner}</details>'
