"""The one engine of this process; not kept in `mlxnb` itself, because `%reload_ext mlxnb` runs that module anew."""

from __future__ import annotations

import atexit
from threading import Lock

from .engine import Engine

_engine: Engine | None = None
_lock = Lock()


def shared_engine() -> Engine:
    """The process's engine, made on first use, and made anew after it was closed or in a fork."""
    global _engine
    with _lock:
        if _engine is None or _engine.closed:
            _engine = Engine()
            atexit.register(_engine.close)
        return _engine


def close_shared_engine() -> None:
    """Close it, if there is one, once what it is doing is done."""
    with _lock:
        engine = _engine
    if engine is not None:
        engine.close()
