"""What a panel costs the page it is on, in a real JupyterLab and Chromium: keys typed during a stream, and a stop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.browser.lab import Notebook, chromium, running_lab

TOKENS = 5000
WAIT = 300_000  # milliseconds
SETUP = """
import os, mlxnb
from tests.scripted import ScriptedBackend
os.environ["MLXNB_BACKEND"] = "scripted"
line = lambda i: [f"{i} ", "of ", "**500** ", "lines ", "and ", "`code` ", "too", ".", chr(10), chr(10)]
pieces = [word for i in range(500) for word in line(i)]
mlxnb.engine().backends["scripted"] = ScriptedBackend(pieces, delay=0.002)
"""
SHOW = "panel = mlxnb.panel('playground')\npanel"
# From a key to the next frame drawn, as the browser's Event Timing reports it (in steps of 8 ms, from 16 ms on).
# Shorter ones it does not report: they are counted as 16.
WATCH = """() => { window.__keys = []
    new PerformanceObserver(list => { for (const e of list.getEntries()) if (e.name === 'keydown')
        window.__keys.push(e.duration) }).observe({ type: 'event', durationThreshold: 16 }) }"""
TAKE = "() => { const taken = window.__keys; window.__keys = []; return taken }"
SHORTEST = 16.0
# From the click on Stop to the word in the footer, on the page's own clock.
STOP = """() => new Promise(resolve => {
    const answers = document.querySelector('.mlxnb-answers'), start = performance.now()
    const look = () => { if (answers.innerText.includes('interrupted')) { seen.disconnect()
        resolve(performance.now() - start) } }
    const seen = new MutationObserver(look)
    seen.observe(answers, { childList: true, subtree: true, characterData: true })
    document.querySelector('.mlxnb-stop').click() })"""


@contextmanager
def _page() -> Iterator[Any]:
    with (
        tempfile.TemporaryDirectory() as home,
        running_lab(Path(home) / "lab") as lab,
        chromium() as browser,
    ):
        page = browser.new_context(viewport={"width": 1000, "height": 900}).new_page()
        notebook = Notebook(page, lab).open(SETUP, SHOW, "# typed here")
        notebook.run()
        page.wait_for_selector(".mlxnb-panel[data-keys]", timeout=WAIT)
        page.get_by_label("Max tokens").fill(str(TOKENS))
        yield page


def _ask(page: Any, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".mlxnb-stop:not([disabled])", timeout=WAIT)
    page.wait_for_function("document.querySelector('.mlxnb-answers').innerText.includes('lines')", timeout=WAIT)


def _typed(page: Any, more: Any) -> list[float]:
    """Milliseconds of each key typed into the last cell, ten a second, for as long as `more()`."""
    page.locator(".jp-Cell .cm-content").last.click()
    page.evaluate(TAKE)
    typed = 0
    while more():
        page.keyboard.press("x")
        typed += 1
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    slow = list(page.evaluate(TAKE))
    return slow + [SHORTEST] * max(typed - len(slow), 0)


def _row(name: str, found: list[float], what: str, against: str, goal: str) -> dict[str, object]:
    low, high, most = (float(np.percentile(found, at)) for at in (50, 95, 100))
    return {
        "benchmark": name,
        "ours": f"{what} {low:.0f} ms (95 % within {high:.0f}, longest {most:.0f})",
        "theirs": against,
        "pairs": len(found),
        "goal": goal,
        "milliseconds": found,
    }


def panel_stream() -> dict[str, object]:
    """A key typed into a cell until the next frame, while 5,000 tokens come into the playground, and before."""
    with _page() as page:
        page.evaluate(WATCH)
        left = iter(range(100))
        idle = _typed(page, lambda: next(left, None) is not None)
        _ask(page, "Count")
        busy = _typed(page, lambda: page.locator(".mlxnb-stop:not([disabled])").count())
        assert page.locator(".mlxnb-answers p").count() == TOKENS // 10
    before = f"idle {np.median(idle):.0f} ms (95 % within {np.percentile(idle, 95):.0f})"
    return _row("panel-stream", busy, "key to frame", before, "< 100 ms")


def panel_stop() -> dict[str, object]:
    """From the click on Stop in the middle of a stream to the answer that says so."""
    found = []
    with _page() as page:
        for turn in range(10):
            _ask(page, f"Count {turn}")
            page.wait_for_timeout(200 * turn)
            found.append(page.evaluate(STOP))
            page.wait_for_selector(".mlxnb-stop[disabled]", state="attached", timeout=WAIT)
    return _row("panel-stop", found, "click to shown", "", "< 1 000 ms")


BENCHMARKS = {"panel-stream": panel_stream, "panel-stop": panel_stop}
