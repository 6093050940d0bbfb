"""The allow-list: the last step for every piece of HTML with foreign text in it, whoever wrote it."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

from .text import plain

if TYPE_CHECKING:
    from nh3 import Cleaner

_NAMES = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i ins kbd "
    "li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var"
)
TAGS = frozenset(_NAMES.split())
ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),
    "a": {"href", "target"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
# An answer may bring headings and tables into a page, not whole scripts or styles as readable text.
DROPPED_WITH_CONTENT = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "title"}
)
SCHEMES = frozenset({"http", "https", "mailto"})

# Bounded, so that a text full of half images cannot take for ever.
_IMAGE = re.compile(r"<im(?:g|age)\b((?:[^>\"']|\"[^\"]{0,500}\"|'[^']{0,500}'){0,500})>", re.IGNORECASE)
_ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)


def clean(text: str) -> str:
    """Foreign HTML with only harmless elements left: no scripts, styles, images, ids, names, classes or forms.

    Links go to http, https and mailto only, and open in a new tab without a referrer. An image is replaced by its
    description, because fetching it would tell a stranger that the answer was read.
    """
    return _cleaner(frozenset()).clean(_IMAGE.sub(_describe_image, plain(text)))


def clean_own(text: str, classes: frozenset[str]) -> str:
    """HTML that mlxnb generated around foreign text, kept to the allow-list and to `classes` of its own making."""
    return _cleaner(classes).clean(text)


def image_words(alt: str) -> str:
    """What stands where an image was."""
    return f"[image left out: {alt}]" if alt.strip() else "[image left out]"


def _describe_image(match: re.Match[str]) -> str:
    # This runs before the allow-list on purpose: whatever it gets wrong in broken HTML is cleaned afterwards.
    alt = _ALT.search(match[1])
    words = next((group for group in alt.groups() if group is not None), "") if alt else ""
    return html.escape(image_words(html.unescape(words)))


@cache
def _cleaner(classes: frozenset[str]) -> Cleaner:
    from nh3 import Cleaner

    return Cleaner(
        tags=set(TAGS),
        clean_content_tags=set(DROPPED_WITH_CONTENT),
        attributes=ATTRIBUTES,
        allowed_classes={tag: set(classes) for tag in TAGS} if classes else {},
        generic_attribute_prefixes=set(),
        url_schemes=set(SCHEMES),
        # A relative address would be one on the notebook server itself.
        url_relative="deny",
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
