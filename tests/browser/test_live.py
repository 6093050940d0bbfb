"""A streamed answer in a real notebook: it grows, it is replaced by the finished one without a jump, and saved once."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from .lab import Notebook

pytestmark = pytest.mark.browser

STREAM = """from tests.render.samples import *
cell = stream(thoughtful(ANSWER.replace('$', '')), seconds=2, pause=['finish'])"""
# Each painted frame in which something changed: the outputs' heights, and where the next cell begins.
RECORD = """() => {
    window.__frames = []
    const frame = () => {
        const output = document.querySelector('.jp-CodeCell .jp-Cell-outputWrapper')
        const children = [...output.querySelectorAll('.jp-OutputArea-child')]
        const now = JSON.stringify({
            heights: children.map(child => Math.round(child.getBoundingClientRect().height)),
            next: Math.round(document.querySelectorAll('.jp-CodeCell')[1].getBoundingClientRect().top),
        })
        if (window.__frames.at(-1) !== now) window.__frames.push(now)
        requestAnimationFrame(frame)
    }
    requestAnimationFrame(frame)
}"""

# The contrast ratio of an element's text to what lies behind it, after WCAG 2.
CONTRAST = """element => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255)
    const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
    const behind = []
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor)
    const fill = colour => { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1) }
    const pixel = () => light([...paint.getImageData(0, 0, 1, 1).data])
    fill('white'); behind.forEach(fill); const back = pixel()
    fill(getComputedStyle(element).color); const front = pixel()
    return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05)
}"""


@pytest.mark.parametrize("app", ["doc/tree", "notebooks"])
def test_it_grows_and_ends_without_a_jump(notebook: Notebook, app: str) -> None:
    notebook.open(STREAM, "'next'", app=app)
    notebook.page.evaluate(RECORD)
    notebook.run()
    frames: list[dict[str, Any]] = [json.loads(frame) for frame in notebook.page.evaluate("window.__frames")]
    assert len(frames) >= 3, "it was not seen to grow"
    for before, after in pairwise(frames):
        assert after["next"] >= before["next"] - 2, f"the page got shorter: {before} {after}"
        assert sum(height > 0 for height in after["heights"]) <= 1, f"two answers at once: {after}"
    live = max(frame["heights"][0] for frame in frames if frame["heights"])
    blank, final = frames[-1]["heights"]
    assert blank == 0
    assert abs(final - live) <= 2


def test_the_file_holds_the_finished_output_once(notebook: Notebook) -> None:
    notebook.open(STREAM).run()
    blank, final = notebook.save()["cells"][0]["outputs"]
    assert "".join(blank["data"]["text/html"]) == "".join(blank["data"]["text/plain"]) == ""
    assert "Three ways to walk a tree" in "".join(final["data"]["text/plain"])
    assert "mlxnb-live" not in json.dumps(final)


def test_waiting_is_a_line_that_fills(notebook: Notebook) -> None:
    notebook.open(
        "from mlxnb.render import LiveCell\nimport time\nfrom pathlib import Path\n"
        "cell = LiveCell('markdown', 'pocket')\ncell.start()\n"
        "cell.update(prefill_done=33, prefill_total=132, state='prefill')\n"
        "while not Path('seen').exists(): time.sleep(0.05)\ncell.close()"
    ).start()
    bar = notebook.page.wait_for_selector(".mlxnb-progress", state="attached")
    share = "bar => bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width"
    assert bar.evaluate(share) == pytest.approx(0.25, abs=0.01)
    assert "prefill 33 of 132 tokens" in notebook.outputs().inner_text()
    (notebook.lab.root / "seen").touch()
    notebook.wait()
    assert notebook.page.locator(".jp-OutputArea-child").bounding_box()["height"] == 0


def test_folded_rows_open(notebook: Notebook) -> None:
    notebook.open("from mlxnb.render import Table\nTable(['n'], [[i] for i in range(23)])").run()
    rows = notebook.page.locator(".mlxnb-table tbody tr:visible")
    assert rows.count() == 10
    notebook.page.locator(".mlxnb-table summary").click()
    assert rows.count() == 23


def test_small_print_reads_on_either_theme(notebook: Notebook) -> None:
    notebook.open("from tests.render.samples import *\nmake_result(passed_over=(FALLBACK,))").run()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        notebook.theme(theme)
        for selector in (
            ".mlxnb-footer",
            ".mlxnb-answer",
            ".mlxnb-answer a",
            ".highlight .k",
            ".highlight .s2",
            ".highlight .c1",
        ):
            assert notebook.page.locator(selector).first.evaluate(CONTRAST) >= 3, (theme, selector)
