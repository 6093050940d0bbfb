"""The tutorial of the panels as its readers see it who have no kernel: exported to HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from mlxnb.panel_names import PANELS

pytestmark = pytest.mark.browser
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "08-panels.ipynb"
WIDE = """[...document.querySelectorAll('.mlxnb-still')].filter(e => e.scrollWidth > e.clientWidth + 1)
    .map(e => e.innerText.slice(0, 12))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_panel_is_a_picture_of_what_it_last_showed(browser: Any, tmp_path: Path, theme: str) -> None:
    exporter = HTMLExporter(theme=theme, require_js_url="", mathjax_url="", mermaid_js_url="", jquery_url="")
    page_html, _ = exporter.from_notebook_node(nbformat.read(NOTEBOOK, as_version=4))
    (tmp_path / "panels.html").write_text(page_html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 640, "height": 900})
    page.goto((tmp_path / "panels.html").as_uri())
    stills = page.locator(".mlxnb-still:visible")
    said = [still.inner_text() for still in stills.all()]
    titles = {text.splitlines()[0].lower() for text in said}
    assert titles == set(PANELS)
    assert all("Run its cell for a live one" in text for text in said)
    told = "\n".join(said)
    for words in ("dict subclass", "list-like sequence", "decode", "above the limit of 1 ms", "this session"):
        assert words in told
    assert page.evaluate(WIDE) == []
    assert page.get_by_text("Error displaying widget").count() == 0
    page.close()
