"""What a panel costs the page it is on, in a real JupyterLab and Chromium: keys typed during a stream, and a stop."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
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
# Of each key, by the browser's Event Timing, milliseconds until the page's own code was done with it, and until the
# next frame was drawn (in steps of 8 ms; what takes less than 16 it does not report, and is counted as 0 and 16).
# Chromium without a GPU draws on the processor, beside the kernel.
WATCH = """() => { window.__keys = []
    new PerformanceObserver(list => { for (const e of list.getEntries()) if (e.name === 'keydown')
        window.__keys.push([e.processingEnd - e.startTime, e.duration])
    }).observe({ type: 'event', durationThreshold: 16 }) }"""
TAKE = "() => { const taken = window.__keys; window.__keys = []; return taken }"
UNREPORTED = [0.0, 16.0]
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


def _typed(page: Any, more: Any) -> list[list[float]]:
    """Both figures of each key typed into the last cell, ten a second, for as long as `more()`."""
    page.locator(".jp-Cell .cm-content").last.click()
    page.evaluate(TAKE)
    typed = 0
    while more():
        page.keyboard.press("x")
        typed += 1
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    slow = list(page.evaluate(TAKE))
    return slow + [UNREPORTED] * max(typed - len(slow), 0)


def _said(found: list[float]) -> str:
    half, most, longest = (float(np.percentile(found, at)) for at in (50, 95, 100))
    return f"{half:.0f} ms (95 % within {most:.0f}, longest {longest:.0f})"


def panel_stream() -> list[dict[str, object]]:
    """Keys typed into a cell while 5,000 tokens come into the playground, and before."""
    with _page() as page:
        page.evaluate(WATCH)
        left = iter(range(100))
        idle = _typed(page, lambda: next(left, None) is not None)
        _ask(page, "Count")
        busy = _typed(page, lambda: page.locator(".mlxnb-stop:not([disabled])").count())
        assert page.locator(".mlxnb-answers p").count() == TOKENS // 10
    return [
        {
            "benchmark": "panel-stream",
            "ours": f"{what} {_said([key[i] for key in busy])}",
            "theirs": f"idle {_said([key[i] for key in idle])}",
            "pairs": len(busy),
            "goal": "< 100 ms",
            "milliseconds": [key[i] for key in busy],
        }
        for i, what in enumerate(("key to its end", "key to frame"))
    ]


def panel_stop() -> dict[str, object]:
    """From the click on Stop in the middle of a stream to the answer that says so."""
    found = []
    with _page() as page:
        for turn in range(10):
            _ask(page, f"Count {turn}")
            page.wait_for_timeout(200 * turn)
            found.append(page.evaluate(STOP))
            page.wait_for_selector(".mlxnb-stop[disabled]", state="attached", timeout=WAIT)
    said = f"click to shown {_said(found)}"
    return {
        "benchmark": "panel-stop",
        "ours": said,
        "pairs": len(found),
        "goal": "< 1 000 ms",
        "milliseconds": found,
    }


BENCHMARKS: dict[str, Callable[[], Any]] = {"panel-stream": panel_stream, "panel-stop": panel_stop}
