"""Writes the swizzle members of vectors (`v.xzy`), which C++ has no shorter way to declare."""

from __future__ import annotations

from itertools import product


def swizzles() -> str:
    """The text of swizzles.inc: a macro for each width of vector, by element letters xyzw and, for three, rgb."""
    return "\n".join(f"#define MSL_SWIZZLES{width}(T) {_members(width)}" for width in (2, 3, 4)) + "\n"


def _members(width: int) -> str:
    indices = [i for length in (2, 3, 4) for i in product(range(width), repeat=length)]
    members = [f"swizzle<T,{width},{','.join(map(str, i))}> {_name('xyzw', i)};" for i in indices]
    if width >= 3:
        members += [f"swizzle<T,{width},{i},{j},{k}> {_name('rgba', (i, j, k))};" for i, j, k in ((0, 1, 2), (2, 1, 0))]
    return " ".join(members)


def _name(letters: str, indices: tuple[int, ...]) -> str:
    return "".join(letters[i] for i in indices)
