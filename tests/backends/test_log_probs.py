"""What a backend says of every token at once: in pieces that stay small, and the same as the losses it tells."""

from __future__ import annotations

import numpy as np
import pytest

from mlxnb.backends import local
from mlxnb.errors import BackendError
from mlxnb.request import Request

TEXT = "What does itertools.chain do, and how do I call it with several lists? " * 3


def asked(engine, model, backend, function, **more):
    return engine.call_with(model, function, backend, **more)


@pytest.fixture(params=["mlx", "torch"])
def backend(request):
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[request.param])
    return request.param


@pytest.mark.parametrize("family", ["pocket", "gemma3", "mistral-window", "phi3-longrope", "qwen3-next"])
def test_pieces_agree_with_the_losses(engine, backend, family, checkpoint, monkeypatch):
    if (backend, family) == ("mlx", "qwen3-next"):
        pytest.importorskip("mlx_lm.models.qwen3_next")
    model = family if family == "pocket" else str(checkpoint(family))

    def both(loaded):
        ids = loaded.tokenizer.prompt(Request.of(TEXT, raw=True)).ids
        return ids, [np.array(piece) for piece in loaded.log_probs(ids)], loaded.losses(ids)

    monkeypatch.setattr(local, "PIECE_BYTES", 4 * 4096 * 9)  # nine positions at a time
    ids, pieces, losses = asked(engine, model, backend, both, dtype="float32")
    engine.unload(model)
    whole = family == "phi3-longrope" and backend == "torch"  # its positions depend on the length of one pass
    assert [len(piece) for piece in pieces[:-1]] == ([] if whole else [9] * ((len(ids) - 2) // 9))
    assert {piece.dtype for piece in pieces} == {np.dtype("float32")}
    rows = np.concatenate(pieces)
    assert rows.shape == (len(ids) - 1, 4096)
    assert np.exp(rows.astype(np.float64)).sum(-1) == pytest.approx(np.ones(len(rows)), abs=1e-4)
    assert -rows[np.arange(len(rows)), ids[1:]] == pytest.approx(np.array(losses), abs=2e-3)


def test_a_backend_that_cannot_says_so(engine, backend):
    with pytest.raises(BackendError, match=f"{backend} backend does not tell how likely"):
        asked(engine, "pocket", backend, lambda model: local.LocalModel.log_probs(model, [1, 2]))
