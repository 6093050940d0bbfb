"""The playground and the chat in a real JupyterLab: what only a page shows, keys, names, the focus and a stream."""

from __future__ import annotations

import pytest

from .lab import Notebook
from .test_panels import LONG, OPEN, SCRIPTED, ask, opened

pytest.importorskip("anywidget")
pytestmark = pytest.mark.browser


def test_the_playground_s_controls_are_asked_as_they_were_typed(notebook: Notebook) -> None:
    pieces = "[f'word{i} ' for i in range(100)]"
    page = opened(notebook, SCRIPTED.format(pieces=pieces, delay=0.0), OPEN.format(name="playground"))
    notebook.wait()
    model = page.get_by_label("Model")
    model.focus()
    assert model.input_value() == ""  # so that the browser offers every name, not those that match
    assert model.get_attribute("placeholder") == "pocket"
    page.get_by_label("Seed").focus()
    assert model.input_value() == "pocket"
    page.get_by_label("Prompt", exact=True).fill("Talk")
    page.get_by_label("Max tokens").fill("7")
    page.keyboard.press("Control+Enter")  # while the number's box has the focus
    page.wait_for_selector(".mlxnb-past table", timeout=LONG)
    assert "7 tokens" in page.locator(".mlxnb-answers").inner_text()
    page.get_by_role("button", name="Two settings").click()
    page.get_by_label("Seed").nth(1).fill("4")
    page.get_by_text("seed none | 4").wait_for(timeout=LONG)
    page.get_by_role("button", name="Copy second as cell").click()
    page.get_by_text("%%generate --max-tokens 7 --seed 4").wait_for(timeout=LONG)
    page.set_viewport_size({"width": 420, "height": 1200})
    page.wait_for_timeout(300)
    wide = "[...document.querySelectorAll('.mlxnb-panel, .mlxnb-past')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert page.evaluate(f"{wide}.length") == 0


def test_a_chat_is_stopped_kept_and_asked_again(notebook: Notebook) -> None:
    pieces = "[f'word{i} ' for i in range(100_000)]"
    page = opened(notebook, SCRIPTED.format(pieces=pieces, delay=0.005), OPEN.format(name="chat"))
    notebook.wait()
    page.get_by_text("Settings: pocket").click()
    page.get_by_label("Max tokens").fill("100000")
    ask(page, "Talk <b>on</b>", "Message")
    page.wait_for_function("document.querySelector('.mlxnb-panel').innerText.includes('word20')", timeout=LONG)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keep", exact=True).click(timeout=LONG)
    edit = page.get_by_role("button", name="Edit and ask again")
    edit.click(timeout=LONG)
    page.wait_for_function("document.activeElement.matches('.mlxnb-message textarea')", timeout=LONG)
    assert page.get_by_label("Message", exact=True).input_value() == "Talk <b>on</b>"
    assert "interrupted" in page.locator(".mlxnb-panel").inner_text()
    page.get_by_role("button", name="Leave as it was").click()
    page.wait_for_function("!document.querySelector('.mlxnb-message textarea').value", timeout=LONG)
    assert page.locator(".mlxnb-asked:visible").all_inner_texts() == ["Talk <b>on</b>"]
