"""What holds for every panel: it is one, it ends whole, and it is a text where no widget can be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import util
from typing import Any

import ipywidgets as w
import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances as held

import mlxnb
from mlxnb import errors
from mlxnb.panel_names import PANELS
from mlxnb.widgets import PLACES
from mlxnb.widgets.frame.beat import BEAT

from .conftest import until


def test_each_name_has_its_place() -> None:
    assert list(PLACES) == list(PANELS)


@pytest.mark.parametrize("name", PANELS)
def test_closing_gives_everything_back(panel: Callable[[str], Any], name: str) -> None:
    mlxnb.engine()  # its thread stays
    widgets, threads = set(held), set(threading.enumerate())
    shown = panel(name)
    assert panel(name) is shown
    assert len(held) > len(widgets)
    with shown:
        until(lambda: BEAT._followed != [])
    until(lambda: set(held) <= widgets and set(threading.enumerate()) <= threads)
    assert repr(shown) == f"{shown.title} panel, closed"
    shown.close()
    assert panel(name) is not shown


@pytest.mark.parametrize("name", PANELS)
def test_as_a_text_it_says_what_it_is(panel: Callable[[str], Any], name: str) -> None:
    first, *rest = repr(panel(name)).splitlines()
    assert first.startswith(f"{panel(name).title} · ● ")
    assert rest
    assert "<" not in repr(panel(name))


def test_the_magic_opens_one_and_refuses_a_name_that_is_near(
    panel: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "mlxnb")
    shell.run_line_magic("mlxnb", "panel monitor")
    assert "Monitor" in capsys.readouterr().out
    assert not panel("monitor").closed
    with pytest.raises(errors.OptionError, match="no panel monitr") as raised:
        mlxnb.panel("monitr")
    assert raised.value.remedy == "Did you mean monitor?"


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "anywidget" else found(name, *more))
    with pytest.raises(errors.BackendMissingError, match="Panels need anywidget") as raised:
        mlxnb.panel("monitor")
    assert "mlxnb[panels]" in raised.value.remedy


def test_an_error_of_ours_is_shown_and_of_others_escaped(panel: Callable[[str], Any]) -> None:
    shown = panel("monitor")
    shown.fail(errors.OptionError("That is <b>none</b>.", "Take another."))
    assert "That is &lt;b&gt;none&lt;/b&gt;. Take another." in shown._notice.value
    shown.fail(ValueError("<img src=x>"))
    assert "an error of its own" in shown._notice.value
    assert "<img" not in shown._notice.value
    shown.say("")
    assert shown._notice.value == ""


def test_messages_are_taken_where_the_page_sends_them(panel: Callable[[str], Any]) -> None:
    """Also by what comes into a panel later; see `subshell`."""
    shown = panel("playground")
    late = w.VBox([w.Button()])
    shown.view.children = [*shown.view.children, late]
    for widget in (shown.generate, shown.prompt, late, late.children[0]):
        assert widget.comm._reply_subshell_for is None


def test_waiting_ends_when_the_work_is_shown(panel: Callable[[str], Any]) -> None:
    shown = panel("models")
    shown.wait()  # for its own first look
    done = threading.Event()
    shown.work.start("Waiting", lambda report: done.wait(), lambda came: shown.say("It came."))
    assert shown.running
    threading.Timer(0.2, done.set).start()
    shown.wait()
    assert "It came." in shown._notice.value
