"""A budget ends thinking by the marker that ends it, at the token that it says, on every backend that runs here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxnb.backends import default_backends
from mlxnb.backends.base import Watch
from mlxnb.backends.local import LocalModel
from mlxnb.backends.thinking_budget import ThinkingBudget
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.errors import GenerationError, OptionError
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.tiny import TURNS, make_thinker

LOCAL = [name for name in ("torch", "mlx", "llamacpp", "onnx") if default_backends()[name].available()]
ASKED = {"max_tokens": 24, "cache": "off"}


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model whose template opens a block of thinking, which it would never close."""
    return make_thinker(tmp_path_factory.mktemp("thinker"))


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    """An engine whose models a test may change."""
    made = Engine(caching=False)
    yield made
    made.close()


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("budget", [0, 1, 7])
def test_thinking_ends_at_its_budget(own: Engine, thinker: str, backend: str, budget: int) -> None:
    plain = own.generate("Hi", model=thinker, backend=backend, **ASKED)
    assert plain.thinking
    assert plain.text == ""
    ended = own.generate("Hi", model=thinker, backend=backend, think=budget, strict=True, **ASKED)
    end = 4097
    assert ended.tokens[: budget + 1] == [*plain.tokens[:budget], end]
    assert end not in ended.tokens[budget + 1 :]
    assert ended.text
    assert ended.timings.thinking_tokens <= budget
    assert ended.timings.first_visible is not None
    assert ended.timings.token_times[budget] < ended.timings.first_visible
    assert f"thinking was ended after {budget} tokens" in ended.provenance.notes


def test_both_backends_end_it_alike_also_in_a_batch_and_with_a_draft(own: Engine, thinker: str) -> None:
    for how in ({}, {"temperature": 0.8, "seed": 4}):
        found = {}
        for backend in ("torch", "mlx"):
            asked = {"model": thinker, "backend": backend, "think": 5, **how, **ASKED}
            alone = own.generate("Hi", **asked)
            guessed = own.generate("Hi", draft="lookup", **asked)
            batch = own.batch(["Hi", "What is a list?", "Hi"], progress=False, **asked)
            assert guessed.tokens == alone.tokens == batch[0].tokens == batch[2].tokens
            assert batch[1].tokens[5] == 4097
            found[backend] = alone.tokens
        if not how:
            assert found["torch"] == found["mlx"]


@pytest.mark.parametrize("backend", LOCAL)
def test_a_marker_of_several_tokens_is_forced_on_every_backend(own: Engine, backend: str) -> None:
    """The pocket model marks no thinking, so that it is given a marker that is ordinary text."""

    def mark(loaded: LocalModel) -> list[int]:
        loaded.tokenizer.markers = ("<q>", "</q>")
        return loaded.tokenizer.inner.encode("</q>", add_special_tokens=False)

    end = own.call_with("pocket", mark, backend=backend)
    assert len(end) > 1
    asked = {"backend": backend, "raw": True, "strict": True, **ASKED}
    plain = own.generate("What is a list? <q>", **asked)
    ended = own.generate("What is a list? <q>", think=4, **asked)
    assert ended.tokens[: 4 + len(end)] == [*plain.tokens[:4], *end]
    assert ended.thinking
    assert "</q>" not in ended.thinking + ended.text


def test_tokens_that_are_taken_back_are_forgotten(thinker: str) -> None:
    tokenizer = Tokenizer(Path(thinker))
    guide = ThinkingBudget(tokenizer, 3, True, Watch())
    word = tokenizer.inner.encode(" a", add_special_tokens=False)[0]
    assert guide.allowed([]) is None
    guide.drew([word] * 3, None)
    assert guide.allowed([word] * 3) is not None
    assert guide.allowed([word] * 2) is None
    guide.drew([word, word, 4097], None)
    assert guide.allowed([word, word, 4097]) is None
    guide.drew([word, word, 4097, 4096], None)  # what is left holds for a block that is opened again
    assert guide.allowed([word, word, 4097, 4096]) is None
    words = guide.allowed([word, word, 4097, 4096, word])
    assert words is not None
    assert words[4097 // 32] == 1 << 4097 % 32


def test_a_model_that_marks_no_thinking_says_so(engine: Engine) -> None:
    result = engine.generate("Hi", backend="torch", think=5, max_tokens=2)
    assert any(
        "think 5 not used: how this model would mark its thinking is not known" in n for n in result.provenance.notes
    )
    with pytest.raises(OptionError, match="Think 5 not used by pocket"):
        engine.generate("Hi", backend="torch", think=5, max_tokens=2, strict=True)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_schema_holds_from_where_the_thinking_was_ended(own: Engine, thinker: str, backend: str) -> None:
    pytest.importorskip("llguidance")
    asked = {"model": thinker, "backend": backend, "schema": "regex:[0-9]{3}", "strict": True}
    result = own.generate("Hi", think=4, **asked, **ASKED)
    assert result.tokens[4] == 4097
    assert result.thinking
    assert result.text.isdigit()
    assert len(result.text) == 3
    assert result.finish_reason == "stop"


HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
MESSAGES = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
GEMMA = ("<|channel>", "<channel|>")
KINDS = {
    "harmony": (HARMONY, MESSAGES + "<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    "gemma": (GEMMA, TURNS + "<|im_start|>assistant\n<|channel>thought", "<channel|>"),
    "words": ((), TURNS + "<|im_start|>assistant\n<think>", "</think>"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def marked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A random model whose template opens a block with a marker of several tokens, and what closes that at last."""
    tokens, template, end = KINDS[request.param]
    return make_thinker(tmp_path_factory.mktemp(request.param), template, tokens), end


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_budget_goes_with_a_schema_samples_drafts_and_log_probabilities(
    own: Engine, marked: tuple[str, str], backend: str
) -> None:
    """Whatever the marker: the block ends after 3 tokens, the schema begins behind it, and every token is told."""
    pytest.importorskip("llguidance")
    path, end = marked
    tokenizer = Tokenizer(Path(path))
    closing = tokenizer.inner.encode(tokenizer.markers[1] if tokenizer.markers else "", add_special_tokens=False)
    assert len(closing) >= 1
    asked = {"model": path, "backend": backend, "think": 3, "schema": "regex:[0-9]{4}", "strict": True, "logprobs": 1}
    asked |= {"max_tokens": 32, "cache": "off", "temperature": 0.9}
    requests = [Request.of("Hi", seed=seed, **asked) for seed in (1, 2, 3)]
    alone = [own.generate("Hi", seed=seed, **asked) for seed in (1, 2, 3)]
    batch = own.batch(requests, progress=False)
    guessed = own.generate("Hi", seed=2, draft="lookup", **asked)
    assert [result.tokens for result in batch] == [result.tokens for result in alone]
    assert guessed.tokens == alone[1].tokens
    for result in (*alone, *batch, guessed):
        assert result.tokens[3 : 3 + len(closing)] == closing
        assert tokenizer.inner.decode(result.tokens[: 3 + len(closing)]).endswith(end)
        assert len(result.text) == 4
        assert result.text.isdigit()
        assert result.parsed == result.text
        assert result.finish_reason == "stop"
        assert result.thinking
        assert result.timings.thinking_tokens <= 3
        assert result.logprobs is not None
        assert [entry.token for entry in result.logprobs] == result.tokens
    assert len({tuple(result.tokens[:3]) for result in alone}) > 1


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_block_that_never_ends_is_no_answer(own: Engine, thinker: str, backend: str) -> None:
    """max_tokens cuts within the block: no text, no first visible token, and a schema that nothing was kept to."""
    asked = {"model": thinker, "backend": backend, "max_tokens": 6, "cache": "off"}
    for more in ({"think": 6}, {"think": 500}, {"think": "on"}):
        result = own.generate("Hi", **asked, **more)
        assert (result.text, result.finish_reason) == ("", "length")
        assert result.timings.first_visible is None
        assert result.timings.thinking_tokens == 6
    pytest.importorskip("llguidance")
    result = own.generate("Hi", schema="regex:[0-9]{3}", **asked)
    assert (result.text, result.finish_reason) == ("", "length")
    with pytest.raises(GenerationError, match="cut at its 6 tokens"):
        _ = result.parsed


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_budget_is_another_answer_for_the_result_cache_and_the_same_prefix(thinker: str, backend: str) -> None:
    made = Engine()
    asked = {"model": thinker, "backend": backend, "max_tokens": 16}
    try:
        first = [made.generate("Hi there", think=think, **asked) for think in (None, 4, 5, "on")]
        again = [made.generate("Hi there", think=think, **asked) for think in (None, 4, 5, "on")]
        fresh = [made.generate("Hi there", think=think, cache="off", **asked) for think in (None, 4, 5)]
    finally:
        made.close()
    assert not any(result.cached for result in first[:3])
    assert all(result.cached for result in again)
    assert [result.tokens for result in again] == [result.tokens for result in first]
    assert [result.tokens for result in fresh] == [result.tokens for result in first[:3]]
    assert len({tuple(result.tokens) for result in first[:3]}) == 3
    assert first[1].provenance.reused_tokens
    assert first[2].provenance.reused_tokens
    for result in again[1:3]:
        assert any(note.startswith("thinking was ended after") for note in result.provenance.notes)
        assert result.thinking
        assert result.text


def test_a_summary_is_made_without_thinking(thinker: str) -> None:
    """Its few tokens would all go into the block, for which the answer has many."""
    made = Engine(caching=False)
    try:
        chat = made.chats.open("long")
        asked = {"model": thinker, "backend": "torch", "think": 200, "max_tokens": 206}
        results = [chat.ask(f"{number} {'word ' * 100}", overflow="summarise", **asked) for number in range(2)]
    finally:
        made.close()
    [summary] = results[1].before
    assert results[1].left_out == 1
    assert chat.conversation.summary == summary.text.strip()
    assert summary.text
    assert not summary.thinking
    for result in results:
        assert result.thinking
        assert result.text


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("kind", ["harmony", "gemma"])
def test_a_model_that_opens_the_block_itself_is_kept_to_its_schema(
    own: Engine, tmp_path: Path, backend: str, kind: str
) -> None:
    """Whether it does is the model's; what comes then is a header or a block, an end to it, and the schema."""
    pytest.importorskip("llguidance")
    tokens, template, _ = KINDS[kind]
    for opening in ("<|channel|>analysis<|message|>", "<|channel>thought"):
        template = template.removesuffix(opening)
    path = make_thinker(tmp_path / kind, template, tokens)
    tokenizer = Tokenizer(Path(path))
    asked = {"model": path, "backend": backend, "think": 3, "schema": "regex:[0-9]{4}", "strict": True}
    asked |= {"max_tokens": 40, "cache": "off", "temperature": 1.5}
    alone = [own.generate("Hi", seed=seed, **asked) for seed in range(6)]
    batch = own.batch([Request.of("Hi", seed=seed, **asked) for seed in range(6)], progress=False)
    assert [result.tokens for result in batch] == [result.tokens for result in alone]
    for result in alone:
        said = tokenizer.inner.decode(result.tokens)
        assert result.text.isdigit()
        assert len(result.text) == 4
        assert said.endswith(result.text)
        assert result.finish_reason == "stop"
        assert result.timings.thinking_tokens <= 3
        if kind == "harmony":
            assert said.startswith(("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"))
            assert bool(result.thinking) == said.startswith("<|channel|>analysis")


def test_a_turn_that_is_all_thinking_is_said_not_to_be_kept(own: Engine, thinker: str) -> None:
    """Or the next one would go on from what the person asked last, and nobody would know."""
    chat = own.chats.open("thinking")
    asked = {"model": thinker, "backend": "torch", "max_tokens": 12}
    note = "the conversation stays as it was, without this turn: all of it is thinking"
    first = chat.ask("Hi", **asked)
    assert any(each.startswith(note) for each in first.provenance.notes)
    assert not chat.conversation.messages
    second = chat.ask("Hi", think=3, **asked)
    assert not any("stays as it was" in each for each in second.provenance.notes)
    assert len(chat.conversation.turns) == 1
    assert chat.conversation.messages[-1].content == second.text
