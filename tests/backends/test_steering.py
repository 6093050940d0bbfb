"""The hook into every decode loop: it sees each token in order, and nothing that it forbids is ever drawn."""

import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends import masks
from mlxnb.backends.local import LocalModel
from mlxnb.backends.masks import masked
from mlxnb.backends.steering import Guide, Steered, Steering, only
from mlxnb.errors import GenerationError

BACKENDS = ("torch", "mlx", "llamacpp", "onnx")
NEEDS = {"torch": "torch", "mlx": "mlx_lm", "llamacpp": "llama_cpp", "onnx": "onnxruntime_genai"}
SIZE, LENGTH = 4096, 14
PLAIN = 70  # ids from here on are no special tokens


class Sevenths(Guide):
    """Allows the ids whose remainder by seven is the token's place in the answer, and ends it at LENGTH."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self.seen: list[int] = []
        self.own: list[int] = []  # what the model itself likes most at each place

    @property
    def over(self):
        return len(self.seen) >= LENGTH

    def allowed(self, made):
        assert list(made) == self.seen[: len(made)]
        return only(range(PLAIN + len(made) % 7, SIZE, 7), SIZE)

    def drew(self, made, logits):
        self.seen = list(made)
        self.own = [*self.own[: len(made) - 1], int(np.argmax(np.array(logits.tolist())))]


@pytest.fixture
def steered(monkeypatch):
    """Every answer is steered from now on; the guides in the order of their requests."""
    made, lock = [], threading.Lock()

    def guides(self, request, prompt, watch):
        if request.model != "pocket":
            return []
        with lock:
            made.append(Sevenths(len(prompt.ids)))
        return [made[-1]]

    monkeypatch.setattr(LocalModel, "guides", guides)
    return made


def check(guide, result):
    assert result.finish_reason == "stop"
    assert result.tokens == guide.seen
    assert len(result.tokens) == LENGTH == len(guide.own)
    assert [token % 7 for token in result.tokens] == [place % 7 for place in range(LENGTH)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 5, "top_p": 0.9, "repetition_penalty": 1.2}])
def test_nothing_that_is_forbidden_is_drawn(engine, steered, backend, options):
    pytest.importorskip(NEEDS[backend])
    asked = {"model": "pocket", "backend": backend, "max_tokens": 40, **options}
    one = engine.generate("Write a haiku about the sea.", **asked)
    check(steered[0], one)
    # The logits that it hears of are the model's own, and they would have said something else.
    assert steered[0].own != one.tokens
    again = engine.generate("Write a haiku about the sea.", **asked)
    assert again.tokens == one.tokens


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_answer_stops_at_its_limit_all_the_same(engine, steered, backend):
    pytest.importorskip(NEEDS[backend])
    result = engine.generate("Count.", backend=backend, max_tokens=5)
    assert (result.finish_reason, len(result.tokens)) == ("length", 5)
    assert result.tokens == steered[0].seen[:5]


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 5, "repetition_penalty": 1.2}])
def test_rows_of_a_batch_are_steered_each_by_its_own(engine, steered, backend, options):
    pytest.importorskip(NEEDS[backend])
    prompts = ["Count.", "Write a haiku about the sea.", "Why is the sky blue? Say it in a few words."]
    asked = {"backend": backend, "max_tokens": 40, "dtype": "float32", **options}
    alone = [engine.generate(prompt, **asked) for prompt in prompts]
    together = engine.batch(prompts, progress=False, **asked)
    for guide, result in zip(steered, [*alone, *together], strict=True):
        check(guide, result)
    assert [result.tokens for result in together] == [result.tokens for result in alone]


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("draft", ["lookup", "pocket"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 5}])
def test_a_guess_that_is_forbidden_is_rejected(engine, steered, backend, draft, options):
    pytest.importorskip(NEEDS[backend])
    asked = {"backend": backend, "max_tokens": 40, **options}
    prompt = "Say tick tock tick tock tick tock tick tock."
    plain, drafted = engine.generate(prompt, **asked), engine.generate(prompt, draft=draft, **asked)
    check(steered[0], plain)
    check(steered[1], drafted)
    assert drafted.tokens == plain.tokens
    assert drafted.speculation is not None


def test_two_guides_allow_what_both_allow_and_nothing_is_an_error():
    class Allows(Guide):
        def __init__(self, *tokens):
            self.tokens = tokens

        def allowed(self, made):
            return only(self.tokens, 40) if self.tokens else None

    logits = np.arange(40, dtype=np.float32)
    kept = Steering([Allows(1, 2, 39), Allows(), Allows(2, 39, 5)], 3).before(logits, [7, 7, 7])
    assert np.flatnonzero(np.isfinite(kept)).tolist() == [2, 39]
    assert Steering([Allows()], 0).before(logits, []) is logits
    contradicting = Steering([Allows(1), Allows(2)], 0)
    assert contradicting.before(logits, []) is logits
    assert contradicting.over
    with pytest.raises(GenerationError, match="No token may follow"):
        contradicting.check()


@pytest.mark.parametrize("small", [0, masks.SMALL])
@given(
    tokens=st.sets(st.integers(0, 99)),
    vocabulary=st.integers(1, 130),
    library=st.sampled_from(["numpy", "torch", "mlx"]),
)
def test_masks_are_the_same_in_every_library(small, tokens, vocabulary, library):
    with mock.patch.object(masks, "SMALL", small):
        check_mask(tokens, vocabulary, library)


def check_mask(tokens, vocabulary, library):
    logits = np.linspace(-3, 3, vocabulary, dtype=np.float32)[None]
    if library == "torch":
        given_logits = pytest.importorskip("torch").from_numpy(logits)
    elif library == "mlx":
        given_logits = pytest.importorskip("mlx.core").array(logits)
    else:
        given_logits = logits
    found = np.array(masked(given_logits, only(sorted(tokens), 100)).tolist(), dtype=np.float32)
    allowed = [token for token in range(vocabulary) if token in tokens]
    assert np.flatnonzero(np.isfinite(found[0])).tolist() == allowed
    assert found[0, allowed].tolist() == logits[0, allowed].tolist()


@given(st.lists(st.sets(st.integers(0, 63), min_size=1), min_size=1, max_size=6), st.booleans())
def test_a_mask_that_is_kept_is_the_mask_that_is_asked_for(sets, large):
    torch = pytest.importorskip("torch")
    mask = masks.Mask()
    with mock.patch.object(masks, "SMALL", 0 if large else masks.SMALL):
        for place, tokens in enumerate([each for each in sets for _ in range(2)]):
            logits = torch.linspace(-3, 3 + place, 64)[None]
            found = mask(logits, only(sorted(tokens), 64))
            assert found.isfinite().nonzero()[:, 1].tolist() == sorted(tokens)
            assert found[0, sorted(tokens)].tolist() == logits[0, sorted(tokens)].tolist()
            assert logits.isfinite().all()


class Due(Guide):
    """Knows every token of the answer."""

    def forced(self, made):
        return [100, 200, 300][len(made) :]

    def allowed(self, made):
        raise AssertionError("nothing has to be drawn")


def test_a_token_that_comes_in_any_case_is_not_drawn():
    steering, drawn = Steering([Due()], 1), []
    draw = Steered(lambda logits, history: drawn.append(history) or 7, steering)
    assert [draw(None, [1, 100, 200, 300][: n + 1]) for n in range(3)] == [100, 200, 300]
    assert drawn == []
