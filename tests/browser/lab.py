"""A real JupyterLab server with everything of its own, and notebooks driven in it through a real Chromium."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

REPOSITORY = Path(__file__).parents[2]
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every output is in the page at once, so that a test sees it without scrolling.
    "notebook-extension/tracker": {"windowingMode": "none", "maxNumberOutputs": 10_000},
}
# Generous, because the machine may be busy with other work.
START_SECONDS = 90
RUN_SECONDS = 300


@dataclass
class Lab:
    """A running server. Notebooks go under `root`."""

    url: str
    token: str
    root: Path

    def address(self, path: str, app: str = "doc/tree") -> str:
        """The page of a notebook in JupyterLab (`doc/tree`) or Notebook 7 (`notebooks`)."""
        return f"{self.url}/{app}/{path}?token={self.token}"


@contextmanager
def running_lab(home: Path) -> Iterator[Lab]:
    """A JupyterLab on a free loopback port whose files and settings all lie under `home`."""
    root = home / "root"
    root.mkdir(parents=True)
    token, port = secrets.token_hex(16), _free_port()
    log = (home / "server.log").open("w")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={root}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={token}", "--ServerApp.port_retries=0"]
    server = subprocess.Popen(command, env=_environment(home), stdout=log, stderr=subprocess.STDOUT, cwd=root)
    try:
        lab = Lab(f"http://127.0.0.1:{port}", token, root)
        _wait_until_up(lab, server, home / "server.log")
        yield lab
    finally:
        server.terminate()  # The server ends its kernels on the way out.
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


@dataclass
class Watched:
    """What a page did that a harmless one does not."""

    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    popups: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)


class Notebook:
    """A notebook open in a page."""

    def __init__(self, page: Any, lab: Lab, name: str = "test.ipynb") -> None:
        self.page = page
        self.lab = lab
        self.name = name
        self.watched = Watched()
        page.route("**/*", self._route)
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.watched.popups.append(popup.url))
        page.on("console", lambda message: self.watched.console.append(message.text))
        page.add_init_script("window.__pwned = []")

    def open(self, *cells: str, app: str = "doc/tree") -> Notebook:
        """Write the cells to a notebook file, open it and wait for its kernel."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.lab.root / self.name)
        return self.reopen(app)

    def reopen(self, app: str = "doc/tree") -> Notebook:
        """Open the notebook file as it is."""
        self.page.goto(self.lab.address(self.name, app))
        self.page.wait_for_function(f"{_PANEL} && {_KERNEL}?.status === 'idle'", timeout=START_SECONDS * 1000)
        return self

    def run(self) -> Notebook:
        """Run all cells and wait until the kernel is idle again and the page has settled."""
        self.start()
        return self.wait()

    def start(self) -> None:
        """Run all cells without waiting."""
        self.page.evaluate(
            "() => { window.__ran = false;"
            " jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.__ran = true }) }"
        )

    def wait(self) -> Notebook:
        """Wait until what `start` began has ended."""
        self.page.wait_for_function("window.__ran === true", timeout=RUN_SECONDS * 1000)
        self.page.wait_for_timeout(300)
        return self

    def save(self) -> dict[str, Any]:
        """Save, and return the file's content."""
        self.page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save') }")
        return json.loads((self.lab.root / self.name).read_text())

    def theme(self, name: str) -> None:
        """Switch to `JupyterLab Light` or `JupyterLab Dark`."""
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_timeout(800)

    def outputs(self) -> Any:
        """The outputs of all cells, as a locator."""
        return self.page.locator(".jp-OutputArea-output")

    def pwned(self) -> list[str]:
        """What payloads reported when they ran."""
        return list(self.page.evaluate("window.__pwned"))

    def _route(self, route: Any) -> None:
        url = route.request.url
        if url.startswith((self.lab.url, "data:", "blob:")):
            route.continue_()
        else:
            self.watched.requests.append(url)
            route.abort()

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":  # That one is Jupyter's own, about unsaved work.
            self.watched.dialogs.append(dialog.message)
        dialog.accept()


_PANEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext"
_KERNEL = f"{_PANEL}?.session?.kernel"


@contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium of this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            browser.close()


def _environment(home: Path) -> dict[str, str]:
    own = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "IPYTHONDIR": home / "ipython",
        "MPLCONFIGDIR": home / "matplotlib",
    }
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    paths = filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **{key: str(value) for key, value in own.items()}, "PYTHONPATH": os.pathsep.join(paths)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with {server.returncode}:\n{log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{lab.url}/api?token={lab.token}", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start within {START_SECONDS} s:\n{log.read_text()[-2000:]}")
