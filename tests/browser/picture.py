"""Takes the README's pictures, a cell and a panel in a real JupyterLab: `python -m tests.browser.picture [NAME …]`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lab import REPOSITORY, Notebook, chromium, running_lab

FOLDER = REPOSITORY / "notebooks" / "images"
QUESTION = "What does collections.Counter do?"


def first_cell(notebook: Notebook) -> Any:
    """A cell that ran twice, so that the figures are those of a model in memory."""
    notebook.open("%load_ext mlxnb", f"%%generate\n{QUESTION}", "", app="notebooks").run().run()
    notebook.page.locator(".jp-CodeCell").nth(2).click()
    return notebook.page.locator(".jp-CodeCell").nth(1)


def playground(notebook: Notebook) -> Any:
    """The playground after two settings answered."""
    notebook.open("import mlxnb\nmlxnb.engine().load('pocket')", "mlxnb.panel()", app="notebooks").run()
    page = notebook.page
    page.get_by_role("button", name="Two settings").click()
    page.get_by_label("Max tokens").nth(1).fill("12")
    page.get_by_label("Prompt", exact=True).fill(QUESTION)
    page.keyboard.press("Control+Enter")
    page.wait_for_function("document.querySelectorAll('.mlxnb-past tbody tr').length === 2")
    page.locator(".jp-InputArea").first.click()
    return page.locator(".mlxnb-panel")


PICTURES: dict[str, Callable[[Notebook], Any]] = {"first-cell": first_cell, "playground": playground}


def take(name: str) -> None:
    """Save what a person sees of one."""
    with tempfile.TemporaryDirectory() as home, running_lab(Path(home) / "lab") as lab, chromium() as browser:
        page = browser.new_context(viewport={"width": 900, "height": 1300}, device_scale_factor=2).new_page()
        shown = PICTURES[name](Notebook(page, lab))
        page.wait_for_timeout(500)
        FOLDER.mkdir(exist_ok=True)
        shown.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        take(name)
