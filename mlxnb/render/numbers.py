"""How numbers read: three significant figures, thin spaces in thousands, and always a unit."""

from __future__ import annotations

import math

# U+202F, the thin space that does not break across lines.
THIN = "\u202f"
MISSING = "–"


def count(number: int) -> str:
    """A whole number, exactly: 12 345."""
    return f"{number:,}".replace(",", THIN)


def plural(number: int, noun: str) -> str:
    """A count with its noun: 1 token, 48 tokens."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def significant(number: float) -> str:
    """A measured number to three significant figures, without trailing zeros: 38.4, 212, 12 300, −1.2."""
    if not math.isfinite(number):
        return MISSING
    if number < 0:
        return f"−{significant(-number)}"
    if number == 0:
        return "0"
    if abs(number) >= 1e15:
        return f"{number:.3g}"
    rounded = round(number, 2 - math.floor(math.log10(abs(number))))
    return count(int(rounded)) if abs(rounded) >= 1000 else f"{rounded:g}"


def rate(per_second: float) -> str:
    """Tokens per second: 212 tok/s."""
    return f"{significant(per_second)} tok/s"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 412 µs, 38 ms, 3.1 s, 2 min 5 s, 1 h 20 min."""
    if not math.isfinite(seconds):
        return MISSING
    # The limits lie where rounding to three figures would give 1 000 of the smaller unit, or 60 s.
    if 0 < seconds < 0.0009995:
        return f"{significant(seconds * 1e6)} µs"
    if seconds < 0.9995:
        return f"{significant(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{significant(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{count(whole // 3600)} h {whole % 3600 // 60} min"


def size(number: float) -> str:
    """Bytes in decimal units: 7.6 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 999.5:
            return f"{significant(number)} {unit}"
        number /= 1000
    return f"{significant(number)} TB"
