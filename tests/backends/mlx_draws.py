"""What MLX's samplers keep and draw of one set of logits, for the other backends' samplers to be held against."""

import numpy as np

from mlxnb.request import Sampling

VOCABULARY = 40
DRAWS = 4000


def logits_for(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, VOCABULARY).astype(np.float32)


def mlx_draws(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """DRAWS tokens that MLX's sampler drew."""
    import mlx.core as mx

    from mlxnb.backends.mlx import make_sampler

    mx.random.seed(11)
    rows = mx.broadcast_to(_logprobs(logits), (DRAWS, VOCABULARY))
    return np.array(make_sampler(sampling)(rows))


def kept_by_mlx_lm(logits: np.ndarray, top_p: float, min_p: float, top_k: int) -> np.ndarray:
    """Which tokens mlx-lm's own filters leave, in its order."""
    from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

    kept = _logprobs(logits)
    if 0 < top_p < 1:
        kept = apply_top_p(kept, top_p)
    if min_p:
        kept = apply_min_p(kept, min_p)
    if 0 < top_k < VOCABULARY:
        kept = apply_top_k(kept, top_k)
    return np.isfinite(np.array(kept)[0])


def check_drawn_from(expected: np.ndarray, drawn: np.ndarray) -> None:
    """Hold DRAWS tokens against the probabilities that they should come from."""
    counts = np.bincount(drawn, minlength=VOCABULARY)
    assert counts[expected == 0].sum() == 0  # nothing that one drops is drawn by the other
    spread = np.sqrt(DRAWS * expected * (1 - expected)) + 1e-9
    assert (np.abs(counts - DRAWS * expected) <= 5 * spread + 1).all()


def _logprobs(logits: np.ndarray):
    import mlx.core as mx

    return mx.array(logits)[None] - mx.logsumexp(mx.array(logits))
