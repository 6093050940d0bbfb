"""What macOS tells of its GPU and of heat without being root: the IORegistry's counters, and the thermal state."""

from __future__ import annotations

import ctypes
import plistlib
import subprocess
from collections.abc import Callable
from xml.parsers.expat import ExpatError

IOREG = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator", "-a")
FOUNDATION = "/System/Library/Frameworks/Foundation.framework/Foundation"

# NSProcessInfoThermalState, as Apple's documentation names its values.
THERMAL = ("nominal", "fair", "serious", "critical")


def accelerator(run: Callable[[], bytes] | None = None) -> tuple[float | None, int | None]:
    """(share of time in which the GPU was busy, bytes of memory that it has in use), None where it does not tell.

    `run` gives what ioreg prints.
    """
    return counters((run or _ioreg)())


def counters(printed: bytes) -> tuple[float | None, int | None]:
    """The same out of a property list as ioreg prints it, of the accelerator that is busiest."""
    try:
        entries = plistlib.loads(printed) if printed else []
    except (plistlib.InvalidFileException, ExpatError, ValueError):
        return None, None
    found = [entry.get("PerformanceStatistics") for entry in entries if isinstance(entry, dict)]
    told = [each for each in found if isinstance(each, dict)]
    busy = [value for each in told if isinstance(value := each.get("Device Utilization %"), int)]
    used = [value for each in told if isinstance(value := each.get("In use system memory"), int)]
    return (max(busy) / 100 if busy else None), max(used, default=None)


def _ioreg() -> bytes:
    try:
        return subprocess.run(IOREG, capture_output=True, timeout=2, check=False, close_fds=False).stdout
    except (OSError, subprocess.SubprocessError):
        return b""


def thermal_state() -> Callable[[], str | None] | None:
    """What tells the system's word for heat, through NSProcessInfo; None where there is no such thing."""
    try:
        ctypes.CDLL(FOUNDATION)
        objc = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
    except OSError:
        return None
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
    send = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
    number = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
    info = send(objc.objc_getClass(b"NSProcessInfo"), objc.sel_registerName(b"processInfo"))
    selector = objc.sel_registerName(b"thermalState")
    return lambda: _word(number(info, selector)) if info else None


def _word(state: int) -> str | None:
    return THERMAL[state] if 0 <= state < len(THERMAL) else None
