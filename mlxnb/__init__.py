"""mlxnb: run, measure and speed up local language models without leaving the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .request import Message, Request, Sampling
from .result import Chunk, Provenance, Result, Speculation, Timings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from IPython.core.interactiveshell import InteractiveShell

    from .kernels.dispatch import Dispatcher
    from .profiling.report import Report
    from .profiling.shown import Wanted
    from .render.batch import BatchBar
    from .render.logprobs import LogprobsView
    from .runtime import Engine
    from .runtime.chats import Chat
    from .runtime.conversion import ConversionReport
    from .widgets.frame.panel import Panel

__version__ = "0.1.0"


def engine() -> Engine:
    """The process's engine, made on first use, and made anew after it was closed."""
    from .runtime import shared_engine
    from .runtime.conversion import ConversionReport

    ConversionReport._repr_mimebundle_ = _conversion_mimebundle  # type: ignore[attr-defined]
    made = shared_engine()
    made.bar = _bar  # `render` lies above `runtime`: as for a Result below, the tie is made here
    return made


def _bar() -> BatchBar:
    from .render.batch import BatchBar

    return BatchBar()


def chat(name: str = "chat") -> Chat:
    """The conversation of a name, the one that `%%generate --chat NAME` goes on with; a new one where there is none.

    `chat("trip").ask("Where to?")` answers; see `Chat.ask`.
    """
    return engine().chats.open(name)


def panel(name: str = "playground") -> Panel:
    """A panel with buttons over the engine, which a cell shows as its value; the one that is open, or a new one.

    Raises:
        OptionError: there is no such panel.
        BackendMissingError: ipywidgets or anywidget is not installed.
    """
    from .widgets import open_panel

    return open_panel(name)


def convert(source: str, target: str | None = None, **options: Any) -> ConversionReport:
    """Write a model in another format and say what that cost; see `Engine.convert`."""
    return engine().convert(source, target, **options)


def profile(*models: str, progress: Wanted = None, **options: Any) -> Report:
    """Profile models on this machine: what is measured, what limits them, and what to do about it.

    Args:
        *models: their names; the default model where there is none.
        progress: False for no line that says how far it is, or a function that hears it.
        **options: those of `profiling.Plan`: `quick`, `scenarios`, `prompts`, `prompt_tokens`, `max_tokens`, `runs`,
            `warmup`, `concurrency`, `sweep`, `compare`, `stress`, `limits`, `inside`; and those of `generate`, such as
            `backend` or `kv_bits`, of which one value holds for all, and a list is measured one by one. The names that
            they have on a line, such as `scenario` and `slo`, do as well.

    Raises:
        OptionError: an option that there is not, or a value that it does not take.
        MlxnbError: nothing could be measured.
    """
    from .profiling.asked import asked

    return asked(engine(), models, options, progress)


def patched_kernels(*, strict: bool = False) -> AbstractContextManager[Dispatcher]:
    """`with mlxnb.patched_kernels():` mlx-lm models take the attention path that was measured fastest.

    Raises:
        PatchError: mlx-lm is not installed, or something else replaced its attention.
    """
    from .runtime.kernels import patched_kernels as patched

    return patched(strict=strict)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext mlxnb`."""
    from .magics import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext mlxnb`."""
    from .magics import unload_ipython_extension as unload

    unload(shell)


def _mimebundle(result: Result, include: Any = None, exclude: Any = None) -> dict[str, str]:
    from .render import mimebundle

    return mimebundle(result)


def _conversion_mimebundle(report: ConversionReport, include: Any = None, exclude: Any = None) -> dict[str, str]:
    from .render.conversion import conversion_bundle

    return conversion_bundle(report)


def _logprobs_view(result: Result) -> LogprobsView:
    """The answer with its tokens shaded by their probability; hovering tells what else might have come."""
    from .render.logprobs import LogprobsView

    return LogprobsView(result)


# A Result shows itself in a notebook. `render` lies above `result`, so the tie is made here, above both.
Result._repr_mimebundle_ = _mimebundle  # type: ignore[attr-defined]
Result.logprobs_view = _logprobs_view  # type: ignore[attr-defined]

__all__ = [
    "Chunk",
    "Message",
    "Provenance",
    "Request",
    "Result",
    "Sampling",
    "Speculation",
    "Timings",
    "chat",
    "convert",
    "engine",
    "errors",
    "panel",
    "patched_kernels",
    "profile",
]
