"""Puts the Dispatcher where mlx-lm's attention stands, in every module that holds it, and restores exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

from ..decision import Accepted, Decision, Rejected
from ..errors import PatchError
from ..quiet import import_transformers
from .dispatch import Dispatcher, Tuner

NAME = "scaled_dot_product_attention"
SUBJECT = "attention kernels"

_active: Dispatcher | None = None
_patches: list[Patch] = []  # those not undone, in the order they were made


def active() -> Dispatcher | None:
    """The Dispatcher in place, or None."""
    return _active


class Patch:
    """What `patch_mlx_lm` did, a context manager. The last one that was not undone holds; without one, mlx-lm's own."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def __enter__(self) -> Dispatcher:
        return self.dispatcher

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.undo()

    def undo(self) -> None:
        """Take this patch back, in whatever order; twice is harmless."""
        if self not in _patches:
            return
        _patches.remove(self)
        wanted = _patches[-1].dispatcher if _patches else None
        if wanted is not _active:
            _remove()
            if wanted is not None:
                _install(wanted)


def patch_mlx_lm(*, tuner: Tuner | None = None, strict: bool = False) -> Patch:
    """Send the attention of every mlx-lm model, loaded before or after, through a Dispatcher.

    It replaces the function in each `mlx_lm` module that holds it; modules imported later take it from `base`. Works
    while it is patched already: with other options the new Dispatcher takes over until this Patch is undone.

    Args:
        tuner: where choices come from; by default measurements on this machine, remembered.
        strict: raise where no path of ours works, instead of using stock.

    Raises:
        PatchError: mlx-lm is not installed, or something else replaced its attention.
    """
    base = _base()
    before = _active
    if before is not None and tuner is None and strict == before.strict:
        return _made(before)
    entry = getattr(base, NAME)
    if isinstance(entry, Dispatcher) and entry is not before:  # someone took off a patch that they had put over ours
        _rebind(entry, entry.stock)
        entry = entry.stock
    if entry is not before and getattr(entry, "__module__", None) != base.__name__:
        owner = getattr(entry, "__module__", None) or type(entry).__module__
        raise PatchError(
            f"mlx-lm's attention was already replaced by {owner}.", "Undo that first; both cannot be there."
        )
    from .tune import Measured

    dispatcher = Dispatcher(tuner if tuner is not None else Measured(), strict)
    if before is not None:
        _remove()
    _install(dispatcher)
    return _made(dispatcher)


def unpatch_mlx_lm() -> Decision:
    """Bring mlx-lm's own attention back, however deep it was patched; Rejected where it was not."""
    if _active is None:
        return Rejected(SUBJECT, "attention is not patched", "%patch_kernels on")
    base = _base()
    foreign = getattr(base, NAME) is not _active
    _patches.clear()
    _remove()
    if foreign:
        return Accepted(SUBJECT, f"ours is off; {getattr(base, NAME).__module__} replaced it meanwhile and stays")
    return Accepted(SUBJECT, "mlx-lm's own attention is back")


@contextmanager
def unpatched() -> Iterator[None]:
    """mlx-lm's own attention for a while; what was patched is back afterwards."""
    before = _active
    if before is not None:
        _remove()
    try:
        yield
    finally:
        if before is not None:
            _install(before)


def _made(dispatcher: Dispatcher) -> Patch:
    _patches.append(Patch(dispatcher))
    return _patches[-1]


def _base() -> ModuleType:
    try:
        import_transformers()  # mlx-lm would import it aloud
        from mlx_lm.models import base
    except ImportError as err:
        raise PatchError("mlx-lm is not installed here, so there is nothing to patch.", "pip install mlx-lm") from err
    return base


def _install(dispatcher: Dispatcher) -> None:
    global _active
    dispatcher.active = True
    _rebind(dispatcher.stock, dispatcher)
    _active = dispatcher


def _remove() -> None:
    global _active
    assert _active is not None
    _active.active = False
    _rebind(_active, _active.stock)
    _active = None


def _rebind(old: Any, new: Any) -> None:
    """Replace an object in the namespaces of all loaded mlx-lm modules, under whatever name they hold it."""
    for name, module in list(sys.modules.items()):
        if name == "mlx_lm" or name.startswith("mlx_lm."):
            for attribute, value in list(vars(module).items()):
                if value is old:
                    setattr(module, attribute, new)
