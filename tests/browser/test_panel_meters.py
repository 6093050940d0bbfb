"""The profile, kernels and monitor panels in a real JupyterLab: used with the pocket model, hostile names, narrow."""

from __future__ import annotations

from typing import Any

import pytest

from .lab import Notebook

pytest.importorskip("anywidget")
pytestmark = pytest.mark.browser

LONG = 120_000  # milliseconds: the machine may be busy with other work
OPEN = "import mlxnb\npanel = mlxnb.panel({name!r})\npanel"
HOSTILE = "<img src=x onerror=window.__pwned.push(1)>"
ASK = "for i in range(3): mlxnb.engine().generate(f'What is zip? {i}', max_tokens=16, cache='off')"
# Whatever is in a panel and wider than its place, but for what is hidden.
SIDEWAYS = """[...document.querySelectorAll('.mlxnb-panel, .mlxnb-panel *')]
    .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'
        && !e.matches('input, textarea, .mlxnb-range *'))
    .map(e => e.className)"""


def opened(notebook: Notebook, *cells: str) -> Any:
    """The page after its cells began to run and a panel is there."""
    notebook.open(*cells)
    notebook.start()
    notebook.page.wait_for_selector(".mlxnb-panel", timeout=LONG)
    return notebook.page


def test_the_monitor_sees_a_cell_alerts_exports_and_stays_as_a_picture(notebook: Notebook) -> None:
    page = opened(notebook, OPEN.format(name="monitor"), ASK)
    notebook.wait()
    page.wait_for_function(
        "document.querySelector('.mlxnb-panel .mlxnb-tiles').innerText.includes('median of 3')", timeout=LONG
    )
    page.get_by_label("Free memory below, GB").fill("1000000")
    page.keyboard.press("Tab")
    page.wait_for_selector(".mlxnb-panel .mlxnb-log li", timeout=LONG)
    assert "Free memory" in page.locator(".mlxnb-panel .mlxnb-over").inner_text()
    page.get_by_label("First token above, ms").fill(HOSTILE)
    page.keyboard.press("Tab")
    page.wait_for_selector(".mlxnb-notice[role=alert]", timeout=LONG)
    page.get_by_role("button", name="Export as JSON").click()
    page.wait_for_function("document.querySelector('.mlxnb-notice').innerText.includes('written to')", timeout=LONG)
    assert list(notebook.lab.root.glob("mlxnb-monitor-*.json"))
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate(SIDEWAYS) == []
    assert notebook.pwned() == []
    kept = "".join("".join(out["data"].get("text/html", "")) for out in notebook.save()["cells"][0]["outputs"])
    assert "below the limit of" in kept
    assert "median of 3" in kept


def test_a_profile_is_measured_live_plotted_and_stopped(notebook: Notebook) -> None:
    page = opened(notebook, OPEN.format(name="profile"))
    notebook.wait()
    page.get_by_label("medium").uncheck()
    for label, value in (("Model", HOSTILE), ("Runs", "1"), ("Max tokens", "8")):
        page.get_by_label(label, exact=True).fill(value)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".mlxnb-notice[role=alert]", timeout=LONG)
    assert HOSTILE in page.locator(".mlxnb-notice[role=alert]").inner_text()
    assert notebook.pwned() == []
    page.get_by_label("Model", exact=True).fill("pocket")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".mlxnb-panel .mlxnb-tiles", timeout=LONG)
    page.wait_for_selector(".mlxnb-panel .mlxnb-plot", timeout=LONG)
    assert page.locator(".mlxnb-panel .mlxnb-plot").get_attribute("alt")
    assert "Profile of pocket" in page.locator(".mlxnb-panel .mlxnb-shown").inner_text()
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        plot, panel = (page.locator(f".mlxnb-panel {what}").first.bounding_box() for what in (".mlxnb-plot", "div"))
        assert plot["x"] + plot["width"] <= panel["x"] + panel["width"] + 1
    page.get_by_label("Runs").fill("100")
    page.keyboard.press("Control+Enter")
    measured = "/([3-9]|[0-9]{2}) of 101/.test(document.querySelector('.mlxnb-panel').innerText)"  # one is a warm-up
    page.wait_for_function(measured, timeout=LONG)
    page.keyboard.press("Escape")
    page.wait_for_selector(".mlxnb-primary:not([disabled])", timeout=LONG)
    assert "Stopped: the report holds" in page.locator(".mlxnb-notice").inner_text()


def test_tables_of_kernels_stand_in_a_narrow_panel(notebook: Notebook) -> None:
    pytest.importorskip("mlx_lm")
    page = opened(notebook, OPEN.format(name="kernels"))
    notebook.wait()
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector(".mlxnb-found-1 td", timeout=LONG)
    for width in (1200, 640, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate(SIDEWAYS) == [], width
