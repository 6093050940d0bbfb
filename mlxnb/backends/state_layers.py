"""How a KV state lies in host memory, whichever backend made it: a kind and counts for each layer, arrays by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..cache.states import WIDTHS, HostArray

_LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class HostLayer:
    """One layer's part of a state. `counts`: whole numbers from 0 on, such as how many tokens it has seen."""

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, HostArray] = field(default_factory=dict)

    def array(self, name: str, shape: Sequence[int], dtypes: Collection[str]) -> HostArray:
        """The array of that name, if it is of that shape and one of those types.

        Raises:
            ValueError: it is missing or different.
        """
        found = self.arrays.get(name)
        if found is None:
            raise ValueError(
                f"A {self.kind} has no {name!r}; its arrays are {', '.join(sorted(self.arrays)) or 'none'}."
            )
        if tuple(found.shape) != tuple(shape) or found.dtype not in dtypes:
            wanted = f"{' or '.join(sorted(dtypes))} {tuple(shape)}"
            raise ValueError(f"{name!r} of a {self.kind} is {found.dtype} {tuple(found.shape)} where {wanted} belongs.")
        return found

    def expect_arrays(self, names: Collection[str]) -> None:
        """Check that there are these arrays and no others.

        Raises:
            ValueError: there are others.
        """
        if set(names) != set(self.arrays):
            have, want = (", ".join(sorted(n)) or "none" for n in (self.arrays, names))
            raise ValueError(f"The arrays of a {self.kind} are {have} where {want} belong.")

    def expect_counts(self, **values: int) -> None:
        """Check that counts have the values that this model gives them.

        Raises:
            ValueError: one differs or is missing.
        """
        for name, value in values.items():
            if self.counts.get(name) != value:
                raise ValueError(f"{name} of a {self.kind} is {self.counts.get(name)} where {value} belongs.")


def pack(layers: Sequence[HostLayer]) -> tuple[dict[str, HostArray], dict[str, str]]:
    """Arrays named `layer.array`, and the rest as JSON."""
    arrays = {f"{i}.{name}": array for i, layer in enumerate(layers) for name, array in layer.arrays.items()}
    return arrays, {_LAYERS: json.dumps([{"kind": layer.kind, **layer.counts} for layer in layers])}


def unpack(
    arrays: Mapping[str, HostArray], meta: Mapping[str, str], counts: Mapping[str, Collection[str]], number: int
) -> list[HostLayer]:
    """What `pack` was given, of `number` layers; `counts` has the names of the counts of each kind there is.

    Raises:
        ValueError: it is something else.
    """
    try:
        described = json.loads(meta.get(_LAYERS, "null"))
    except RecursionError as err:
        raise ValueError("The description of its layers is nested too deeply.") from err
    if not isinstance(described, list) or len(described) != number:
        found = f"{len(described)} layers" if isinstance(described, list) else "no list of layers"
        raise ValueError(f"There is {found} where this model has {number}.")
    own: list[dict[str, HostArray]] = [{} for _ in described]
    for name, array in arrays.items():
        index, _, rest = name.partition(".")
        if not (index.isascii() and index.isdigit() and str(int(index)) == index and int(index) < number and rest):
            raise ValueError(f"The array {name!r} belongs to no layer of this model.")
        if array.dtype not in WIDTHS:
            raise ValueError(f"The array {name!r} is of the unknown type {array.dtype!r}.")
        own[int(index)][rest] = array
    return [_layer(each, held, counts) for each, held in zip(described, own, strict=True)]


def _layer(described: object, arrays: dict[str, HostArray], counts: Mapping[str, Collection[str]]) -> HostLayer:
    kind = described.get("kind") if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(kind, str) or kind not in counts:
        raise ValueError(
            f"A layer is described by {described!r}; the kinds known here are {', '.join(sorted(counts))}."
        )
    numbers = {name: value for name, value in described.items() if name != "kind"}
    if set(numbers) != set(counts[kind]) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers.values()):
        raise ValueError(f"The counts of a {kind} are {numbers!r} where {', '.join(sorted(counts[kind]))} belong.")
    return HostLayer(kind, numbers, arrays)


def expect_one_length(lengths: Collection[int]) -> None:
    """Check that the layers that count tokens have seen equally many; a layer that is not in use has seen none.

    Raises:
        ValueError: they differ, so the state is of no prompt.
    """
    if len(different := set(lengths) - {0}) > 1:
        raise ValueError(f"The layers hold different numbers of tokens: {', '.join(map(str, sorted(different)))}.")
