"""Fenced code with highlighting, as HTML whose classes Jupyter's own themes know."""

from __future__ import annotations

import html
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygments.lexer import Lexer

# Only lexers that are in daily use: the name comes from the model, and a rare lexer may hang on hostile text.
_NAMES = (
    "bash c c++ console cpp css diff docker dockerfile go haskell html ini java javascript js json julia kotlin "
    "latex lua make makefile markdown md objective-c perl php powershell py py3 pycon pytb python python3 r ruby "
    "rust scala sh shell sql swift tex toml ts typescript xml yaml yml zsh"
)
LANGUAGES = frozenset(_NAMES.split())
# Above this many characters a block is shown plain: colour is not worth a second's wait.
LONGEST = 50_000


def highlight(code: str, language: str = "") -> str:
    """`code` as a `<pre>` block, coloured if the language is known; always escaped."""
    lexer = _lexer(language.lower()) if len(code) <= LONGEST else None
    inner = _spans(code, lexer) if lexer else html.escape(code)
    return f'<div class="highlight"><pre><code>{inner}</code></pre></div>\n'


@cache
def classes() -> frozenset[str]:
    """The class names that highlighting can produce."""
    from pygments.token import STANDARD_TYPES

    return frozenset({"highlight", *STANDARD_TYPES.values()} - {""})


def _spans(code: str, lexer: Lexer) -> str:
    from pygments import highlight as colour
    from pygments.formatters import HtmlFormatter

    # What a lexer cannot read is mostly code that is still being written: no alarm about it.
    return str(colour(code, lexer, HtmlFormatter(nowrap=True))).replace('<span class="err">', "<span>")


@cache
def _lexer(language: str) -> Lexer | None:
    if language not in LANGUAGES:
        return None
    from pygments.lexers import get_lexer_by_name

    # stripnl and ensurenl would change the code: what is copied must be what the model wrote.
    return get_lexer_by_name(language, stripnl=False, ensurenl=False)
