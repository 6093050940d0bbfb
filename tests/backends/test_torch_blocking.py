"""Weights in oneDNN's blocks give what torch's own give, up to rounding, and are taken only where they can be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from mlxnb.backends import torch_blocking
from mlxnb.backends.torch_blocked import BlockedLinear
from mlxnb.backends.torch_blocking import blocked, bytes_in_blocks, take_blocked

SIZES = {"hidden_size": 512, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 600}


def model(tied: bool = False, dtype: torch.dtype = torch.float32, **sizes: int):
    config = LlamaConfig(num_attention_heads=4, tie_word_embeddings=tied, **(SIZES | sizes))
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.fixture
def faster(monkeypatch):
    """Taken however fast it is here."""
    monkeypatch.setattr(torch_blocking, "FASTER", 0.0)


@settings(max_examples=40)
@given(
    rows=st.sampled_from([1, 2, 3, 16, 33]),
    width=st.sampled_from([8, 64, 129, 512]),
    outputs=st.sampled_from([1, 31, 64, 600]),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_layer_gives_what_torchs_own_does(rows, width, outputs, bias, dtype, gaps, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(width, outputs, bias=bias).to(dtype)
    x = torch.randn(1, rows, 2 * width if gaps else width).to(dtype)[..., :width]
    with torch.inference_mode():
        ours, exact = BlockedLinear(layer)(x), layer.double()(x.double())
        assert ours.dtype == dtype
        assert ours.shape == exact.shape == (1, rows, outputs)
        bound = torch.finfo(dtype).eps * (exact.abs() + x.double().abs().sum(-1, keepdim=True))
        assert ((ours.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_its_own_whatever_is_beside_it(dtype):
    torch.manual_seed(0)
    layer, x = BlockedLinear(nn.Linear(512, 600).to(dtype)), torch.randn(1, 40, 512).to(dtype)
    with torch.inference_mode():
        alone = torch.cat([layer(x[:, i : i + 1]) for i in range(40)], 1)
        for rows in (2, 7, 16, 40):
            assert torch.equal(layer(x[:, :rows]), alone[:, :rows])


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_answers_as_before(faster, tied):
    torch.manual_seed(1)
    made, ids = model(tied), torch.randint(0, 600, (1, 9))
    with torch.inference_mode():
        before = made(ids).logits
        assert take_blocked(made)
        assert torch.allclose(made(ids).logits, before, atol=1e-4)
    assert isinstance(made.model.layers[1].mlp.up_proj, BlockedLinear)
    assert isinstance(made.lm_head, BlockedLinear)
    assert bytes_in_blocks(made) == 4 * (2 * 7 * 512 * 512 + 600 * 512)
    assert made.get_input_embeddings().weight.shape == (600, 512)


def test_a_head_that_would_be_a_large_copy_stays(faster, monkeypatch):
    monkeypatch.setattr(torch_blocking.hardware, "memory_free", lambda: 8 * 600 * 512)
    made = model(tied=True)
    assert take_blocked(made)
    assert type(made.lm_head) is nn.Linear
    assert made.lm_head.weight is made.get_input_embeddings().weight


def test_small_layers_stay_beside_large_ones(faster):
    made = model(num_key_value_heads=1)
    assert take_blocked(made)
    attention = made.model.layers[0].self_attn
    assert (type(attention.k_proj), type(attention.q_proj)) == (nn.Linear, BlockedLinear)


def wrong(patch):
    class Wrong(BlockedLinear):
        def forward(self, x):
            return 1.01 * super().forward(x)

    patch.setattr("mlxnb.backends.torch_blocked.BlockedLinear", Wrong)


def missing(patch):
    class Missing(BlockedLinear):
        def __init__(self, linear):
            raise RuntimeError("no such operator")

    patch.setattr("mlxnb.backends.torch_blocked.BlockedLinear", Missing)


@pytest.mark.parametrize(
    ("change", "sizes", "reason"),
    [
        (lambda patch: patch.setattr(torch_blocking, "FASTER", 1e9), {}, "of the speed of torch's own"),
        (wrong, {}, "the results differ"),
        (missing, {}, "no such operator"),
        (lambda patch: None, {"dtype": torch.float64}, "for float32, bfloat16, float16"),
        (lambda patch: None, {"hidden_size": 64}, "no linear layer is large enough"),
    ],
)
def test_it_is_left_with_a_reason(faster, monkeypatch, change, sizes, reason):
    made = model(**sizes)
    change(monkeypatch)
    verdict = take_blocked(made)
    assert not verdict
    assert reason in verdict.reason
    assert {type(m) for m in made.modules() if isinstance(m, nn.Linear | BlockedLinear)} == {nn.Linear}


def test_a_model_that_looks_at_its_weights_is_loaded_again(faster, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward = LlamaMLP.forward

    def nosy(self, x):
        return forward(self, x.to(self.up_proj.weight.dtype))

    monkeypatch.setattr(LlamaMLP, "forward", nosy)

    made, verdict = blocked(model(), model)
    assert not verdict
    assert "the model does not run so" in verdict.reason
    assert type(made.lm_head) is nn.Linear
