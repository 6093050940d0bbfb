"""Log-probabilities of answers: those that the model itself gives the same tokens, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from mlxnb.backends.local import LocalModel
from mlxnb.backends.logprobs import likeliest
from mlxnb.backends.server_logprobs import told
from mlxnb.errors import OptionError
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine
from tests.backends.served import ask, engine_for, nothing_set  # noqa: F401
from tests.endpoint import DONE, Reply, piece, says, serving, usage

BACKENDS = ("torch", "mlx", "llamacpp", "onnx")
NEEDS = {"torch": "torch", "mlx": "mlx_lm", "llamacpp": "llama_cpp", "onnx": "onnxruntime_genai"}
PROMPT = "What does itertools.chain do?"
HOT = {"temperature": 1.5, "seed": 3, "top_p": 0.95, "repetition_penalty": 1.2}


def losses(engine: Engine, result: Result, backend: str, dtype: str | None, prompt: Request) -> list[float]:
    """What the model says that each token of an answer costs, all of it fed at once."""

    def measure(model: Any) -> list[float]:
        assert isinstance(model, LocalModel)
        ids = model.tokenizer.prompt(prompt).ids
        return model.losses([*ids, *result.tokens])[len(ids) - 1 :]

    return engine.call_with("pocket", measure, backend, dtype)


def check(engine: Engine, result: Result, backend: str, prompt: str = PROMPT, raw: bool = False) -> None:
    told = result.logprobs
    assert told is not None
    assert [entry.token for entry in told] == result.tokens
    assert len(told) > 2
    dtype = "float32" if backend in ("torch", "mlx") else None
    expected = losses(engine, result, backend, dtype, Request.of(prompt, raw=raw))
    assert [entry.logprob for entry in told] == pytest.approx([-loss for loss in expected], abs=2e-3)
    assert math.fsum(entry.logprob for entry in told) == pytest.approx(-math.fsum(expected), rel=1e-3, abs=5e-3)


def asked(backend: str, **options: Any) -> dict[str, Any]:
    dtype = {"dtype": "float32"} if backend in ("torch", "mlx") else {}
    return {"backend": backend, "max_tokens": 24, "logprobs": 4, **dtype, **options}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, HOT], ids=["greedy", "random"])
def test_they_are_the_models_own_whatever_the_sampling(engine: Engine, backend: str, options: dict[str, Any]) -> None:
    pytest.importorskip(NEEDS[backend])
    prompt, raw = ("import", True) if options else (PROMPT, False)  # after a bare beginning much may come
    result = engine.generate(prompt, raw=raw, **asked(backend, **options))
    check(engine, result, backend, prompt, raw)
    for entry in result.logprobs or ():
        beside = [other.logprob for other in entry.top]
        assert len(beside) == 4
        assert beside == sorted(beside, reverse=True)
        assert entry.logprob <= beside[0]
        assert 0 < sum(other.probability for other in entry.top) <= 1 + 1e-6
        if entry.token in [other.token for other in entry.top]:
            assert entry.logprob in beside
    if not options:
        assert all(entry.token == entry.top[0].token for entry in result.logprobs or ())


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 3}], ids=["greedy", "random"])
def test_rows_of_a_batch_have_those_that_they_have_alone(engine: Engine, backend: str, options: dict[str, Any]) -> None:
    pytest.importorskip(NEEDS[backend])
    prompts = ["Count.", PROMPT, "Why is the sky blue? Say it in a few words."]
    together = engine.batch(prompts, progress=False, **asked(backend, **options))
    for prompt, result in zip(prompts, together, strict=True):
        assert isinstance(result, Result)
        check(engine, result, backend, prompt)
        alone = engine.generate(prompt, **asked(backend, **options))
        assert alone.tokens == result.tokens
        assert [e.text for e in alone.logprobs or ()] == [e.text for e in result.logprobs or ()]


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_draft_changes_none(engine: Engine, backend: str, penalty: float) -> None:
    pytest.importorskip(NEEDS[backend])
    options = asked(backend, draft="lookup", repetition_penalty=penalty)
    check(engine, engine.generate(PROMPT, **options), backend)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_an_answer_kept_to_a_schema_tells_what_the_model_itself_thought(engine: Engine, backend: str) -> None:
    pytest.importorskip(NEEDS[backend])
    pytest.importorskip("llguidance")
    result = engine.generate(PROMPT, schema=["zebra", "giraffe"], **asked(backend))
    assert result.parsed in ("zebra", "giraffe")
    check(engine, result, backend)
    assert (result.logprobs or ())[0].probability < 0.1


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("prompt", ["import", "def f():\n\t"])
def test_their_texts_are_the_answers(engine: Engine, backend: str, prompt: str) -> None:
    pytest.importorskip(NEEDS[backend])
    result = engine.generate(prompt, raw=True, **asked(backend, temperature=2.5, seed=11, max_tokens=60))
    said = "".join(entry.text for entry in result.logprobs or ())
    assert said.rstrip("\ufffd") == result.text.rstrip("\ufffd")


def test_what_is_not_asked_for_is_not_told_and_none_beside_is_none(engine: Engine) -> None:
    assert engine.generate(PROMPT, max_tokens=3).logprobs is None
    told = engine.generate(PROMPT, max_tokens=3, logprobs=0).logprobs
    assert told is not None
    assert [entry.top for entry in told] == [(), (), ()]


@pytest.mark.parametrize("wrong", [-1, 21, "many", True, 2.5])
def test_a_wrong_number_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"logprobs is .*It takes a whole number from 0 to 20"):
        Request.of("Hi", logprobs=wrong)


def test_the_cache_keeps_them_by_how_many_were_asked_for() -> None:
    engine = Engine()
    try:
        told = {"backend": "torch", "max_tokens": 5, "seed": 91}
        without, first, again, fewer = (
            engine.generate(PROMPT, **told, **more) for more in ({}, {"logprobs": 3}, {"logprobs": 3}, {"logprobs": 1})
        )
    finally:
        engine.close()
    assert without.logprobs is None
    assert (first.cached, again.cached, fewer.cached) == (False, True, False)
    assert again.logprobs == first.logprobs
    assert {len(entry.top) for entry in fewer.logprobs or ()} == {1}


LOGITS = of_numpy.arrays(np.float32, st.integers(1, 40), elements=st.floats(-50, 50, width=32))


@given(LOGITS, st.data())
def test_the_arithmetic_is_that_of_a_softmax(logits: np.ndarray, data: st.DataObject) -> None:
    token, most = data.draw(st.integers(0, logits.size - 1)), data.draw(st.integers(0, 20))
    exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    (own, logprob), top = likeliest(logits, token, most)
    assert (own, logprob) == (token, pytest.approx(exact[token], abs=1e-4))
    order = sorted(range(logits.size), key=lambda i: (-logits[i], i))[:most]
    assert [i for i, _ in top] == order
    assert [value for _, value in top] == pytest.approx([exact[i] for i in order], abs=1e-4)


def test_tokens_that_cannot_be_are_no_trouble() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    assert likeliest(logits, 1, 3) == ((1, pytest.approx(math.log(0.5))), [(1, pytest.approx(math.log(0.5))),
        (3, pytest.approx(math.log(0.5))), (0, -math.inf)])  # fmt: skip


# Servers.


def entry(token: str, logprob: Any, *top: tuple[str, float]) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "top_logprobs": [{"token": t, "logprob": p} for t, p in top]}


def said(text: str, *entries: Any) -> dict[str, Any]:
    event = piece(text)
    event["choices"][0]["logprobs"] = {"content": list(entries)}
    return event


def test_a_server_is_asked_and_tells() -> None:
    pytest.importorskip("openai")
    events = (said("Hel", entry("Hel", -0.5, ("Hel", -0.5), ("Hi", -1.0))), said("lo", entry("lo", -0.1)))
    with serving(Reply((*events, piece(finish="stop"), usage(7, 2), DONE))) as endpoint:
        result = ask(endpoint, "Hi", logprobs=2)
    assert (endpoint.asked[0].body["logprobs"], endpoint.asked[0].body["top_logprobs"]) == (True, 2)
    assert [(e.token, e.text, e.logprob) for e in result.logprobs or ()] == [(None, "Hel", -0.5), (None, "lo", -0.1)]
    assert [(e.text, e.logprob) for e in (result.logprobs or ())[0].top] == [("Hel", -0.5), ("Hi", -1.0)]


def test_a_plain_completion_has_a_form_of_its_own() -> None:
    pytest.importorskip("openai")
    form = {"tokens": ["4", ","], "token_logprobs": [-0.2, None], "top_logprobs": [{"5": -3.0, "4": -0.2}, None]}
    events = ({"choices": [{"index": 0, "text": "4,", "finish_reason": "length", "logprobs": form}]}, DONE)
    with serving(Reply(events)) as endpoint:
        result = ask(endpoint, "1, 2, 3, ", raw=True, logprobs=3)
    assert endpoint.asked[0].body["logprobs"] == 3
    [only] = result.logprobs or ()
    assert (only.text, only.logprob, [e.text for e in only.top]) == ("4", -0.2, ["4", "5"])


def test_a_server_that_tells_none_is_named() -> None:
    pytest.importorskip("openai")
    with serving(says("ok")) as endpoint:
        silent = ask(endpoint, "Hi", logprobs=2)
    assert silent.logprobs is None
    assert any(note.startswith("logprobs not used: 127.0.0.1") for note in silent.provenance.notes)
    listed = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "organization_owner"}]}
    with serving(says("ok"), gets={"/v1/models": listed}) as endpoint:
        refused = ask(endpoint, "Hi", logprobs=2)
        assert "logprobs" not in endpoint.asked[0].body
        with pytest.raises(OptionError, match="Logprobs 2 not used: LM Studio tells none"):
            ask(endpoint, "Hi", logprobs=2, strict=True)
    assert refused.logprobs is None
    assert "logprobs 2 not used: LM Studio tells none" in refused.provenance.notes


KEYS = ["content", "tokens", "token_logprobs", "top_logprobs", "token", "logprob"]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "tokens", "token_logprobs", "top_logprobs", "token", "logprob"]), inner
        )
    ),
)


@given(JSON)
def test_whatever_a_server_sends_is_told_or_left_out(value: Any) -> None:
    for each in told({"logprobs": value}):
        assert isinstance(each.text, str)
        assert math.isfinite(each.logprob)
