"""Holds rendered HTML against the allow-list with a parser that knows nothing of the one that made it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from bs4 import BeautifulSoup

from mlxnb.render import code, math
from mlxnb.render.sanitize import ATTRIBUTES, TAGS

CLASSES = code.classes() | math.CLASSES | {"mlxnb-left", "mlxnb-right", "mlxnb-center"}
LINK = re.compile(r"(?:https?:|mailto:)", re.IGNORECASE)


def faults(html: str, classes: frozenset[str] | set[str] = CLASSES) -> list[str]:
    """Everything in `html` that the allow-list does not have, as two independent parsers see it."""
    collector = _Collector()
    collector.feed(html)
    collector.close()
    soup = BeautifulSoup(html, "html.parser")
    elements = collector.found + [
        (tag.name, {k: _text(v) for k, v in tag.attrs.items()}) for tag in soup.find_all(True)
    ]
    return [fault for tag, attributes in elements for fault in _element(tag, attributes, classes)]


def _element(tag: str, attributes: dict[str, str], classes: frozenset[str] | set[str]) -> list[str]:
    found = [] if tag in TAGS else [f"<{tag}>"]
    for name, value in attributes.items():
        if name == "class":
            found += [f"class {c}" for c in value.split() if c not in classes]
        elif name == "rel" and tag == "a":
            found += [] if value == "noopener noreferrer" else [f"rel {value}"]
        elif name not in ATTRIBUTES.get(tag, set()):
            found.append(f"<{tag} {name}={value!r}>")
        elif name == "href" and not LINK.match(value):
            found.append(f"href {value}")
        elif name == "target" and value != "_blank":
            found.append(f"target {value}")
    return found


def _text(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_comment(self, data: str) -> None:
        self.found.append((f"!--{data}", {}))

    def handle_decl(self, decl: str) -> None:
        self.found.append((f"!{decl}", {}))

    def handle_pi(self, data: str) -> None:
        self.found.append((f"?{data}", {}))
