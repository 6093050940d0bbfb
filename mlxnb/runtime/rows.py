"""The rows of what a person has: a column, a frame, a list or anything else that can be gone through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

from ..errors import MlxnbError, OptionError, in_words
from ..frames import kind_of
from ..request import Request

TAKES = "Give a column, a frame, a list, or anything else that rows come from."


# More rows than this come from something without an end.
MOST = 1_000_000


class Rows(NamedTuple):
    """`cells` holds each row: a value, or a Row of a frame. `labels` name them: their index, keys, or positions.

    `spent` tells that they came from something that gives its rows but once, as a generator does.
    """

    cells: list[Any]
    labels: Sequence[Any]
    spent: bool = False


class Row:
    """One row of a frame: `row.x`, or `row["x"]` for a name that is no Python name. A missing value is None."""

    __slots__ = ("_cells",)

    def __init__(self, cells: Mapping[Any, Any]) -> None:
        self._cells = {str(name): None if is_missing(cell) else cell for name, cell in cells.items()}

    def __getitem__(self, name: str) -> Any:
        return self._cells[str(name)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._cells:
            raise AttributeError(f"There is no column {name!r} among {', '.join(self._cells)}.")
        return self._cells[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __str__(self) -> str:
        """Its cells, each on a line after its name."""
        return "\n".join(f"{name}: {cell}" for name, cell in self._cells.items() if cell is not None)

    def __repr__(self) -> str:
        return f"Row({self._cells!r})"


def rows_of(value: Any, what: str = "rows") -> Rows:
    """The rows of a value, which is gone through once. A mapping's are its values, under its keys.

    Raises:
        OptionError: it has none, has no end, or failed on the way.
    """
    kind = kind_of(value)
    if kind == "polars.LazyFrame":
        raise OptionError(f"{what} is a LazyFrame.", "Give what its collect() gives.")
    if kind in ("pandas.DataFrame", "polars.DataFrame"):
        names = list(map(str, value.columns))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise OptionError(f"{what} has two columns by the name {twice[0]!r}.", "Give one of them another name.")
        lines = value.itertuples(index=False, name=None) if kind.startswith("pandas") else value.iter_rows()
        cells: list[Any] = [Row(dict(zip(names, line, strict=True))) for line in lines]
        return Rows(cells, list(value.index) if kind.startswith("pandas") else range(len(cells)))
    if kind == "pandas.Series":
        return Rows(list(value), list(value.index))
    if isinstance(value, Mapping):
        return Rows(list(value.values()), list(value))
    if isinstance(value, str | bytes | Request | Row) or not isinstance(value, Iterable):
        raise OptionError(f"{what} is a {type(value).__name__}, which has no rows.", TAKES)
    cells = _gone_through(value, what)
    return Rows(cells, range(len(cells)), isinstance(value, Iterator))


def _gone_through(value: Iterable[Any], what: str) -> list[Any]:
    cells: list[Any] = []
    try:
        for cell in value:  # in Python's own loop, which an interrupt gets through to
            if len(cells) == MOST:
                raise OptionError(f"{what} has more than {MOST:,} rows, if it ends at all.", "Take a part of it.")
            cells.append(cell)
    except MlxnbError:
        raise
    except Exception as err:  # a person's own generator, which may raise anything
        remedy = "Mend it, and make it anew: what it gave is gone from it." if isinstance(value, Iterator) else TAKES
        after = f"{len(cells)} row{'s' * (len(cells) != 1)}"
        raise OptionError(f"{what} failed after {after}: {in_words(err)}.", remedy) from err
    return cells


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NaT or NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    timed = type(value).__name__ in ("datetime64", "timedelta64")  # numpy's, which are no Numbers
    return (timed or isinstance(value, Number)) and not isinstance(value, int) and bool(value != value)
