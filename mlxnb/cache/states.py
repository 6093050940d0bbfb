"""What the prefix cache asks of a backend: how KV states are copied, cut, weighed, and turned into bytes and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# Bytes of one element, by safetensors' names. numpy has no bfloat16 and no float8: those are carried by their bits.
WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
          "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}  # fmt: skip
NUMPY = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
         "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8"}  # fmt: skip
BITS = {"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}


@dataclass(frozen=True, slots=True)
class HostArray:
    """An array in host memory as on disk: `dtype` by safetensors' name, `data` its bytes as uint8, row by row."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, dtype: str | None = None) -> HostArray:
        """From a numpy array; with `dtype` "BF16" (or a float8) from one that holds its bits as unsigned integers.

        Raises:
            ValueError: the array's type and `dtype` do not go together, or there is no name for it.
        """
        whole = np.ascontiguousarray(array)
        names = {np.dtype(code): name for name, code in NUMPY.items()}
        name = dtype or names.get(whole.dtype)
        if name is None or np.dtype({**NUMPY, **BITS}.get(name, "V0")) != whole.dtype:
            raise ValueError(f"An array of {whole.dtype} cannot be stored as {name}.")
        return cls(name, tuple(array.shape), whole.reshape(-1).view(np.uint8))

    def numpy(self) -> np.ndarray:
        """The array as numpy sees it, without a copy; BF16 and the float8 types as unsigned integers of their bits."""
        return self.data.view({**NUMPY, **BITS}[self.dtype]).reshape(self.shape)

    @property
    def view(self) -> memoryview:
        """Its bytes, without a copy."""
        return self.data.data

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * WIDTHS[self.dtype]


class KVStates(Protocol):
    """A backend's KV states of one loaded model. A state is opaque here, and used on the engine's thread only.

    Whatever these give back is independent: feeding tokens to it never changes another state. Storage may be shared
    where the library copies on write, so `copy` and `trim` are expected to be cheap, a refusal above all.
    """

    def nbytes(self, state: Any) -> int:
        """Bytes that the state keeps alive, unused room in its buffers included."""
        ...

    def size(self, state: Any, tokens: int) -> int:
        """About the bytes that `state`, which is without tokens, will take once it holds so many."""
        ...

    def copy(self, state: Any) -> Any:
        """A state of its own with the same content."""
        ...

    def trim(self, state: Any, length: int) -> Any | None:
        """The state of its first `length` tokens, exactly as a prefill of those would leave it; None where that cannot
        be had (a sliding window that has moved on, a recurrent layer). The given state stays as it is.
        """
        ...

    def arrays(self, state: Any) -> tuple[dict[str, HostArray], dict[str, str]]:
        """The state in host memory, with whatever words it takes to make it again."""
        ...

    def state(self, arrays: dict[str, HostArray], meta: dict[str, str]) -> Any:
        """The state that `arrays` was given.

        Raises:
            ValueError, KeyError, TypeError: these are not a state of this model.
        """
        ...


def key_of(tokens: Sequence[int]) -> bytes:
    """Token ids as bytes whose order is that of the ids: four each, the highest first.

    Raises:
        OverflowError: an id is negative or does not fit into 32 bits.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < 2**32:
        raise OverflowError("A token id is outside 0 to 4,294,967,295.")
    return ids.astype(">u4").tobytes()


def tokens_of(key: bytes) -> list[int]:
    """The token ids that a key stands for."""
    return np.frombuffer(key, ">u4").tolist()


def length_of(key: bytes) -> int:
    """How many tokens a key stands for."""
    return len(key) // 4


def common_prefix(a: bytes, b: bytes) -> int:
    """How many tokens two keys begin with in common."""
    shorter = min(len(a), len(b)) // 4
    differ = np.frombuffer(a, ">u4", shorter) != np.frombuffer(b, ">u4", shorter)
    first = int(differ.argmax()) if shorter else 0
    return first if shorter and differ[first] else shorter
