"""How near a model comes to itself in float32 on torch: every dtype and quantisation, on either backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxnb.errors import UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.request import Precision

BACKENDS = ("torch", "mlx")
DTYPES = ("float32", "bfloat16", "float16")
KINDS = (None, "int8", "int4")
ONLY_TORCH = {"qwen3-untied-bias"}  # mlx-lm's Qwen3 has no place for attention biases
IDS = [int(i) for i in np.random.default_rng(0).integers(5, 4000, 40)]


@dataclass(frozen=True)
class Closeness:
    """Of the logits for IDS: how far off they are as a share of their length, and the mean KL divergence in nats of the
    next token's distribution from the exact one.
    """

    off: float
    kl: float

    @classmethod
    def of(cls, got: np.ndarray, exact: np.ndarray) -> Closeness:
        """Of logits [tokens, vocabulary] to exact ones."""
        here, there = (_log_softmax(each.astype(np.float64)) for each in (got, exact))
        off = np.linalg.norm(got.astype(np.float64) - exact) / np.linalg.norm(exact)
        return cls(float(off), float((np.exp(there) * (there - here)).sum(-1).mean()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def loaded(backend: str, path: Path, dtype: str | None, kind: str | None) -> Any:
    """The model in a folder as a backend loads it."""
    import torch

    from mlxnb.backends import default_backends

    model = default_backends()[backend].load(ModelSource("tiny", path, "path"), Precision(dtype, kind))
    torch.set_num_threads(1)
    return model


def logits(backend: str, inner: Any) -> np.ndarray:
    """Those of a backend's own model for IDS, [tokens, vocabulary] in float32."""
    if backend == "mlx":
        import mlx.core as mx

        return np.array(inner(mx.array([IDS]))[0].astype(mx.float32))
    import torch

    with torch.inference_mode():
        return inner(input_ids=torch.tensor([IDS])).logits[0].float().numpy()


def precisions(backend: str, path: Path) -> Iterator[tuple[str, str | None, Closeness]]:
    """(dtype, quantisation, closeness) for every precision in which a backend can run a model."""
    exact = logits("torch", loaded("torch", path, "float32", None).model)
    for dtype in DTYPES:
        for kind in KINDS:
            try:
                model = loaded(backend, path, dtype, kind)
            except UnsupportedModelError:
                continue
            if long_rope := getattr(model, "_long_rope", None):  # set for each prompt, which these ids are
                long_rope.set_for(len(IDS))
            assert model.info.dtype == dtype
            assert model.info.refused == ()
            assert (model.info.quantization or "none").startswith(kind or "none")
            yield dtype, kind, Closeness.of(logits(backend, model.model), exact)
            model.close()
