"""A model's Markdown as safe HTML: raw HTML stays text, images stay out, and an allow-list has the last word."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from . import math
from .code import classes as code_classes
from .code import highlight
from .sanitize import SCHEMES, clean_own, image_words
from .text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_ALIGNED = {f"text-align:{side}": f"mlxnb-{side}" for side in ("left", "right", "center")}


def to_html(markdown: str) -> str:
    """Safe HTML for `markdown`, which may be unfinished or hostile; without colours of its own."""
    return render(plain(markdown), {})


def render(source: str, env: dict[str, Any]) -> str:
    """`to_html` for text that is already plain, with markdown-it's `env` (known references, `growing`)."""
    return finish(parse(source, env), env)


def parse(source: str, env: dict[str, Any]) -> list[Token]:
    """The tokens of `source`; references found on the way go into `env`."""
    return parser().parse(source, env)


def finish(tokens: list[Token], env: dict[str, Any]) -> str:
    """Safe HTML for parsed tokens."""
    md = parser()
    return clean_own(str(md.renderer.render(tokens, md.options, env)), _own_classes())


@cache
def parser() -> MarkdownIt:
    """The one Markdown parser: CommonMark with tables, strikethrough and TeX, without raw HTML."""
    from markdown_it import MarkdownIt

    md = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    md.disable(["html_block", "html_inline"])
    md.validateLink = _link_allowed
    math.install(md)
    for name, rule in {
        "fence": _fence,
        "code_block": _code,
        "image": _image,
        "th_open": _cell,
        "td_open": _cell,
    }.items():
        md.add_render_rule(name, rule)
    return md


@cache
def _own_classes() -> frozenset[str]:
    return code_classes() | math.CLASSES | frozenset(_ALIGNED.values())


def _link_allowed(url: str) -> bool:
    return url.strip().lower().partition(":")[0] in SCHEMES


def _fence(_: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    info = tokens[index].info.split()
    return highlight(tokens[index].content, info[0] if info else "")


def _code(_: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    return highlight(tokens[index].content)


def _image(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    from markdown_it.common.utils import escapeHtml

    return escapeHtml(image_words(self.renderInlineAsText(tokens[index].children or [], options, env)))


def _cell(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    side = _ALIGNED.get(str(token.attrs.pop("style", "")))
    if side:
        token.attrs["class"] = side
    return str(self.renderToken(tokens, index, options, env))
