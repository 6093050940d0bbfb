"""A report in a real JupyterLab: nothing in it runs, nothing scrolls sideways, its fold opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..profiling.test_shown import with_text
from ..profiling.whole_reports import full
from ..render.hostile import ALL
from .lab import Lab, Notebook

pytestmark = pytest.mark.browser

CELL = "from pathlib import Path\nfrom mlxnb.profiling import Report\nReport.from_json(Path('{}'))"
WIDTHS = """() => [...document.querySelectorAll('.jp-OutputArea-output')].map(e => e.scrollWidth - e.clientWidth)"""


def saved(lab: Lab, name: str, *texts: str) -> str:
    """A cell that shows a report, with each of the texts as a finding and a case's label."""
    report = full(runs=2)
    findings = tuple(with_text(report.findings[0], text) for text in texts)
    cases = [replace(case, label=text) for case, text in zip(report.cases, texts, strict=False)]
    report = replace(report, findings=findings or report.findings, cases=(*cases, *report.cases[len(cases) :]))
    (lab.root / name).write_text(report.to_json(), encoding="utf-8")
    return CELL.format(name)


def test_hostile_names_stay_text(notebook: Notebook, lab: Lab) -> None:
    notebook.open(saved(lab, "hostile.json", *ALL.values())).run()
    assert notebook.page.locator(".mlxnb-item").count() >= len(ALL)
    notebook.page.locator(".mlxnb-folded > summary").click()
    notebook.page.wait_for_timeout(500)
    assert notebook.pwned() == []
    assert (notebook.watched.requests, notebook.watched.dialogs, notebook.watched.popups) == ([], [], [])


@pytest.mark.parametrize("width", [700, 760, 1280])
def test_it_fits_the_page_and_its_fold_opens(notebook: Notebook, lab: Lab, width: int) -> None:
    notebook.page.set_viewport_size({"width": width, "height": 900})
    notebook.open(saved(lab, "whole.json")).run()
    page = notebook.page
    page.evaluate("() => jupyterapp.shell.collapseLeft()")
    page.wait_for_timeout(500)
    hidden = page.get_by_text("low power mode")
    assert not hidden.is_visible()
    page.locator(".mlxnb-folded > summary").click()
    assert hidden.is_visible()
    assert page.evaluate(WIDTHS) == [0]
