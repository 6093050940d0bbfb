"""What holds for the KV states of both backends, and how a test feeds a model and looks into a state."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mlxnb.cache import HostArray
from tests.tiny import VOCABULARY

TOKENS = st.integers(5, VOCABULARY - 1)
LONGEST = 40  # tokens of a prompt: past the tiny models' window of 12 by more than another one


Stored = tuple[dict[str, HostArray], dict[str, str]]


class Fed(ABC):
    """A loaded model whose states a test feeds by hand. `window`: its sliding window, None without one."""

    states: Any
    window: int | None = None
    recurrent = False

    @abstractmethod
    def fresh(self) -> Any:
        """A state without tokens."""

    @abstractmethod
    def feed(self, state: Any, tokens: Sequence[int]) -> int:
        """Feed tokens in one piece; the greedy next one."""

    @abstractmethod
    def seen(self, state: Any) -> list[np.ndarray]:
        """All numbers that the next token can depend on, in the order of positions."""

    def prefill(self, tokens: Sequence[int], pieces: Sequence[int] = ()) -> Any:
        """A state of `tokens`, fed in pieces of these lengths and the rest one by one."""
        state, start = self.fresh(), 0
        for piece in (*pieces, *[1] * len(tokens)):
            if start < len(tokens):
                self.feed(state, tokens[start : start + piece])
            start += piece
        return state

    def greedy(self, state: Any, tokens: Sequence[int], number: int = 6) -> list[int]:
        """What the model says after `tokens`; the state is fed with them and that."""
        said = [self.feed(state, tokens)]
        while len(said) < number:
            said.append(self.feed(state, said[-1:]))
        return said


class Examples:
    """Prompts, the pieces they are fed in, where they are cut, and how they go on."""

    tokens = st.lists(TOKENS, min_size=2, max_size=LONGEST)
    pieces = st.lists(st.integers(1, 20), max_size=6)
    more = st.lists(TOKENS, min_size=1, max_size=15)


def bits(stored: Stored) -> dict[str, Any]:
    """A state in host memory as a value to compare, every bit of it."""
    arrays, meta = stored
    return {**meta, **{name: (array.dtype, array.shape, bytes(array.view)) for name, array in arrays.items()}}


def same_numbers(left: list[np.ndarray], right: list[np.ndarray], tolerance: float) -> None:
    assert [a.shape for a in left] == [a.shape for a in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check_cut(fed: Fed, tokens: list[int], pieces: list[int], more: list[int], length: int, tolerance: float) -> bool:
    """A cut state is a fresh prefill's and goes on like it, and the whole one does not notice; False if refused."""
    whole = fed.prefill(tokens, pieces)
    before = bits(fed.states.arrays(whole))
    part = fed.states.trim(whole, length)
    if part is None:
        return False
    assert fed.states.length(part) in (length, None)
    stored = fed.states.state(*fed.states.arrays(part))
    assert bits(fed.states.arrays(stored)) == bits(fed.states.arrays(part))
    fresh = fed.prefill(tokens[:length], pieces)
    same_numbers(fed.seen(part), fed.seen(fresh), tolerance)
    expected = fed.greedy(fresh, more)
    assert fed.greedy(part, more) == expected
    assert fed.greedy(stored, more) == expected
    assert bits(fed.states.arrays(whole)) == before
    return True


def check_copies(fed: Fed, tokens: list[int], pieces: list[int], more: list[int], other: list[int]) -> None:
    """Copies are alike to the bit, go on as if the prompt had been fed anew, and never change one another."""
    whole = fed.prefill(tokens, pieces)
    before = bits(fed.states.arrays(whole))
    first, second = fed.states.copy(whole), fed.states.copy(whole)
    stored = fed.states.state(*fed.states.arrays(whole))
    assert bits(fed.states.arrays(first)) == bits(fed.states.arrays(stored)) == before
    expected = [fed.greedy(fed.prefill(tokens, pieces), prompt) for prompt in (other, more)]
    # By turns: what one writes must not be what the other reads later.
    said = [[fed.feed(first, other)], [fed.feed(second, more)]]
    for _ in expected[0][1:]:
        for state, words in zip((first, second), said, strict=True):
            words.append(fed.feed(state, words[-1:]))
    assert said == expected
    assert bits(fed.states.arrays(whole)) == before
    assert fed.states.nbytes(whole) > 0
    assert bits(fed.states.arrays(whole)) == before  # weighing changes nothing that can be seen
    assert fed.greedy(stored, more) == expected[1]
    assert fed.greedy(whole, more) == expected[1]


def check_empty(fed: Fed) -> None:
    """A state without tokens, or cut to none, is what a prompt can start from; feeding a copy leaves it empty."""
    prompt = list(range(40, 60))
    expected = fed.greedy(fed.fresh(), prompt)
    empty = fed.fresh()
    assert fed.states.length(empty) == 0
    assert fed.states.nbytes(empty) == 0
    assert fed.greedy(fed.states.copy(empty), prompt) == expected
    assert fed.states.length(empty) == 0
    used = empty
    assert fed.greedy(used, prompt) == expected
    if fed.states.cuttable:
        assert fed.greedy(fed.states.trim(used, 0), prompt) == expected


def damaged(stored: Stored) -> dict[str, Stored]:
    """A state's arrays and words, wrong in each of many ways, by what is wrong with them."""
    arrays, meta = stored
    name = sorted(arrays)[0]
    array = arrays[name]
    layers = json.loads(meta["layers"])
    longer = np.concatenate([array.data, array.data])
    wrong: dict[str, Stored] = {
        "no words": (arrays, {}),
        "no JSON": (arrays, {"layers": "{"}),
        "nested": (arrays, {"layers": "[" * 100_000}),
        "no list": (arrays, {"layers": '{"kind": "KVCache"}'}),
        "no array": ({n: a for n, a in arrays.items() if n != name}, meta),
        "no arrays": ({}, meta),
        "an array more": ({**arrays, "0.more": array}, meta),
        "an array of no layer": ({**arrays, f"{len(layers)}.keys": array}, meta),
        "an array by another name": ({**arrays, "00.keys": array}, meta),
        "a shape": ({**arrays, name: HostArray(array.dtype, (*array.shape[:-1], array.shape[-1] * 2), longer)}, meta),
        "a batch": ({**arrays, name: HostArray(array.dtype, (2, *array.shape[1:]), longer)}, meta),
        "fewer bytes": ({**arrays, name: HostArray(array.dtype, array.shape, array.data[:-1])}, meta),
        "a type": ({**arrays, name: HostArray("I32", array.shape, array.data)}, meta),
        "an unknown type": ({**arrays, name: HostArray("F4", array.shape, array.data)}, meta),
    }
    for label, change in {
        "a layer less": layers[:-1],
        "a layer more": [*layers, layers[-1]],
        "a kind": [{**layers[0], "kind": "os.system"}, *layers[1:]],
        "no kind": [{n: v for n, v in layers[0].items() if n != "kind"}, *layers[1:]],
        "a word more": [{**layers[0], "__class__": 1}, *layers[1:]],
        "no dictionary": [1, *layers[1:]],
    }.items():
        wrong[label] = (arrays, {"layers": json.dumps(change)})
    for i, layer in enumerate(layers):
        for count in set(layer) - {"kind"}:
            for value in (layer[count] + 1, -1, True, 1.5, "1", None, 2**70):
                changed = copy.deepcopy(layers)
                changed[i][count] = value
                wrong[f"{count} of layer {i} is {value!r}"] = (arrays, {"layers": json.dumps(changed)})
    return wrong
