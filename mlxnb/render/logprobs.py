"""An answer whose tokens are shaded by how likely they were; hovering over one tells what else might have come."""

from __future__ import annotations

import html
import math
from bisect import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .formats import Body, as_text
from .numbers import THIN, plural, significant
from .table import Table
from .text import plain

if TYPE_CHECKING:
    from ..result import Result, TokenLogprob

# The unlikely stand out: five shades, from the likely ones, which have none. The last two have a line under them too.
BORDERS = (0.05, 0.2, 0.5, 0.9)
WORDS = ("under 5 %", "5 to 20 %", "20 to 50 %", "50 to 90 %", "90 % and more")
SIGNS = {"\n": "↵", "\t": "⇥"}

# Beyond these a probability is told as less, or more, than that.
LEAST, MOST = 0.0001, 0.999

CSS = """
.mlxnb .mlxnb-tokens{white-space:pre-wrap;line-height:1.7}
.mlxnb .mlxnb-token{border-radius:2px;padding:1px 0;border-left:1px solid transparent;background-clip:padding-box}
.mlxnb .mlxnb-token:hover{outline:1px solid var(--brand)}
.mlxnb .mlxnb-p3{background:color-mix(in srgb,var(--warn) 14%,transparent)}
.mlxnb .mlxnb-p2{background:color-mix(in srgb,var(--warn) 28%,transparent)}
.mlxnb .mlxnb-p1{background:color-mix(in srgb,var(--warn) 42%,transparent);
text-decoration:underline dotted 1px;text-underline-offset:3px}
.mlxnb .mlxnb-p0{background:color-mix(in srgb,var(--error) 48%,transparent);
text-decoration:underline solid 1px;text-underline-offset:3px}
.mlxnb .mlxnb-blank{box-shadow:inset 0 0 0 1px var(--border)}
.mlxnb .mlxnb-newline::before{content:"↵";color:var(--secondary)}
.mlxnb .mlxnb-part::before{content:"◌";color:var(--secondary)}
.mlxnb .mlxnb-legend .mlxnb-token{margin:0 8px 0 0;padding:1px 6px}
"""


def tokens_body(entries: Sequence[TokenLogprob]) -> Body:
    """An answer's tokens, thinking included, with how likely each was: shaded in HTML, in rows as text."""
    spans = "".join(map(_span, entries))
    return Body(f'<pre class="mlxnb-tokens">{spans}</pre>{_legend(entries)}', _rows(entries))


def unknown_body(text: str) -> Body:
    """An answer of which no probabilities are known, and a line that says so."""
    why = "no log-probabilities were told for this answer"
    body = as_text(text)
    note = f'<div class="mlxnb-footer"><span class="mlxnb-warn">{why}</span></div>'
    return Body(note + body.html, f"{why}\n{body.text}")


class LogprobsView:
    """A Result with its tokens shaded by their probability; as a cell's value it shows itself.

    Raises:
        OptionError: it has no log-probabilities.
    """

    def __init__(self, result: Result) -> None:
        if result.logprobs is None:
            raise OptionError("This Result has no log-probabilities.", "Ask with logprobs=5, or --logprobs.")
        self._result = result

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .result import mimebundle

        return mimebundle(self._result, "logprobs")

    def __repr__(self) -> str:
        return self._repr_mimebundle_()["text/plain"]


def perplexity(entries: Sequence[TokenLogprob]) -> float:
    """exp of the mean negative log-probability, of at least one token."""
    return math.exp(min(700.0, -math.fsum(entry.logprob for entry in entries) / len(entries)))


def percent(probability: float) -> str:
    """A probability as people read it."""
    if 0 < probability < LEAST:
        return f"< {100 * LEAST:g}{THIN}%"
    if MOST <= probability < 1:
        return f"> {100 * MOST:g}{THIN}%"
    return f"{significant(100 * probability)}{THIN}%"


def visible(text: str) -> str:
    """A token's text on one line, with signs for line ends, tabs and the spaces at its edges."""
    shown = plain(text)
    if not shown:
        return " ".join(f"U+{ord(c):04X}" for c in text) or "part of a character"
    bare = shown.strip(" ")
    left = len(shown) - len(shown.lstrip(" "))
    shown = "␣" * left + bare + "␣" * (len(shown) - left - len(bare))
    return "".join(SIGNS.get(c, c) for c in shown).replace("\u2028", "↵").replace("\u2029", "↵")


def _span(entry: TokenLogprob) -> str:
    text = plain(entry.text)
    kinds = ["mlxnb-token", f"mlxnb-p{bisect(BORDERS, entry.probability)}"]
    if not entry.text:
        kinds.append("mlxnb-part")
    elif not text.strip():
        kinds.append("mlxnb-blank")
    inner = html.escape(text).replace("\n", '<span class="mlxnb-newline">\n</span>')
    return f'<span class="{" ".join(kinds)}" title="{html.escape(_title(entry), quote=True)}">{inner}</span>'


def _title(entry: TokenLogprob) -> str:
    said = f"{visible(entry.text)}   {percent(entry.probability)}   (ln {entry.logprob:.3f})"
    beside = [f"{n}. {visible(other.text)}   {percent(other.probability)}" for n, other in enumerate(entry.top, 1)]
    return "\n".join([said, *(["likeliest here:"] if beside else []), *beside])


def _legend(entries: Sequence[TokenLogprob]) -> str:
    if not entries:
        return ""
    shades = [f'<span class="mlxnb-token mlxnb-p{i}">{html.escape(WORDS[i])}</span>' for i in range(len(WORDS))]
    return f'<div class="mlxnb-footer mlxnb-legend">{"".join(reversed(shades))}{html.escape(_sum(entries))}</div>'


def _sum(entries: Sequence[TokenLogprob]) -> str:
    return f"perplexity {significant(perplexity(entries))} over {plural(len(entries), 'token')}"


def _rows(entries: Sequence[TokenLogprob]) -> str:
    if not entries:
        return ""
    rows = [(visible(e.text), percent(e.probability), _others(e)) for e in entries]
    table = Table(["token", "probability", "likeliest"], rows).text()
    return f"{plain(''.join(entry.text for entry in entries))}\n\n{table}\n{_sum(entries)}"


def _others(entry: TokenLogprob) -> str:
    return " · ".join(f"{visible(other.text)} {percent(other.probability)}" for other in entry.top)
