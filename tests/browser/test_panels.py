"""The panels in a real JupyterLab and Notebook 7: opened, used with the pocket model, closed, left by the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from mlxnb.panel_names import PANELS
from tests.render.hostile import ALL

from .lab import Notebook
from .test_hostile import PROVOKE
from .test_live import CONTRAST

pytest.importorskip("anywidget")
pytestmark = pytest.mark.browser

LONG = 120_000  # milliseconds: the machine may be busy with other work
SCRIPTED = """
import os, mlxnb
from tests.scripted import ScriptedBackend
os.environ["MLXNB_BACKEND"] = "scripted"
mlxnb.engine().backends["scripted"] = ScriptedBackend({pieces}, delay={delay})
"""
# Panels whose first work takes a while are open before it is done.
OPEN = "import mlxnb\npanel = mlxnb.panel({name!r})\npanel"


def opened(notebook: Notebook, *cells: str, app: str = "doc/tree") -> Any:
    """The page after its cells began to run and a panel is there."""
    notebook.open(*cells, app=app)
    notebook.start()
    notebook.page.wait_for_selector(".mlxnb-panel", timeout=LONG)
    return notebook.page


def ask(page: Any, prompt: str, label: str = "Prompt") -> None:
    panel = page.locator(".mlxnb-panel[data-keys]").filter(has=page.get_by_label(label, exact=True))
    panel.get_by_label(label, exact=True).fill(prompt, timeout=LONG)
    page.keyboard.press("Control+Enter")


# The controls of a panel in the order of the page, of which the first has the focus then.
CONTROLS = """i => { const panel = document.querySelectorAll('.mlxnb-panel')[i]
    window.__controls = [...panel.querySelectorAll('button,input,select,textarea,summary,[tabindex],[contenteditable]')]
        .filter(e => (e.tabIndex >= 0 || e.isContentEditable) && e.offsetParent && !e.disabled)
    window.__controls[0].focus()
    return window.__controls.length }"""
FOCUSED = """() => { const e = document.activeElement, style = getComputedStyle(e)
    const ring = style.outlineStyle !== 'none' || style.boxShadow !== 'none'
    return [window.__controls.indexOf(e), ring, e.outerHTML.slice(0, 120)] }"""


def assert_reached_by_tab(page: Any, which: int) -> None:
    """Every control of a panel comes in turn, and shows that it has the focus."""
    count = page.evaluate(CONTROLS, which)
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")  # the browser shows the focus of what was reached by a key
    for expected in range(count):
        index, ring, control = page.evaluate(FOCUSED)
        assert index == expected, control
        assert ring, control
        page.keyboard.press("Tab")


@pytest.mark.parametrize("app", ["doc/tree", "notebooks"])
def test_every_panel_opens_in_both_themes_at_every_width(notebook: Notebook, app: str) -> None:
    cells = [OPEN.format(name=name) for name in PANELS]
    page = opened(notebook, *cells, app=app)
    notebook.wait()
    page.wait_for_function(f"document.querySelectorAll('.mlxnb-panel').length === {len(PANELS)}", timeout=LONG)
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        notebook.theme(theme)
        for selector in (".mlxnb-title", ".mlxnb-light", ".widget-label"):
            for element in page.locator(f".mlxnb-panel {selector}:visible").all():
                assert element.evaluate(CONTRAST) >= 3, (theme, selector, element.inner_text())
    for width in (420, 640, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        wide = page.evaluate(
            "[...document.querySelectorAll('.mlxnb-panel')].filter(e => e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.querySelector('.mlxnb-title').textContent)"
        )
        assert wide == [], width
    for i in range(len(PANELS)):
        assert_reached_by_tab(page, i)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('.mlxnb-panel :is(input,textarea,select,button,[role=slider])')].filter(e =>"
        " e.offsetParent && !e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length && !e.title)"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert unnamed == []


@pytest.mark.parametrize("app", ["doc/tree", "notebooks"])
def test_the_playground_answers_while_a_cell_runs_and_is_left_as_a_picture(notebook: Notebook, app: str) -> None:
    waiting = "import time\nfrom pathlib import Path\nwhile not Path('seen').exists(): time.sleep(0.05)"
    page = opened(notebook, OPEN.format(name="playground"), waiting, app=app)
    page.wait_for_timeout(2000)  # JupyterLab makes the subshell that takes messages while a cell runs
    ask(page, "What does collections.Counter do?")
    page.wait_for_selector(".mlxnb-past table", timeout=LONG)
    assert " tokens · " in page.locator(".mlxnb-answers").inner_text()
    (notebook.lab.root / "seen").touch()
    notebook.wait()
    (notebook.lab.root / "seen").unlink()
    page.wait_for_timeout(500)
    outputs = notebook.save()["cells"][0]["outputs"]
    kept = "".join("".join(output["data"].get("text/html", "")) for output in outputs)
    assert "What does collections.Counter do?" in kept
    assert "dict subclass" in kept
    assert page.locator(".mlxnb-still:visible").count() == 0
    page.evaluate("jupyterapp.commands.execute('kernelmenu:shutdown')")
    page.wait_for_timeout(1000)
    notebook.page.goto(notebook.lab.address(notebook.name, app))
    still = page.wait_for_selector(".mlxnb-still", timeout=LONG)
    assert "dict subclass" in still.inner_text()
    assert "Run its cell for a live one" in still.inner_text()
    assert page.get_by_text("widget model not found").count() == 0


def test_stop_ends_a_stream_and_escape_is_stop(notebook: Notebook) -> None:
    page = opened(notebook, SCRIPTED.format(pieces="['word '] * 100000", delay=0.002), OPEN.format(name="playground"))
    notebook.wait()
    page.get_by_label("Max tokens").fill("100000")
    for stop in (lambda: page.get_by_role("button", name="Stop").click(), lambda: page.keyboard.press("Escape")):
        ask(page, "Talk")
        page.wait_for_selector(".mlxnb-stop:not([disabled])", timeout=LONG)
        page.wait_for_function("document.querySelector('.mlxnb-answers').innerText.includes('word word')", timeout=LONG)
        stop()
        page.wait_for_selector(".mlxnb-stop[disabled]", state="attached", timeout=LONG)
        assert "interrupted" in page.locator(".mlxnb-answers").inner_text()


# How long the page's own thread was away at a time, while 5,000 tokens come.
GAPS = """() => { window.__gaps = []; let last = performance.now()
    const tick = () => { const now = performance.now(); window.__gaps.push(now - last); last = now
        window.__ticking = setTimeout(tick, 0) }
    tick() }"""


def test_a_long_stream_comes_whole_and_the_page_goes_on_answering(notebook: Notebook) -> None:
    line = "f'{i} ', 'of ', '**500** ', 'lines ', 'and ', '`code` ', 'too', '.', chr(10), chr(10)"
    pieces = f"[w for i in range(500) for w in ({line})]"
    page = opened(notebook, SCRIPTED.format(pieces=pieces, delay=0.002), OPEN.format(name="playground"))
    notebook.wait()
    page.get_by_label("Max tokens").fill("5000")
    ask(page, "Count")
    page.wait_for_function("document.querySelector('.mlxnb-answers p')", timeout=LONG)
    page.evaluate(GAPS)
    while page.locator(".mlxnb-stop:not([disabled])").count():
        page.get_by_label("Seed").fill("1")  # the page takes input all the while
        page.get_by_label("Seed").fill("")
        page.wait_for_timeout(200)
    assert page.locator(".mlxnb-answers p").count() == 500
    assert "5\u202f000 tokens" in page.locator(".mlxnb-answers .mlxnb-footer").inner_text()
    gaps = sorted(page.evaluate("window.__gaps"))
    assert len(gaps) > 100


# At each frame: how far below the panel's top the buttons are, how high the answer is, and how it begins.
FRAMES = """() => { window.__frames = []
    const panel = document.querySelector('.mlxnb-panel'), answers = panel.querySelector('.mlxnb-answers')
    const button = panel.querySelector('.mlxnb-primary')
    const look = () => { const top = panel.getBoundingClientRect().top
        window.__frames.push([button.getBoundingClientRect().top - top, answers.getBoundingClientRect().height,
            answers.innerText.slice(0, 12)])
        requestAnimationFrame(look) }
    look() }"""


def test_nothing_jumps_while_an_answer_comes_and_a_reloaded_page_goes_on_with_it(notebook: Notebook) -> None:
    pieces = "['A ', 'line ', 'of ', '**text** ', 'here', '.', chr(10), chr(10)] * 200"
    page = opened(notebook, SCRIPTED.format(pieces=pieces, delay=0.01), OPEN.format(name="playground"))
    notebook.wait()
    page.get_by_label("Max tokens").fill("400")
    page.evaluate(FRAMES)
    ask(page, "Write")
    page.wait_for_selector(".mlxnb-past table", timeout=LONG)
    frames = page.evaluate("window.__frames")
    assert {round(top) for top, _, _ in frames} == {round(frames[0][0])}
    begun = next(i for i, (_, _, words) in enumerate(frames) if words.startswith("A line"))
    assert {words for _, _, words in frames[begun:]} == {frames[-1][2]}
    heights = [height for _, height, _ in frames[begun:]]
    assert len(set(heights)) > 5
    assert heights == sorted(heights)
    page.get_by_label("Max tokens").fill("100000")
    ask(page, "Write more")
    page.wait_for_function("document.querySelector('.mlxnb-answers').innerText.startsWith('A line')", timeout=LONG)
    notebook.save()
    notebook.reopen()
    page.wait_for_selector(".mlxnb-panel[data-keys]", timeout=LONG)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".mlxnb-stop[disabled]", state="attached", timeout=LONG)
    assert page.locator(".mlxnb-past tbody tr").count() == 2
    assert page.locator(".mlxnb-answers").inner_text().endswith("interrupted")


def test_two_panels_and_a_cell_share_one_engine(notebook: Notebook) -> None:
    cell = "r = mlxnb.engine().generate('What is zip?', cache='off')\nprint('cell', r.generation_tokens > 0)"
    page = opened(notebook, OPEN.format(name="playground"), OPEN.format(name="chat"), cell)
    page.wait_for_function("document.querySelectorAll('.mlxnb-panel').length === 2", timeout=LONG)
    ask(page, "What does collections.Counter do?")
    ask(page, "What is zip?", "Message")
    notebook.wait()
    page.wait_for_selector(".mlxnb-past table", timeout=LONG)
    page.wait_for_function("document.querySelectorAll('.mlxnb-asked').length === 1", timeout=LONG)
    page.wait_for_function(
        "[...document.querySelectorAll('.mlxnb-panel')][1].innerText.includes('iterates')", timeout=LONG
    )
    assert "cell True" in notebook.outputs().last.inner_text()


def test_a_restarted_kernel_is_told(notebook: Notebook) -> None:
    page = opened(notebook, OPEN.format(name="monitor"))
    notebook.wait()
    page.evaluate("() => { jupyterapp.shell.currentWidget.sessionContext.restartKernel() }")
    page.wait_for_selector(".mlxnb-panel.jupyter-widgets-disconnected", timeout=LONG)
    said = page.evaluate("getComputedStyle(document.querySelector('.mlxnb-panel'), '::before').content")
    assert "run its cell again" in said


def test_hostile_answers_run_nothing(notebook: Notebook) -> None:
    pieces = f"{[text + chr(10) + chr(10) for text in ALL.values()]!r}"
    page = opened(
        notebook,
        SCRIPTED.format(pieces=pieces, delay=0.01),
        OPEN.format(name="playground"),
        OPEN.format(name="chat"),
    )
    notebook.wait()
    hostile = "<img src=x onerror=window.__pwned.push(1)>"
    ask(page, hostile)
    page.wait_for_selector(".mlxnb-past table", timeout=LONG)
    ask(page, hostile, "Message")
    page.wait_for_selector(".mlxnb-quiet", timeout=LONG)
    page.wait_for_timeout(1500)
    page.evaluate(PROVOKE)
    page.wait_for_timeout(1000)
    assert notebook.pwned() == []
    assert notebook.watched.dialogs == []
    assert notebook.watched.popups == []
    assert notebook.watched.requests == []


def test_closing_takes_a_panel_off_the_page(notebook: Notebook) -> None:
    page = opened(notebook, OPEN.format(name="monitor"))
    notebook.wait()
    page.evaluate("""async () => {
        const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel
        await kernel.requestExecute({code: 'panel.close()'}).done
    }""")
    page.wait_for_selector(".mlxnb-panel", state="detached", timeout=LONG)
