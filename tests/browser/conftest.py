"""Fixtures for tests in a browser: one JupyterLab for the session, one Chromium for a module, a page for each test."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from .lab import Lab, Notebook, chromium, running_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running JupyterLab, or a skip that says what is missing."""
    missing = [name for name in ("jupyterlab", "notebook", "playwright") if importlib.util.find_spec(name) is None]
    if shutil.which("chromium") is None:
        missing.append("chromium")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


# Not for the session: Playwright keeps an event loop running in this thread, which asyncio tests could not bear.
@pytest.fixture(scope="module")
def browser(lab: Lab) -> Iterator[Any]:
    """A running Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def notebook(browser: Any, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """An unopened notebook in a page of its own."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, device_scale_factor=1)
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    yield Notebook(context.new_page(), lab, f"{name}.ipynb")
    context.close()
