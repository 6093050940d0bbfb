"""Hostile texts through every way to show text, in a live kernel's trusted outputs: nothing runs, nothing leaves."""

from __future__ import annotations

from typing import Any

import pytest

from mlxnb.render.formats import FORMATS
from tests.render.hostile import ALL

from .lab import Notebook

pytestmark = pytest.mark.browser

PRELUDE = """
from IPython.display import HTML, Markdown, display
from mlxnb.render import LiveCell, Table, mimebundle, one_line
from mlxnb.render.area import Area
from mlxnb.render.cells import Command, Dot
from mlxnb.render.formats import FORMATS
from mlxnb.render.progress import Progress
from tests.render.hostile import ALL
from tests.render.samples import make_result, thoughtful
"""

RESULTS = """
for text in ALL.values():
    result = thoughtful(text, thinking=text, model=text, source=text, notes=(text,))
    display(mimebundle(result, {format!r}), raw=True)
"""
GROWING = """
area = Area(get_ipython().display_pub, {format!r}, "<img src=x onerror=window.__pwned.push(1)>")
area.start()
for text in ALL.values():
    for end in (len(text) // 2, len(text) - 1, len(text)):
        area.show(Progress(text[:end], text))
    area.show(Progress("", text))
area.show(Progress("\\n\\n".join(ALL.values())))
"""
TABLES = """
for text in ALL.values():
    display(Table([text, (text, text)], [[text, Dot("error", text)], [Command(text, text), None]], caption=text))
"""
ERRORS = """
from mlxnb.errors import MlxnbError
class Hostile(MlxnbError):
    def _render_traceback_(self):
        return one_line(self)
raise Hostile("\\n".join(ALL.values()), "\\n".join(ALL.values()))
"""
# Pages with a cell for each way: opening one and waiting for what must not happen costs more than most ways do. A page
# of many outputs grows slower with each, so results are on two and growing ones on three.
WAYS = {
    "some results": {format: RESULTS.format(format=format) for format in list(FORMATS)[:2]},
    "other results": {format: RESULTS.format(format=format) for format in list(FORMATS)[2:]},
    "some growing": {format: GROWING.format(format=format) for format in list(FORMATS)[:2]},
    "more growing": {format: GROWING.format(format=format) for format in list(FORMATS)[2:4]},
    "others growing": {format: GROWING.format(format=format) for format in list(FORMATS)[4:]},
    "tables and errors": {"tables": TABLES, "errors": ERRORS},
}

# Everything that a hand or an eye might set off, on every element of the outputs.
PROVOKE = """() => {
    for (const details of document.querySelectorAll('.jp-OutputArea-output details')) details.open = true
    for (const element of document.querySelectorAll('.jp-OutputArea-output *')) {
        for (const kind of ['mouseover', 'mouseenter', 'focus', 'pointerover', 'animationstart', 'toggle'])
            element.dispatchEvent(new Event(kind, {bubbles: true}))
        if (!element.closest('a[href^="http"], a[href^="mailto"]')) element.click?.()
    }
}"""

# What each cell's outputs then hold, as the browser itself understands them.
INSPECT = """() => [...document.querySelectorAll('.jp-CodeCell')].slice(1).map(cell => {
    const all = [...cell.querySelectorAll('.mlxnb-answer *, .mlxnb-thought > div *, .mlxnb-table *')]
    const links = [...cell.querySelectorAll('.jp-OutputArea-output a')]
    return {
        outputs: cell.querySelectorAll('.jp-OutputArea-output').length,
        elements: all.length,
        named: all.filter(e => e.id || e.getAttribute('name')).map(e => e.outerHTML.slice(0, 200)),
        handlers: all.flatMap(e => e.getAttributeNames().filter(name => name.startsWith('on'))),
        jupyter: all.flatMap(e => [...e.classList].filter(name => /^(jp|lm)-/.test(name))),
        data: all.filter(e => !e.closest('mjx-container') && Object.keys(e.dataset).length).length,
        active: [...cell.querySelectorAll('.jp-OutputArea-output')].flatMap(output => [...output.querySelectorAll(
            'script,iframe,object,embed,img,video,audio,form,input,button,link,meta,base,template,svg'
        )]).map(e => e.outerHTML.slice(0, 200)),
        schemes: [...new Set(links.map(a => a.href ? a.protocol : ''))],
        targets: [...new Set(links.filter(a => a.href).map(a => `${a.target} ${a.rel}`))],
    }
})"""


@pytest.mark.parametrize("ways", WAYS)
def test_nothing_runs_and_nothing_leaves(notebook: Notebook, ways: str) -> None:
    notebook.open(PRELUDE, *WAYS[ways].values()).run()
    notebook.page.wait_for_timeout(1500)  # For images that fail, animations that begin, and formulas.
    notebook.page.evaluate(PROVOKE)
    notebook.page.wait_for_timeout(1000)
    seen: list[dict[str, Any]] = notebook.page.evaluate(INSPECT)
    assert notebook.pwned() == []
    assert notebook.watched.dialogs == []
    assert notebook.watched.popups == []
    assert notebook.watched.requests == []
    for way, cell in zip(WAYS[ways], seen, strict=True):
        assert cell["outputs"] > 0, way
        for nothing in ("named", "handlers", "jupyter", "active"):
            assert cell[nothing] == [], way
        assert cell["data"] == 0, way
        if way == "errors":
            # Jupyter itself makes links of addresses in any error, to schemes that cannot run anything.
            assert set(cell["schemes"]) <= {"http:", "https:", "mailto:", "file:", "data:", ""}
            continue
        assert set(cell["schemes"]) <= {"http:", "https:", "mailto:", ""}, way
        # JupyterLab writes the `rel` of links anew, and leaves "noopener".
        assert set(cell["targets"]) <= {"_blank noopener noreferrer", "_blank noopener"}, way
        assert cell["elements"] > 0, way


AS_THEY_ARE = {
    "HTML": "for text in texts: display(HTML(text))",
    "Markdown": "for text in texts: display(Markdown(text))",
    "updates": "area = display(HTML(''), display_id=True)\nfor text in [*texts, '']: area.update(HTML(text))",
}


@pytest.mark.parametrize("way", AS_THEY_ARE)
def test_the_same_texts_do_run_when_shown_as_they_are(notebook: Notebook, way: str) -> None:
    """The control: without it, a page in which nothing can run would pass for a safe one."""
    texts = [ALL[f"html: {name}"] for name in ("img onerror", "img remote", "details ontoggle")]
    notebook.open(PRELUDE, f"texts = {texts!r}\n{AS_THEY_ARE[way]}").run()
    notebook.page.wait_for_timeout(1500)
    assert notebook.pwned()
    assert set(notebook.watched.requests) == {"http://evil.example/x"}


def test_formulas_are_set_in_type_but_cannot_link(notebook: Notebook) -> None:
    good, bad = r"$\\frac{a}{b}$ costs $5", r"$\\href{javascript:window.__pwned.push(1)}{click}$"
    notebook.open(PRELUDE, f"display(mimebundle(make_result('{good} and {bad}'), 'markdown'), raw=True)").run()
    notebook.page.wait_for_selector(".mlxnb-answer mjx-container", timeout=30_000)
    answer = notebook.page.locator(".mlxnb-answer")
    assert answer.locator("mjx-container").count() == 1
    assert answer.locator("a").count() == 0
    assert "costs $5 and $\\href{javascript:window.__pwned.push(1)}{click}$" in answer.inner_text()
