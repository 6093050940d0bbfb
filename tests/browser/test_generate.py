"""`%%generate` in a real JupyterLab: hostile answers, a very long one, the stop button, and the pocket model."""

from __future__ import annotations

import json

import pytest

from mlxnb.render.formats import FORMATS

from .lab import Notebook

pytestmark = pytest.mark.browser

SCRIPTED = """%load_ext mlxnb
import mlxnb
from tests.scripted import ScriptedBackend
from tests.render.hostile import ALL
mlxnb.engine().backends["scripted"] = ScriptedBackend({pieces}, thinking={thinking}, delay={delay})"""


def scripted(pieces: str, thinking: str = "()", delay: float = 0.0) -> str:
    return SCRIPTED.format(pieces=pieces, thinking=thinking, delay=delay)


def test_a_hostile_backend_runs_nothing(notebook: Notebook) -> None:
    """Each text in pieces of seven characters, as tokens would bring it, in the answer and in the thinking.

    test_hostile.py has the control: shown as they are, these texts do run.
    """
    pieces = "[t[i:i + 7] for text in ALL.values() for t in [text + chr(10) * 2] for i in range(0, len(t), 7)]"
    cells = [f"%%generate --backend scripted --max-tokens 100000 --format {kind} --into {kind}\nhi" for kind in FORMATS]
    ran = f"print('ran', *(r.finish_reason for r in ({', '.join(FORMATS)})))"
    notebook.open(scripted(pieces, f"{pieces}[:400]", 0.0005), *cells, ran).run()
    notebook.page.mouse.move(400, 400)
    assert notebook.pwned() == []
    assert notebook.watched.dialogs == notebook.watched.popups == notebook.watched.requests == []
    assert f"ran{' stop' * len(FORMATS)}" in notebook.outputs().last.inner_text()


def test_five_thousand_tokens_leave_the_page_usable_and_the_file_small(notebook: Notebook) -> None:
    pieces = "[f'word{i} ' if i % 40 else f'{chr(10) * 2}## Part {i}{chr(10) * 2}' for i in range(5000)]"
    setup = scripted(pieces, delay=0.002)
    notebook.open(setup, "%%generate --backend scripted --max-tokens 6000\nat length", "1 + 1")
    notebook.page.evaluate(COUNT_UPDATES)
    notebook.start()
    notebook.page.wait_for_selector("text=word100", timeout=60_000)
    last = notebook.page.locator(".jp-CodeCell .cm-content").last
    last.click()
    notebook.page.keyboard.type(" + 40")
    typed_while_streaming = not notebook.page.evaluate("window.__ran")
    assert "1 + 1 + 40" in last.inner_text()
    notebook.wait()
    assert typed_while_streaming
    outputs = notebook.save()["cells"][1]["outputs"]
    assert json.dumps(outputs).count("word4999") == 2  # in the text and in the HTML of one output
    assert [output["output_type"] for output in outputs] == ["display_data", "display_data"]
    assert "5 000 tokens" in notebook.outputs().nth(-2).inner_text().replace("\u202f", " ")
    seconds, updates = notebook.page.evaluate("[window.__last - window.__first, window.__updates]")
    assert 1 < updates <= 15 * seconds / 1000 + 2  # how many there are is the machine's affair


# Counts the display updates that arrive from the kernel, and when.
COUNT_UPDATES = """() => {
    window.__updates = 0
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel
    kernel.iopubMessage.connect((_, message) => {
        if (message.header.msg_type !== 'update_display_data') return
        window.__updates += 1
        window.__first ??= performance.now()
        window.__last = performance.now()
    })
}"""


def test_the_stop_button_keeps_the_answer_so_far_and_ends_run_all(notebook: Notebook) -> None:
    setup = scripted("['word '] * 100000", delay=0.01)
    notebook.open(setup, "%%generate --backend scripted --max-tokens 100000 --into r\ngo on", "print('not reached')")
    notebook.start()
    notebook.page.wait_for_selector("text=word word word")
    notebook.page.evaluate("() => { jupyterapp.commands.execute('notebook:interrupt-kernel') }")
    notebook.wait()
    text = notebook.outputs().all_inner_texts()
    assert any("interrupted" in part for part in text)
    assert not any("not reached" in part for part in text)
    assert "KeyboardInterrupt: stopped after" in "".join(text)


def test_the_pocket_model_answers(notebook: Notebook) -> None:
    notebook.open("%load_ext mlxnb", "%%generate\nWhat does itertools.chain do?").run()
    answer = notebook.page.locator(".mlxnb-answer").last
    assert "itertools.chain" in answer.inner_text()
    assert answer.locator(".highlight").count() == 1
    assert "pocket model" in notebook.page.locator(".mlxnb-footer").last.inner_text()
