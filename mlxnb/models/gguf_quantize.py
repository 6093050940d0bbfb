"""Quantises a GGUF file by llama.cpp's own code, which has the K-quants and their mixtures."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import UnsupportedModelError
from .llama_library import library

# What llama.cpp calls them, by the numbers of its llama_ftype.
BY_LLAMA_CPP: Mapping[str, int] = {
    "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q4_k_m": 15, "q4_k_s": 14, "q3_k_m": 12, "q2_k": 10,
}  # fmt: skip


def quantise_file(file: Path, kind: str) -> None:
    """Replace a GGUF file of floats by a quantised one.

    Raises:
        UnsupportedModelError: llama.cpp could not.
    """
    llama = library()
    made = file.with_name(f"{file.name}.quantised")
    params = llama.module.llama_model_quantize_default_params()
    params.ftype = BY_LLAMA_CPP[kind]
    try:
        with llama.listening():
            code = llama.module.llama_model_quantize(os.fsencode(file), os.fsencode(made), ctypes.byref(params))
        if code != 0:
            reason = llama.complaint() or f"code {code}"
            raise UnsupportedModelError(f"llama.cpp could not quantise it to {kind}: {reason}.", "Take q8_0 or q4_0.")
        os.replace(made, file)
    finally:
        made.unlink(missing_ok=True)
