"""The same outputs in the places around a notebook: a real kernel, nbval, a still HTML page, a real terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbval.plugin import get_sanitize_patterns

from mlxnb.render import footer_text, mimebundle

from .samples import ANSWER, FALLBACK, make_result
from .test_result import FOOTER

REPOSITORY = Path(__file__).parents[2]
SANITIZE = REPOSITORY / "tests" / "nbval_sanitize.cfg"
STREAM = "from tests.render.samples import make_result, stream, thoughtful\ncell = stream(thoughtful(), seconds=0.2)"


def run(folder: Path, *cells: str) -> Path:
    """Run cells in a real kernel and store the notebook with its outputs."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(REPOSITORY)}}).execute()
    path = folder / "stored.ipynb"
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("stored"), STREAM)


def test_the_file_holds_the_finished_output_once(stored: Path) -> None:
    blank, final = nbformat.read(stored, 4).cells[0].outputs
    assert blank.data == {"text/plain": "", "text/html": ""}
    assert final.data["text/plain"].startswith(ANSWER)
    assert stored.read_text().count("Three ways to walk a tree") == 2  # once as text, once as HTML


def nbval(*paths: Path) -> str:
    """What nbval says of notebooks; each has one cell, so one test."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "--nbval-sanitize-with",
        SANITIZE,
        "--nbval-cell-timeout",
        "120",
    ]
    folder = paths[0].parent
    command += ["--rootdir", folder, "--nbval-current-env", "-p", "no:cacheprovider", "-q", *paths]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=_environment(folder)).stdout


CHANGES = [
    ("212 tok/s", "1\u202f310 tok/s"),
    ("first token 38 ms", "first token 2.31 s (2.1 s loading)"),
    ("Thought for 94.3 ms", "Thought for 3.1 s"),
    ("torch cpu", "mlx gpu"),
    ("seed         7", "seed         8"),
    (" · reused 120 of 131", ""),
    (' · <span class=\\"mlxnb-figure\\">reused 120 of 131</span>', ""),
]


def test_nbval_sees_the_stored_outputs_again_and_passes_over_every_figure_that_changes(
    stored: Path, tmp_path: Path
) -> None:
    text = stored.read_text()
    for old, new in CHANGES:
        assert old in text
        text = text.replace(old, new)
    changed = tmp_path / "changed.ipynb"
    changed.write_text(text)
    said = nbval(stored, changed)
    assert re.search(r"^2 passed", said, re.M), said


def sanitized(text: str) -> str:
    """`text` as nbval compares it."""
    for pattern, replacement in get_sanitize_patterns(SANITIZE.read_text()):
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize("seconds", [0.000012, 0.038, 3.1, 75, 4800])
@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_every_form_of_a_figure_is_sanitised(seconds: float, kind: str) -> None:
    plain = make_result("Hi.")
    other = make_result(
        "Hi.",
        load_time=seconds,
        reused_tokens=0,
        device="gpu",
        backend="mlx",
        passed_over=(FALLBACK,),
        token_times=tuple(1000 + seconds * (i + 1) for i in range(48)),
    )
    assert footer_text(other) != footer_text(plain)
    assert sanitized(mimebundle(other)[kind]) == sanitized(mimebundle(plain)[kind])


MATTERS = [("48 tokens", "49 tokens"), ("sum their sizes", "sum its sizes"), (" · stop", " · cut")]


def test_nbval_sees_what_matters(stored: Path, tmp_path: Path) -> None:
    changed = [tmp_path / f"changed-{i}.ipynb" for i in range(len(MATTERS))]
    for path, (old, new) in zip(changed, MATTERS, strict=True):
        assert old in stored.read_text()
        path.write_text(stored.read_text().replace(old, new))
    said = nbval(*changed)
    assert re.search(rf"^{len(MATTERS)} failed in", said, re.M), said


def test_still_page(stored: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", "html", stored, "--output", tmp_path / "still.html"]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "still.html").read_text()
    assert page.count("Three ways to walk a tree") == 1
    assert 'class="mlxnb-footer"' in page


def test_terminal_ipython(tmp_path: Path) -> None:
    """What IPython prints in a pipe is the plain twin, to the letter."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "--quick", "--colors=NoColor", "-c", STREAM]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=_environment(tmp_path))
    assert ran.stdout.rstrip().endswith(f"Thought for 94.3 ms (20 tokens)\n{FOOTER}"), ran.stdout + ran.stderr
    assert ran.stdout.count("Three ways to walk a tree") == 1
    assert "\x1b" not in ran.stdout


def test_terminal_screen(tmp_path: Path) -> None:
    """On a screen, the waiting is one line that is overwritten."""
    command = f"{sys.executable} -m IPython --no-banner --quick --colors=NoColor -c '{STREAM.replace('0.2', '3')}'"
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn("/bin/sh", ["-c", command], cwd=str(REPOSITORY), env=_environment(tmp_path), encoding="utf-8")
    child.setwinsize(50, 200)
    child.expect(pexpect.EOF, timeout=60)
    shown = child.before.replace("\r\n", "\n")
    assert "\r\x1b[Kpocket model · queued" in shown
    assert "\r\x1b[Kpocket model · prefill 0 of 131 tokens" in shown
    assert "\r\x1b[KUse `pathlib.Path.glob`" in shown
    assert f"{FOOTER}\n" in shown
    assert shown.count("Three ways to walk a tree") == 1


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "IPYTHONDIR": str(home), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
