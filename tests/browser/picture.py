"""Takes the README's picture, a real cell in a real JupyterLab: `python -m tests.browser.picture`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .lab import REPOSITORY, Notebook, chromium, running_lab

PICTURE = REPOSITORY / "notebooks" / "images" / "first-cell.png"
CELL = "%%generate\nWhat does collections.Counter do?"


def take(target: Path = PICTURE) -> None:
    """Run the cell twice, so that the figures are those of a model in memory, and save what a person sees of it."""
    with tempfile.TemporaryDirectory() as home, running_lab(Path(home) / "lab") as lab, chromium() as browser:
        page = browser.new_context(viewport={"width": 900, "height": 700}, device_scale_factor=2).new_page()
        notebook = Notebook(page, lab).open("%load_ext mlxnb", CELL, "", app="notebooks")
        notebook.run().run()
        page.locator(".jp-CodeCell").nth(2).click()
        page.wait_for_timeout(500)
        target.parent.mkdir(exist_ok=True)
        page.locator(".jp-CodeCell").nth(1).screenshot(path=target)


if __name__ == "__main__":
    take()
