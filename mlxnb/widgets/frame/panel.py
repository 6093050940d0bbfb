"""What all panels share: a frame with a title and a light, a place for errors, a still picture, and an end."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

import ipywidgets as w

from ...errors import MlxnbError, in_words
from ...render.pace import INTERVAL
from ...render.text import one_row
from .beat import BEAT
from .keys import Keys
from .light import light, light_html, light_text
from .still import Still
from .style import sheet
from .subshell import follow_the_page

if TYPE_CHECKING:
    from ...runtime import Engine
    from ..work.aside import Aside
    from ..work.work import Work

GLANCE = 1.0  # seconds between two looks at what the engine is doing


class Panel:
    """A panel over the engine of this process. As a cell's value it shows itself; `close` ends it.

    Callbacks come from the kernel's own thread or from a subshell's, and the beat from a third: each holds `lock`
    while it changes what is shown, and none of them waits for the engine.
    """

    title: ClassVar[str]
    css: ClassVar[str] = ""

    def __init__(self) -> None:
        self.lock = RLock()
        self.closed = False
        self.works: list[Work | Aside] = []  # each enters itself
        self.keys = Keys()
        self._light, self._notice, self._still = w.HTML(), w.HTML(), Still(self.css)
        title = w.HTML(f'<div class="mlxnb-title" role="heading" aria-level="3">{html.escape(self.title)}</div>')
        head = styled(w.HBox([title, self._light]), "mlxnb-head")
        look = styled(w.HTML(sheet(self.css) + self._still.hiding), "mlxnb-sheet")
        body = list(self.body())
        notice = [] if self._notice in body else [self._notice]  # a long panel has it where its buttons are
        self.view = styled(w.VBox([look, head, *notice, *body, self.keys]), "mlxnb-panel", "mlxnb")
        follow_the_page(self.view)
        self._glance()
        self._leave = BEAT.follow(self._glance, self.fail, GLANCE)

    def body(self) -> Sequence[w.Widget]:
        """The widgets under the head and the place for errors; made once."""
        raise NotImplementedError

    def picture(self) -> tuple[str, str]:
        """The panel as a still: HTML, which brings no style sheet but has that of `css`, and text."""
        raise NotImplementedError

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        from ... import engine

        return engine()

    def glance(self) -> None:
        """Called about once a second while the panel is open, holding `lock`."""

    def say(self, text: str, remedy: str = "") -> None:
        """One line of news under the head; empty takes it away."""
        self._tell(text, remedy, "mlxnb-notice mlxnb-plain", "status")

    def fail(self, error: Exception) -> None:
        """Show an error: what happened and what to do. One that is no MlxnbError is a fault of ours, and says so."""
        if isinstance(error, MlxnbError):
            self._tell(error.message, error.remedy, "mlxnb-notice", "alert")
        else:
            self._tell(f"The panel met an error of its own: {in_words(error)}", "", "mlxnb-notice", "alert")

    def do(self, work: Callable[[], object]) -> None:
        """Run what a click asks for: it holds the lock, and its errors are shown in the panel."""
        with self.lock:
            if self.closed:
                return
            try:
                self.say("")
                work()
            except Exception as err:  # noqa: BLE001 - the edge: ipywidgets would only log it where nobody looks
                self.fail(err)

    def keep_picture(self) -> None:
        """Bring the still picture up to date: after something that a reader of the notebook should see."""
        self._still.update(*self._picture())

    @property
    def running(self) -> bool:
        """Whether something that the panel began is under way."""
        with self.lock:
            return not self.closed and any(work.running for work in self.works)

    def wait(self) -> None:
        """Wait, in a cell, until what the panel has under way is done and shown. An interrupt ends the waiting only."""
        while self.running:
            time.sleep(INTERVAL)

    def close(self) -> None:
        """Take the panel off every page and give back what it held. Closing twice is harmless."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self._leave()
            self.leave()
            close_all(self.view)

    def leave(self) -> None:
        """Stop what the panel has under way, as it is being closed."""

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _glance(self) -> bool:
        with self.lock:
            if self.closed:
                return False
            self._light.value = light_html(light(self.engine))
            self.glance()
        return True

    def _tell(self, text: str, remedy: str, kind: str, role: str) -> None:
        body = f"{html.escape(one_row(text))} {html.escape(one_row(remedy))}".strip()
        with self.lock:
            if not self.closed:
                self._notice.value = f'<div class="{kind}" role="{role}">{body}</div>' if body else ""

    def _picture(self) -> tuple[str, str]:
        dot = light(self.engine)
        page, text = self.picture()
        own = f"<style>{self.css}</style>" if self.css else ""
        head = f'{own}<div class="mlxnb-title">{html.escape(self.title)}</div>'
        return head + page, f"{self.title} · {light_text(dot)}\n{text}".rstrip()

    def _ipython_display_(self) -> None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None or self.closed:
            print(repr(self))
            return
        self._still.show(shell.display_pub, *self._picture(), self.view)

    def __repr__(self) -> str:
        return f"{self.title} panel, closed" if self.closed else self._picture()[1]


def styled(widget: w.DOMWidget, *classes: str) -> Any:
    """`widget`, with CSS classes."""
    for name in classes:
        widget.add_class(name)
    return widget


def close_all(widget: w.Widget) -> None:
    """Close a widget and all that it holds: ipywidgets keeps each by its id until then."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for part in ("layout", "style"):
        owned = getattr(widget, part, None)
        if isinstance(owned, w.Widget):
            owned.close()
    widget.close()


def callback(method: Callable[..., Any]) -> Callable[..., None]:
    """A panel's method as a callback of a widget; see `Panel.do`."""

    @functools.wraps(method)
    def called(panel: Panel, *_: Any) -> None:
        panel.do(lambda: method(panel))

    return called
