"""Several answers in one output: samples under one another, or arms of a comparison side by side."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import MlxnbError
from ..result import Result
from . import style
from .differences import Difference, differences
from .footer import footer_html, footer_text
from .formats import Body, indented
from .math import LEFT_ALONE
from .numbers import MISSING, THIN, plural
from .result import answer_html, sheet, shown_as
from .text import RULE, one_row, plain

if TYPE_CHECKING:
    # What became of one of them: its answer, or why there is none.
    Answer = Result | MlxnbError

# Two columns need 2 × 340 px and a gap of 24, so that everything stacks below 704 px.
CSS = """
.mlxnb .mlxnb-heading{font-weight:600;margin:0 0 4px;overflow-wrap:anywhere}
.mlxnb .mlxnb-one{margin:0 0 16px;padding:0 0 0 12px;border-left:2px solid var(--border)}
.mlxnb .mlxnb-side{display:grid;gap:16px 24px;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr))}
.mlxnb .mlxnb-side>.mlxnb-one{margin:0;min-width:0;padding:0;border:0}
.mlxnb .mlxnb-one>.mlxnb-footer{margin:4px 0 0}
.mlxnb .mlxnb-one>.mlxnb-footer span{white-space:normal}
.mlxnb .mlxnb-bad{color:var(--error);white-space:pre-wrap;overflow-wrap:anywhere}
.mlxnb .mlxnb-one pre>ins{color:var(--success);text-decoration:underline;text-underline-offset:3px}
.mlxnb .mlxnb-one pre>del{color:var(--error);text-decoration:line-through}
"""


def samples_bundle(answers: Sequence[Answer], format: str = "markdown") -> dict[str, str]:
    """text/html and text/plain for samples of one prompt, numbered, under one another."""
    names = [f"{i} of {len(answers)}{_seed(answer)}" for i, answer in enumerate(answers, 1)]
    shown = [_one(name, answer, format) for name, answer in zip(names, answers, strict=True)]
    return _bundle(shown, _alike(answers), "mlxnb-under")


def comparison_bundle(
    names: Sequence[str], answers: Sequence[Answer], format: str | None = None, marked_as: str = "text"
) -> dict[str, str]:
    """text/html and text/plain for the arms of a comparison, side by side where there is room.

    Without a `format` they are shown as text, or indented JSON where they are `marked_as` "json", and what differs from
    the first answer is marked.
    """
    first = next((answer for answer in answers if isinstance(answer, Result)), None)
    shown = []
    for name, answer in zip(names, answers, strict=True):
        marked = format is None and isinstance(answer, Result) and first is not None and answer is not first
        if marked and isinstance(answer, Result) and first is not None:
            found = differences(*(_as_marked(one.text, marked_as) for one in (first, answer)))
            shown.append(_result(name, answer, _marked(found), _words(found)))
        else:
            shown.append(_one(name, answer, format or marked_as))
    return _bundle(shown, "", "mlxnb-side")


def differences_part(first: Result, second: Result) -> str:
    """How far the second answer is the first, with what differs folded below; a part of a page that has CSS and the
    answers themselves.
    """
    found = differences(plain(first.text), plain(second.text))
    words = html.escape(f"The second answer: {_words(found)}")
    if all(kind == "same" for kind, _ in found.parts):
        return f'<div class="mlxnb-footer">{words}</div>'
    marked = answer_html(_marked(found))
    return f'<details class="mlxnb-thought mlxnb-one"><summary>{words}</summary>{marked}</details>'


def _as_marked(text: str, kind: str) -> str:
    try:
        return indented(plain(text)) if kind == "json" else plain(text)
    except (ValueError, RecursionError):
        return plain(text)


def _bundle(shown: Sequence[Body], end: str, kind: str) -> dict[str, str]:
    parts = "".join(one.html for one in shown)
    last = f'<div class="mlxnb-footer">{html.escape(end)}</div>' if end else ""
    page = style.page(f'<div class="{kind}">{parts}</div>', last, css=sheet(parts) + CSS, kind="mlxnb-done")
    text = f"\n\n{RULE}\n".join(one.text for one in shown)
    return {"text/plain": f"{text}\n\n{end}" if end else text, "text/html": page}


def _one(name: str, answer: Answer, format: str) -> Body:
    if isinstance(answer, Result):
        body, thinking = shown_as(answer, format)
        return _result(name, answer, body, "", thinking)
    partial = getattr(answer, "partial", None)
    said = plain(str(answer))
    failed = Body(f'<div class="mlxnb-bad">✗ {html.escape(said)}</div>', f"✗ {said}")
    if not isinstance(partial, Result):
        return _section(name, failed)
    so_far = shown_as(partial, "text")[0]
    return _section(name, Body(answer_html(so_far) + failed.html, f"{so_far.text}\n{failed.text}"))


def _result(name: str, result: Result, body: Body, said: str, thinking: Body | None = None) -> Body:
    thinking = thinking or shown_as(result, "text")[1]
    small = f'<div class="mlxnb-footer">{html.escape(said)}</div>' if said else ""
    page = answer_html(body) + thinking.html + small + footer_html(result)
    text = "\n".join(filter(None, [body.text, thinking.text, said, footer_text(result)]))
    return _section(name, Body(page, text))


def _section(name: str, inner: Body) -> Body:
    label = one_row(name)
    heading = f'<div class="mlxnb-heading {LEFT_ALONE}">{html.escape(label)}</div>'
    return Body(f'<div class="mlxnb-one">{heading}{inner.html}</div>', f"[{label}]\n{inner.text}")


def _marked(found: Difference) -> Body:
    """The text with new words underlined and missing ones struck through; as text in {+ +} and [- -]."""
    page, text = [], []
    for kind, words in found.parts:
        shown = html.escape(words)
        page.append(shown if kind == "same" else f"<ins>{shown}</ins>" if kind == "new" else f"<del>{shown}</del>")
        text.append(words if kind == "same" else f"{{+{words}+}}" if kind == "new" else f"[-{words}-]")
    return Body(f"<pre>{''.join(page)}</pre>", "".join(text))


def _words(found: Difference) -> str:
    if all(kind == "same" for kind, _ in found.parts):
        return "the first answer, word for word"
    return f"{100 * found.share:.0f}{THIN}% of its words are the first answer's"


def _seed(answer: Answer) -> str:
    if not isinstance(answer, Result):
        return ""
    seed = answer.provenance.sampling.seed
    return f", seed {MISSING if seed is None else seed}"


def _alike(answers: Sequence[Answer]) -> str:
    texts = [answer.text for answer in answers if isinstance(answer, Result)]
    failed = len(answers) - len(texts)
    ends = [f"{plural(len(texts), 'answer')}, {len(set(texts))} different", f"{failed} failed" if failed else ""]
    return " · ".join(filter(None, ends))
