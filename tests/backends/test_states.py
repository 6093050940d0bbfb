"""KV states on both backends, copied, cut, stored and restored, go on as a fresh prefill of the same tokens does."""

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.request import Precision
from tests.backends.fed import bits, damaged, load
from tests.tiny import VOCABULARY

PLAIN = {"mlx": ["pocket", "pocket-8", "pocket-4", "deepseek-v3"], "torch": ["pocket", "deepseek-v3"]}
SLIDING = ["mistral-window", "gemma3"]
RECURRENT = {"mlx": ["qwen3-next", "falcon-h1"], "torch": ["qwen3-next", "falcon-h1", "lfm2"]}
MODELS = [(backend, name) for backend in PLAIN for name in PLAIN[backend] + SLIDING + RECURRENT[backend]]
LONGEST = 40  # tokens of a prompt: past the tiny models' window by more than another one

# Prompts, the pieces they are fed in, and how they go on.
tokens_of_all = st.integers(5, VOCABULARY - 1)
# The length first: lists of up to forty are rarely longer than ten.
prompts = st.integers(2, LONGEST).flatmap(lambda length: st.lists(tokens_of_all, min_size=length, max_size=length))
cuts = st.lists(st.integers(1, 20), max_size=6)
answers = st.lists(tokens_of_all, min_size=1, max_size=15)

# Pieces of other lengths are computed in another order; a code of a quantised cache may then be the next one.
TOLERANCE = {"pocket-8": 0.1, "pocket-4": 1.5}


@pytest.fixture(params=MODELS, ids="-".join, scope="module")
def case(request, fed):
    """A backend, a model's name, and the model."""
    return *request.param, fed(*request.param)


def only(*names):
    """These models on every backend that has them."""
    chosen = [(backend, name) for backend, name in MODELS if name in names]
    return pytest.mark.parametrize("case", chosen, ids="-".join, indirect=True)


def same_numbers(left, right, tolerance):
    assert [a.shape for a in left] == [a.shape for a in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@settings(max_examples=15)
@given(data=st.data(), tokens=prompts, pieces=cuts, more=answers)
def test_a_cut_state_is_that_of_a_fresh_prefill(case, data, tokens, pieces, more):
    """And goes on like it, and the whole one does not notice."""
    backend, name, fed = case
    length = data.draw(st.integers(1, len(tokens)))
    whole = fed.prefill(tokens, pieces)
    before = bits(fed.states.arrays(whole))
    part = fed.states.trim(whole, length)
    event(f"cut: {part is not None}")
    if length == len(tokens) or name in PLAIN[backend]:
        assert part is not None
    elif name in RECURRENT[backend]:
        assert part is None
    elif (moved_on := fed.moved_on(len(tokens))) is not None:
        assert (part is None) == moved_on
    if part is None:
        return
    assert fed.states.length(part) in (length, None)
    stored = fed.states.state(*fed.states.arrays(part))
    assert bits(fed.states.arrays(stored)) == bits(fed.states.arrays(part))
    fresh = fed.prefill(tokens[:length], pieces)
    same_numbers(fed.seen(part), fed.seen(fresh), TOLERANCE.get(name, 2e-5))
    expected = fed.greedy(fresh, more)
    assert fed.greedy(part, more) == expected
    assert fed.greedy(stored, more) == expected
    assert bits(fed.states.arrays(whole)) == before


@settings(max_examples=8)
@given(tokens=prompts, pieces=cuts, more=answers, other=answers)
def test_copies_never_change_one_another(case, tokens, pieces, more, other):
    """They are alike to the bit, and go on as if the prompt had been fed anew."""
    fed = case[2]
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


def test_an_empty_state_stays_one(case):
    """A state without tokens, or cut to none, is what a prompt can start from; feeding a copy leaves it empty."""
    fed = case[2]
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


@only("pocket", "pocket-8", "gemma3", "falcon-h1", "lfm2")
def test_what_was_damaged_is_refused(case):
    fed = case[2]
    stored = fed.states.arrays(fed.prefill(list(range(20, 40)), [20]))
    fed.states.state(*stored)
    for what, (arrays, meta) in damaged(stored).items():
        with pytest.raises((ValueError, KeyError, TypeError)):
            pytest.fail(f"{what}: {fed.states.state(arrays, meta)}")


@only("pocket", "gemma3", "lfm2")
def test_a_state_of_another_model_is_refused(case, fed):
    backend, name, model = case
    for other in {of for at, of in MODELS if at == backend} - {name, "pocket-8", "pocket-4"}:
        stored = fed(backend, other).states.arrays(fed(backend, other).prefill([7, 8, 9], [3]))
        with pytest.raises(ValueError):
            model.states.state(*stored)


@pytest.mark.parametrize("backend", PLAIN)
def test_bfloat16_comes_back_bit_for_bit(backend):
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[backend])
    fed = load(backend, "pocket", mlxnb.pocket.path(), Precision("bfloat16"))
    state = fed.prefill(list(range(30, 60)), [30])
    arrays, meta = stored = fed.states.arrays(state)
    assert {array.dtype for array in arrays.values()} == {"BF16"}
    assert {array.shape[2] for array in arrays.values()} == {30}  # and not the 256 rows of mlx's buffer
    assert bits(fed.states.arrays(fed.states.state(arrays, meta))) == bits(stored)
    assert fed.greedy(fed.states.state(arrays, meta), [70, 71]) == fed.greedy(state, [70, 71])


WORDS = {"pocket": "any part", "gemma3": "sliding window", "qwen3-next": "recurrent", "lfm2": "recurrent"}


@only(*WORDS)
def test_what_can_be_reused_is_said(case):
    _, name, fed = case
    said = fed.states.reusable()
    assert said
    assert WORDS[name] in said.reason
    assert fed.states.cuttable == (name == "pocket")
