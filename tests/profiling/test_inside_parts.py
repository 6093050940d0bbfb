"""A ledger charges each moment once; modules are known by their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.profiling.model.inside_parts import OVERHEAD, PARTS, Ledger, part_of

KEYS = [(part, layer) for part in PARTS[:3] for layer in (None, 0)]


class Hand:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "wait"]), st.integers(0, 5), st.integers(1, 100))))
def test_parts_inside_one_another_add_up_to_the_time_that_went_by(moves):
    clock = Hand()
    ledger, open_parts = Ledger(clock), [OVERHEAD]
    expected: dict = {}
    for move, which, seconds in moves:
        if move == "enter":
            ledger.enter(KEYS[which])
            open_parts.append(KEYS[which])
        elif move == "leave" and len(open_parts) > 1:
            ledger.leave()
            open_parts.pop()
        clock.now += seconds
        expected[open_parts[-1]] = expected.get(open_parts[-1], 0) + seconds
    done = {key: spent for key, spent in ledger.cut().items() if spent}
    assert done == expected
    assert sum(ledger.cut().values()) == 0


def test_a_part_ends_also_with_an_error():
    clock = Hand()
    ledger = Ledger(clock)

    def fail():
        with ledger.part(("mlp", 3)):
            clock.now += 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    clock.now += 5
    assert ledger.cut() == {("mlp", 3): 2, OVERHEAD: 5}


@pytest.mark.parametrize(
    ("name", "kind", "leaf", "part"),
    [
        ("self_attn", "Qwen3Attention", False, "attention"),
        ("attention", "GPTNeoXAttention", False, "attention"),
        ("attn", "GPT2Attention", False, "attention"),
        ("mixer", "NemotronHAttention", False, "attention"),
        ("linear_attn", "Qwen3NextGatedDeltaNet", False, "recurrent"),
        ("mixer", "Mamba2Mixer", False, "recurrent"),
        ("conv", "Lfm2ShortConv", False, "recurrent"),
        ("temporal_block", "RecurrentBlock", False, "recurrent"),
        ("mlp", "DeepseekV3MoE", False, "mlp"),
        ("feed_forward", "FalconH1MLP", False, "mlp"),
        ("block_sparse_moe", "MixtralSparseMoeBlock", False, "mlp"),
        ("fc1", "Linear", True, "mlp"),
        ("post_attention_layernorm", "RmsNorm", True, "norm"),
        ("pre_feedforward_layernorm", "Gemma3RMSNorm", True, "norm"),
        ("ln_1", "LayerNorm", True, "norm"),
        ("norm_attn_norm", "DbrxNormAttentionNorm", False, "attention"),
        ("resid_dropout", "Dropout", True, None),
    ],
)
def test_modules_are_known_by_their_names(name, kind, leaf, part):
    assert part_of(name, kind, leaf) == part
