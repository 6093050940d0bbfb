"""Hypothesis strategies for texts as a model may write them: Markdown in pieces, good and broken, and anything."""

from __future__ import annotations

from hypothesis import strategies as st

from .hostile import ALL

PIECES = [
    "word", "two words", " ", "  ", "    ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", "- ", "* ", "1. ", "2) ", "> ", "# ",
    "---", "===", "***", "`", "``", "```", "```python\n", "~~~", "~~~\n", "x = 1", '"""', "def f():\n", "*", "**", "_",
    "__", "~~", "[", "]", "(", ")", "](", "[a](http://x.y)", "![b](http://x.y/z.png)", "[r]", "[r]: http://r.s\n",
    "[r]: <", "'t'", "<http://x.y>", "<", ">", "<b>", "</b>", "<img src=x onerror=y>", "|", "| a | b |\n",
    "|---|---|\n", "| 1 |", ":-:", "$", "$$", "$x^2$", "$$\n", "\\(", "\\)", "\\[", "\\]", "\\",
    "\\href{javascript:x}{y}", "&amp;",
    "&#60;", "&", "\x1b[31m", "\x00", "\x85", "\u202e", "\ud800", "\u2028", "é", "日本", "- [ ] ", "!", "5", "## ",
    "javascript:x", "http://x.y",
]  # fmt: skip

# Each of these, many times over, has made some Markdown parser or pattern slow.
REPEATED = [
    "[", "*a_", ">", "`", "- ", "[a](", "$a", "<", "|", "|-\n", "![", "\\(", "$$\n", "&", "[a]: b\n", "```\n", "**a",
    "<!--", "a\n", "_a*", "]", "[a][", "\\", "*", "~~", "`a``", "<a ", "$$", "\\[\n", "| a | b |\n", "  - a\n", "\t",
]  # fmt: skip

markdown = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
anything = st.one_of(markdown, st.text(max_size=200), st.sampled_from(sorted(ALL.values())))
mixed = st.lists(anything, max_size=4).map("\n".join)
