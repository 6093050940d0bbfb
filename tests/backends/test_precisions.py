"""Every family in every dtype and both kinds of quantisation, on both backends, held against float32 on torch."""

from __future__ import annotations

import pytest

from tests.tiny import FAMILIES, Maker

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

import mlxnb.pocket
from mlxnb.backends.mlx import device
from tests.backends.closeness import BACKENDS, DTYPES, KINDS, ONLY_TORCH, precisions

PAIRS = [(b, f) for f in sorted(FAMILIES) for b in BACKENDS if b == "torch" or f not in ONLY_TORCH]

# How far the logits may be off, as a share of their length. These tiny models are drawn so wide that they amplify a
# small change 6 times, and those with routers 12 times: a flipped expert is another function. One layer rounds its
# weights by 0.9 % in int8 and by 7.9 % in int4 (see torch_quantize.BOUNDS; 10 % for mlx's groups of 64), and what goes
# into it by 0.2 % in bfloat16 and 0.03 % in float16. With int4 the error is almost as long as the logits are, so what
# 4 bits really do is held by the rounded weights in test_quantised_models, and by the pocket model below. The figures
# of every family: `python -m tests.benchmarks precisions`.
OFF = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.1, "int8": 0.35, "int4": 1.0}
PRECISIONS = {(dtype, kind) for dtype in DTYPES for kind in KINDS}

# What MLX cannot compute on a CPU: products with experts in half precision.
EXPERTS, HALF = {"deepseek-v3", "deepseek-v3-plain", "qwen3-next"}, {("bfloat16", None), ("float16", None)}

# The same of the pocket model, which is trained, and the mean KL divergence of its next token in nats.
POCKET = {None: (0.02, 0.002), "int8": (0.08, 0.03), "int4": (0.3, 0.3)}


@pytest.mark.parametrize(("backend", "family"), PAIRS)
def test_logits_stay_within_bounds(checkpoint: Maker, backend: str, family: str) -> None:
    found = {(dtype, kind): near.off for dtype, kind, near in precisions(backend, checkpoint(family))}
    cannot = HALF if backend == "mlx" and family in EXPERTS and device() == "cpu" else set()
    assert PRECISIONS - set(found) == cannot
    assert {precision: off for precision, off in found.items() if not off <= OFF[precision[1] or precision[0]]} == {}
    assert all(off > 0 for (_, kind), off in found.items() if kind)  # it was rounded at all
    if family not in EXPERTS:
        assert found["float16", None] < found["bfloat16", None] < found["bfloat16", "int4"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trained_model_keeps_its_distribution(backend: str) -> None:
    for dtype, kind, near in precisions(backend, mlxnb.pocket.path()):
        off, kl = POCKET[kind]
        assert near.off < off, (dtype, kind)
        assert near.kl < kl, (dtype, kind)
