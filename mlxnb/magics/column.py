"""Where the answers of a table go: a variable, or a column of a frame, aligned to the rows that were asked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from ..errors import OptionError
from ..frames import kind_of
from ..render.numbers import plural
from .line import check_name
from .variables import path_of, variable

REMEDY = "It takes a variable's name, or a column: df.answer."


class Column:
    """The place that `--into` names for the answers to `source`, checked before anything is asked.

    Raises:
        OptionError: it is no such place, or the rows cannot be laid beside its own.
    """

    def __init__(
        self, into: str, source: Any, labels: Sequence[Any], names: Mapping[str, Any], push: Callable[[Any], object]
    ) -> None:
        self._name, keys = path_of(into, "--into")
        check_name(self._name, REMEDY)
        self._push, self._labels = push, labels
        self._as_mapping = isinstance(source, Mapping)
        self._column = keys[0] if keys else None
        if len(keys) > 1 or not isinstance(self._column, str | None):
            raise OptionError(f"--into is {into!r}.", REMEDY)
        if self._column is None:
            return
        self._holder = variable(self._name, names, "--into")
        kind = kind_of(self._holder)
        self._put = {"pandas.DataFrame": self._pandas, "polars.DataFrame": self._polars}.get(kind)
        if self._put is None and isinstance(self._holder, MutableMapping):
            self._put = self._mapping
        if self._put is None:
            what = f"{self._name} is a {type(self._holder).__name__}"
            raise OptionError(f"--into is {into!r}, and {what}, which takes no column.", REMEDY)
        self._index = source.index if kind_of(source).startswith("pandas") else None
        if kind == "pandas.DataFrame":
            self._check_index()
        elif kind == "polars.DataFrame":
            self._check_length(self._holder.height)

    def put(self, answers: list[Any], texts: list[str | None]) -> None:
        """Put the answers there: as they are into a variable, as text into a column, which is made or replaced."""
        if self._column is not None:
            assert self._put is not None
            self._put(texts)
        elif self._as_mapping:
            self._push({self._name: dict(zip(self._labels, answers, strict=True))})
        else:
            self._push({self._name: answers})

    def _pandas(self, texts: list[str | None]) -> None:
        pandas = importlib.import_module("pandas")
        index = self._holder.index
        if self._index is None or self._index.equals(index):
            # By position: labels may be there twice.
            self._holder[self._column] = pandas.Series(texts, index=index, dtype=_dtype(texts)).array
            return
        made = pandas.Series(texts, index=self._index, dtype=_dtype(texts))
        self._holder[self._column] = made.reindex(index).array

    def _polars(self, texts: list[str | None]) -> None:
        polars = importlib.import_module("polars")
        column = polars.Series(self._column, texts, dtype=polars.String)
        self._push({self._name: self._holder.with_columns(column)})  # a frame never changes: the variable does

    def _mapping(self, texts: list[str | None]) -> None:
        self._holder[self._column] = texts

    def _check_index(self) -> None:
        own = self._holder.index
        if self._index is None:
            self._check_length(len(own))
        elif not self._index.equals(own):
            if not self._index.is_unique:
                twice = self._index[self._index.duplicated()].tolist()[0]
                raise OptionError(
                    f"--into {self._name}: the rows' index is not that of {self._name}, and holds {twice!r} twice.",
                    "Take rows whose labels are there once, or all rows of the frame itself.",
                )
            if len(own) and not own.isin(self._index).any():
                raise OptionError(
                    f"--into {self._name}: no label of the rows is in the index of {self._name}.",
                    "Take rows of the frame itself, or a list, which goes by position.",
                )

    def _check_length(self, rows: int) -> None:
        if len(self._labels) != rows:
            asked = plural(len(self._labels), "row")
            raise OptionError(
                f"--into {self._name}: {asked} would go beside {rows} of {self._name}.",
                "Take as many rows as the frame has, or put the answers into a variable of their own.",
            )


def _dtype(texts: list[str | None]) -> Any:
    """Left to pandas where there is text; a column that holds none yet is one of objects, into which text goes."""
    return None if any(text is not None for text in texts) else object
