"""Whether a model fits: the sum, its two sides in the message, and the remedy that suits the case."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import mlxnb.pocket
from mlxnb.decision import Accepted, Rejected
from mlxnb.errors import ModelTooLargeError
from mlxnb.models import Checkpoint, check_fits, fits, inspect, resolve
from mlxnb.models.fit import MARGIN_BYTES, kv_bytes

from .conftest import write_model
from .stand_in_hub import Hub
from .test_checkpoint import sparse_weights

LLAMA_8B = {"model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "hidden_size": 4096, "max_position_embeddings": 131072}  # fmt: skip


@pytest.fixture
def large(tmp_path: Path) -> Checkpoint:
    """The size of Llama-3.1-8B in 16 bits."""
    folder = write_model(tmp_path / "Llama-8B", LLAMA_8B)
    sparse_weights(folder / "model.safetensors", 16 * 10**9)
    return inspect(folder)


def test_pocket_fits_here() -> None:
    decision = fits(inspect(mlxnb.pocket.path()), tokens=1024)
    assert isinstance(decision, Accepted)
    assert decision.subject == "pocket"


def test_the_sum(large: Checkpoint) -> None:
    need = 16 * 10**9 + 131_072 * 1000 + 1.6 * 10**9 + MARGIN_BYTES
    assert fits(large, tokens=1000, free=int(need) + 1)
    assert not fits(large, tokens=1000, free=int(need) - 1)
    assert fits(large, tokens=1000, bytes_per_weight=0.5, free=6 * 10**9)
    assert not fits(large, tokens=1000, bytes_per_weight=4, free=32 * 10**9)


def test_a_rejection_has_both_numbers_and_the_remedy(large: Checkpoint) -> None:
    decision = fits(large, tokens=4096, free=8 * 10**9)
    assert isinstance(decision, Rejected)
    assert decision.reason == (
        "it needs 18.3 GB (weights 16.0 GB, KV cache for 4,096 tokens 537 MB, working space 1.8 GB) "
        "and 8.0 GB of memory is free"
    )
    assert decision.remedy == "Take a smaller or a quantised model, or close other programs."
    small = dataclasses.replace(large, quantization="4-bit, group 64")
    assert "or a quantised" not in str(fits(small, tokens=4096, free=8 * 10**9))


def test_fewer_tokens_are_offered_where_they_would_do(large: Checkpoint) -> None:
    decision = fits(large, tokens=100_000, free=20 * 10**9)
    assert isinstance(decision, Rejected)
    assert decision.remedy == "Ask for fewer tokens (about 16,784 fit), or close other programs."
    assert fits(large, tokens=16_784, free=20 * 10**9)


def test_check_fits(large: Checkpoint) -> None:
    assert check_fits(large, tokens=100, free=20 * 10**9)
    with pytest.raises(ModelTooLargeError, match=r"^Llama-8B does not fit: it needs 17.8 GB .* Take a smaller"):
        check_fits(large, tokens=100, free=10**9)


def test_five_terabytes_do_not_fit_into_this_machine(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "huge", LLAMA_8B)
    sparse_weights(folder / "model.safetensors", 5 * 10**12)
    with pytest.raises(ModelTooLargeError, match=r"weights 5\.0 TB"):
        check_fits(inspect(folder), tokens=1)


def test_a_window_bounds_the_cache(tmp_path: Path) -> None:
    config = {**LLAMA_8B, "sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"] * 16}
    checkpoint = inspect(write_model(tmp_path / "m", config))
    assert kv_bytes(checkpoint, 512) == 512 * 131_072
    assert kv_bytes(checkpoint, 8192) == (8192 + 1024) * 131_072 / 2


def test_a_model_of_the_cache_goes_by_its_repository(hub: Hub) -> None:
    assert fits(inspect(resolve("lab/tiny").path), tokens=1).subject == "lab/tiny"
