"""Perplexity through the engine: of texts and of answers, on both backends, and what it refuses."""

from __future__ import annotations

import math

import pytest

from mlxnb.backends.perplexity import Perplexity, perplexity
from mlxnb.errors import OptionError, PromptError
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend

BACKENDS = ("mlx", "torch")
QUESTION = "What does itertools.chain do?"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_answer_that_a_model_gives_is_likelier_than_another(engine: Engine, backend: str) -> None:
    answer = engine.generate(QUESTION, backend=backend, max_tokens=200).text
    own = engine.perplexity([(QUESTION, answer)], backend=backend)
    other = engine.perplexity([(QUESTION, "Nobody has ever asked for that, so I cannot say.")], backend=backend)
    assert 1.0 <= own.value < 1.5 < other.value
    assert own.tokens == len(engine.generate(QUESTION, backend=backend, max_tokens=200).tokens) + 1  # and its end


def test_it_is_over_all_tokens_of_all_texts(engine: Engine, backend: str) -> None:
    texts = ["itertools.chain makes one iterator of several.", (QUESTION, "It joins.")]
    parts = [engine.perplexity(text, backend=backend, dtype="float32") for text in texts]
    whole = engine.perplexity(texts, backend=backend, dtype="float32")
    assert whole.tokens == sum(part.tokens for part in parts)
    nats = sum(part.tokens * math.log(part.value) for part in parts)
    assert math.log(whole.value) == pytest.approx(nats / whole.tokens, rel=1e-5)


def test_fewer_bits_change_it_a_little(engine: Engine, backend: str) -> None:
    answer = engine.generate(QUESTION, backend=backend, max_tokens=200).text
    full, int8 = (engine.perplexity([(QUESTION, answer)], backend=backend, quantize=q) for q in (None, "int8"))
    assert full.value != int8.value
    assert int8.value == pytest.approx(full.value, rel=0.05)


def test_what_is_no_text_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptError, match="a string, or a pair of strings"):
        engine.perplexity([3])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="context of 1024"):
        engine.perplexity("deque " * 2000)
    with pytest.raises(OptionError, match="no token to predict"):
        engine.perplexity([])
    with pytest.raises(PromptError):
        engine.perplexity("")


@pytest.mark.parametrize("texts", [None, 3, b"bytes", {"a": "b"}])
def test_what_is_no_list_of_texts_either_is_a_prompt_error(engine: Engine, texts: object) -> None:
    with pytest.raises(PromptError, match=r"texts is a .*\. Give a string, or a pair of strings"):
        engine.perplexity(texts)  # type: ignore[arg-type]


def test_half_a_character_is_told_from_which_half_of_a_pair(engine: Engine, backend: str) -> None:
    for pair, whose in ((("a \ud800", "b"), "The prompt"), (("a", "\udfff b"), "The answer")):
        with pytest.raises(PromptError, match=f"{whose} holds half of a character"):
            engine.perplexity([pair], backend=backend)


def test_a_backend_that_cannot_tell_says_so() -> None:
    from mlxnb.errors import BackendError

    scripted = Engine({"scripted": ScriptedBackend()}, caching=False)
    try:
        with pytest.raises(BackendError, match="does not tell how likely"):
            scripted.perplexity("a text", backend="scripted")
    finally:
        scripted.close()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([([5], [99999])], "A text has the token 99999, and pocket has 4096 tokens"),
        ([([5], [-1])], "A text has the token -1"),
        ([([], [5, 6, 7] * 1000)], "context of 1024"),
        ([([5], ["x"])], "'x' among its token ids"),
        ([([5], [True])], "'True' among its token ids"),
        ([([5], [1.0])], "'1.0' among its token ids"),
    ],
)
def test_ids_are_held_against_the_model(engine: Engine, backend: str, texts: list[tuple], said: str) -> None:
    with pytest.raises(PromptError, match=said):
        engine.call_with("pocket", lambda model: perplexity(model, texts), backend)


def test_ids_may_come_from_anywhere(engine: Engine, backend: str) -> None:
    numpy = pytest.importorskip("numpy")

    def measure(given: object, text: object) -> Perplexity:
        return engine.call_with("pocket", lambda model: perplexity(model, [(given, text)]), backend)

    assert measure(iter([5, 6]), (i for i in [7, 8])) == measure([5, 6], numpy.array([7, 8]))
