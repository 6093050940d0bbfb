"""TeX in an answer: kept apart from Markdown, and typeset only where it cannot do more than set type."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

# Outside elements with the second pair of classes MathJax 2 to 4 leaves text alone, so a price stays a price.
LEFT_ALONE = "mathjax_ignore tex2jax_ignore"
TYPESET = "mathjax_process tex2jax_process"
CLASSES = frozenset(f"mlxnb-math {TYPESET}".split())
# A formula ends within these many characters and lines; without a limit, looking for its end could take for ever.
LONGEST = 2000
MOST_LINES = 100

# Macros that link, load, name, style, redefine for the rest of the page, or paint outside their place.
_REFUSED = re.compile(
    r"\\(?:href|url|require|autoload|includegraphics|class|cssId|style|data|html[A-Z]\w*|bbox|enclose|mmlToken"
    r"|unicode|action|toggle|mathtip|texttip|label|tag|(?:eq)?ref|def|[gex]def|let|global|(?:re|provide)?newcommand"
    r"|renewcommand|providecommand|(?:re)?newenvironment|renewenvironment|DeclareMathOperator|DeclarePairedDelimiters?X?"
    r"|Newextarrow|[rR]ule|Space|raise|lower|move(?:left|right)|catcode|csname|input|include)(?![A-Za-z])"
)
_INLINE = re.compile(
    r"\$\$(?P<dollars>(?:[^$\\]|\\.)+?)\$\$|\$(?P<dollar>(?![\s$])(?:[^$\\]|\\.)*?(?:[^\s$\\]|\\.))\$(?!\d)"
    r"|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]",
    re.DOTALL,
)
_BLOCK_ENDS = {"$$": "$$", "\\[": "\\]"}


def install(md: MarkdownIt) -> None:
    """Teach a parser `$…$`, `$$…$$`, `\\(…\\)` and `\\[…\\]`."""
    md.inline.ruler.before("escape", "mlxnb_math", _inline)
    md.block.ruler.before(
        "fence", "mlxnb_math_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    md.add_render_rule("mlxnb_math", _render)
    md.add_render_rule("mlxnb_math_block", _render_block)


def typesettable(tex: str) -> bool:
    """Whether `tex` may be given to the front end's typesetter."""
    return len(tex) <= LONGEST and not _REFUSED.search(tex)


def _inline(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    match = _INLINE.match(state.src, state.pos, min(state.posMax, state.pos + LONGEST))
    if not match:
        return False
    if not silent:
        state.push("mlxnb_math", "", 0).content = match[0]
    state.pos = match.end()
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    first = _line(state, start)
    closing = _BLOCK_ENDS.get(first[:2])
    if closing is None or state.is_code_block(start):
        return False
    last, rest = start, first[2:]
    while closing not in rest:
        last += 1
        beyond = last >= end or last - start > MOST_LINES
        if beyond or state.isEmpty(last) or state.sCount[last] < state.blkIndent:
            return False
        rest = _line(state, last)
    if rest.partition(closing)[2].strip():
        return False  # Text follows on the same line: a paragraph, whose inline rule takes the formula.
    if not silent:
        token = state.push("mlxnb_math_block", "", 0)
        token.content = "\n".join(_line(state, line) for line in range(start, last + 1))
        token.map = [start, last + 1]
        token.block = True
        state.line = last + 1
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()


def _render(_: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    return _element("span", tokens[index].content, env)


def _render_block(_: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    return _element("div", tokens[index].content, env) + "\n"


def _element(name: str, tex: str, env: Any) -> str:
    # While text still comes, the page is replaced many times a second: formulas would flicker between two forms.
    names = "mlxnb-math" if env.get("growing") or not typesettable(tex) else f"mlxnb-math {TYPESET}"
    return f'<{name} class="{names}">{html.escape(tex)}</{name}>'
