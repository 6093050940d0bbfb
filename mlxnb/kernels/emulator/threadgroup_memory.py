"""Threadgroup variables inside functions: each becomes a reference to memory that the runner hands out."""

from __future__ import annotations

from .tokens import RefusedError, Tokens


def place_variables(tokens: Tokens, start: int, stop: int) -> None:
    """Rewrite `threadgroup float a[32], b;` between two positions, wherever a statement begins with it.

    Raises:
        RefusedError: `threadgroup` on something that is neither such a statement nor a pointer, reference or cast; it
            must never become a private variable in silence.
    """
    at = start + 1
    while at < stop:
        if tokens.original(at) == "threadgroup":
            end = _end_of_variables(tokens, at, stop) if _begins_statement(tokens, at) else None
            if end is not None:
                _declare(tokens, at, end)
                at = end
            elif not _points(tokens, at, stop):
                words = " ".join(tokens.original(k) for k in range(at, at + 4))
                raise RefusedError(f"no threadgroup variable can be declared in '{words}'", *tokens.place(at))
        at += 1


def _begins_statement(tokens: Tokens, at: int) -> bool:
    return tokens.original(at - 1) in (";", "{", "}", ")", "else", "static", ":")


def _end_of_variables(tokens: Tokens, at: int, stop: int) -> int | None:
    """The `;` of a declaration of variables; None if it declares a pointer, a reference or an initial value."""
    depth, at = 0, at + 1
    while at < stop and tokens.word(at) != ";":
        word = tokens.word(at)
        if depth == 0 and word in ("*", "&", "=", "&&"):
            return None
        depth += tokens.angle(at)
        at = tokens.after(at)
    return at if at < stop else None


def _points(tokens: Tokens, at: int, stop: int) -> bool:
    depth, at = 0, at + 1
    while at < stop:
        if depth == 0 and tokens.original(at) in "*&();,={}":
            break
        depth += tokens.angle(at)
        if depth < 0:
            break
        at += 1
    return tokens.original(at) in ("*", "&", ")", ">")


def _declare(tokens: Tokens, start: int, end: int) -> None:
    """The declaration becomes a type's, and a reference to memory of that type follows it."""
    names = []
    for position in _declared(tokens, start, end):
        names.append(tokens.word(position))
        tokens[position].text = f"mlxnb_type_{names[-1]}"
    tokens[start].text = "typedef"
    tokens[end].text = ";" + "".join(
        f" static const char mlxnb_key_{name} = 0;"
        f' mlxnb_type_{name}& {name} = msl::threadgroup_variable<mlxnb_type_{name}>(&mlxnb_key_{name}, "{name}");'
        for name in names
    )


def _declared(tokens: Tokens, start: int, end: int) -> list[int]:
    """Positions of the names that are declared: the last name before each `,`, `[` or the end."""
    names, last, depth, at = [], None, 0, start + 1
    while at < end:
        word = tokens.word(at)
        if depth == 0 and word in (",", "[") and last is not None:
            names.append(last)
            last = None
        elif depth == 0 and tokens[at].kind == "name" and word:
            last = at
        depth += tokens.angle(at)
        at = tokens.after(at)
        while word == "[" and tokens.word(at) == "[":  # the further extents of an array
            at = tokens.after(at)
    return names if last is None else [*names, last]
