"""`%profile_model` in a real JupyterLab: how far it is, then the report, on a wide page and on a narrow one."""

from __future__ import annotations

import pytest

from .lab import Notebook

pytestmark = pytest.mark.browser

# How fast the machine is takes ten seconds to measure, and a script does not care.
SETUP = """%load_ext mlxnb
import mlxnb, mlxnb.hardware as hardware
from tests.scripted import ScriptedBackend
hardware.speeds = lambda store: hardware.Speeds((hardware.Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
mlxnb.engine().backends["scripted"] = ScriptedBackend(["word "] * 30, delay=0.005)"""
PROFILE = "%profile_model --scenario simple,code --backend scripted --runs 12 --warmup 0 --max-tokens 30 --into r"


@pytest.mark.parametrize("width", [1200, 650])
def test_a_line_tells_how_far_it_is_and_the_report_takes_its_place(notebook: Notebook, width: int) -> None:
    page = notebook.page
    page.set_viewport_size({"width": width, "height": 900})
    notebook.open(SETUP, PROFILE)
    notebook.start()
    page.wait_for_selector(".mlxnb-work [role=progressbar]", timeout=60_000)
    assert "Profiling pocket" in page.locator(".mlxnb-work .mlxnb-footer").first.inner_text()
    notebook.wait()
    assert page.locator(".mlxnb-work").count() == 0
    report = page.locator(".mlxnb-report")
    assert report.count() == 1
    assert report.locator("h4").first.inner_text() == "Profile of pocket"
    wide, held = report.evaluate("node => [node.scrollWidth, node.clientWidth]")
    assert wide <= held + 1  # nothing scrolls sideways
    assert notebook.watched.requests == notebook.watched.dialogs == []
    assert len(notebook.save()["cells"][1]["outputs"]) == 2  # the line, blank now, and the report
