"""A finished Result as a mime bundle: the answer in a format, thinking folded, the footer under a rule."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from . import style
from .footer import footed, footer_html, footer_text, thought_text
from .formats import FORMATS, Body, known
from .logprobs import CSS as TOKENS
from .logprobs import tokens_body, unknown_body
from .markdown import to_html
from .math import LEFT_ALONE

if TYPE_CHECKING:
    from ..result import Result


def mimebundle(result: Result, format: str = "markdown") -> dict[str, str]:
    """text/html and text/plain for `result`, its text shown as `format`: markdown, text, code, json, html or logprobs.

    Raises:
        ValueError: another format.
    """
    body, thinking = shown_as(result, format)
    return {
        "text/plain": footed(body.text, thinking.text, footer_text(result)),
        "text/html": whole(body, thinking.html, "<hr>" + footer_html(result)),
    }


def shown_as(result: Result, format: str) -> tuple[Body, Body]:
    """The answer and what is said of its thinking.

    Raises:
        ValueError: no such format.
    """
    body = FORMATS[known(format)](result.text)
    if format == "logprobs" and result.logprobs is not None:
        return tokens_body(result.logprobs), Body("", "")  # which have the thinking among them
    body = unknown_body(result.text) if format == "logprobs" else body
    return body, Body(thought(result), thought_text(result))


def whole(body: Body, thought: str, footer: str, live: bool = False) -> str:
    """The page of an answer, its thinking and its footer; live and finished outputs share it, so neither jumps."""
    parts = answer_html(body), thought, footer
    css = sheet(*parts) + (style.LIVE if live else "")
    return style.page(*parts, css=css, kind="mlxnb-live" if live else "mlxnb-done")


def answer_html(body: Body) -> str:
    """The answer itself, in its element."""
    return f'<div class="mlxnb-answer {LEFT_ALONE}" dir="auto">{body.html}</div>' if body.html else ""


def sheet(*parts: str) -> str:
    """The style sheets that answers need."""
    page = "".join(parts)
    css = style.ANSWER + style.FOOTER
    if 'class="highlight"' in page:
        css += style.CODE
    if 'class="mlxnb-tokens"' in page:
        css += TOKENS
    return css


def thought(result: Result) -> str:
    """The folded thinking, or nothing."""
    label = thought_text(result)
    if not label:
        return ""
    inner = f'<div class="{LEFT_ALONE}" dir="auto">{to_html(result.thinking)}</div>'
    return f'<details class="mlxnb-thought"><summary>{html.escape(label)}</summary>{inner}</details>'
