"""Names that a kernel's arrays and template arguments may have."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CPP = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const
constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit export extern false
float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private
protected public register reinterpret_cast return short signed sizeof static static_assert static_cast struct switch
template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t
while xor xor_eq
"""
_METAL = "bfloat constant device fragment half kernel thread threadgroup threadgroup_imageblock vertex"
KEYWORDS = frozenset([*_CPP.split(), *_METAL.split()])


def identifier(name: str) -> str:
    """The name, if an array or a template argument can have it.

    Raises:
        ValueError: C++ takes no such name, or it is a word of the language.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(
            f"[metal_kernel] {name!r} cannot be the name of an array. A name has letters, digits and underscores, "
            "and does not begin with a digit."
        )
    if name in KEYWORDS:
        raise ValueError(f"[metal_kernel] {name!r} cannot be the name of an array: it is a word of the language.")
    return name


def once_each(names: Iterable[str]) -> None:
    """Whether no two things have one name.

    Raises:
        ValueError: two have.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"[metal_kernel] Two arguments of the kernel are called {name!r}. Arrays, their _shape, _strides and "
                "_ndim, template arguments and Metal's own such as thread_position_in_grid share one set of names."
            )
        seen.add(name)
