"""The models and the settings panel in a real JupyterLab: used by hand and by keys, and narrow."""

from __future__ import annotations

import re

import pytest

from .lab import Notebook

pytest.importorskip("anywidget")
pytestmark = pytest.mark.browser

LONG = 120_000  # milliseconds: the machine may be busy with other work
BEGIN = """
import os, shutil, mlxnb, mlxnb.pocket
os.environ["LOCAL_MODELS_DIR"] = os.path.abspath("models")
shutil.copytree(mlxnb.pocket.path(), "models/an-organisation-of-long-names/a-model-with-a-rather-long-name-4bit")
os.makedirs("models/broken")
open("models/broken/config.json", "w").write("{<img src=x onerror=__pwned.push(1)>")
open("models/broken/model.safetensors", "w").write("x" * 20)
panel = mlxnb.panel("models")
panel
"""
WIDE = """[...document.querySelectorAll('.mlxnb-panel, .mlxnb-panel .mlxnb-table')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className)"""


def test_models_are_loaded_and_unloaded_and_settings_saved_by_hand(notebook: Notebook) -> None:
    notebook.open(BEGIN, "settings = mlxnb.panel('settings')\nsettings")
    notebook.run()
    page = notebook.page
    models, settings = (page.locator(".mlxnb-panel").filter(has_text=word) for word in ("Convert to", "Save to"))
    models.get_by_text("in memory on torch").or_(models.locator(".mlxnb-places table")).first.wait_for(timeout=LONG)
    models.get_by_label("Model", exact=True).select_option(label="broken (damaged)")
    models.get_by_text("is damaged").first.wait_for(timeout=LONG)
    assert models.get_by_role("button", name="Load", exact=True).is_disabled()
    models.get_by_label("Model", exact=True).select_option(label="pocket")
    models.get_by_role("button", name="Load", exact=True).click(timeout=LONG)
    models.get_by_text("pocket is in memory").wait_for(timeout=LONG)
    models.get_by_role("button", name="Pin", exact=True).click(timeout=LONG)
    models.get_by_role("button", name="Unpin", exact=True).wait_for(timeout=LONG)
    models.get_by_role("button", name="Unload", exact=True).click(timeout=LONG)
    models.get_by_text("It is pinned").wait_for(timeout=LONG)
    page.keyboard.press("Escape")
    models.get_by_text("It is pinned").wait_for(state="hidden", timeout=LONG)
    models.get_by_text(re.compile("weights (8|10) MB")).wait_for(timeout=LONG)  # by the backend that was the fastest

    settings.get_by_label("Temperature", exact=True).fill("hot")
    page.keyboard.press("Tab")
    settings.get_by_text("temperature is 'hot'").wait_for(timeout=LONG)
    settings.get_by_label("Temperature", exact=True).fill("0.7")
    page.keyboard.press("Tab")
    settings.get_by_text("until they are saved to").wait_for(timeout=LONG)
    assert not (notebook.lab.root / ".env").exists()
    settings.get_by_role("button", name="Save to .env").click()
    settings.get_by_text("1 setting written").wait_for(timeout=LONG)
    assert (notebook.lab.root / ".env").read_text() == "MLXNB_TEMPERATURE=0.7\n"
    (notebook.lab.root / ".env").unlink()  # other notebooks of this server would read it

    for width in (1200, 640, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate(WIDE) == [], width
    assert notebook.pwned() == []
    assert notebook.watched.dialogs == []
