"""Memory that runs out while a model generates, by script: it goes on, says so and keeps no state that is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.cache.states import tokens_of
from mlxnb.errors import GenerationError
from mlxnb.runtime import Engine
from tests.backends.fed import load, same_numbers
from tests.tiny import Maker

torch = pytest.importorskip("torch")

FAMILIES = ["qwen3", "mistral-window", "qwen3-next"]  # states that can be cut, that can be for a while, that cannot
BEGINNING = " ".join(f"item {i} of the list" for i in range(12))
QUESTION = f"{BEGINNING}, and what follows then is number"
STEP = 24  # tokens of a piece, so that a prompt has some
WORDS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
    "python": MemoryError,
}


@contextmanager
def short(module: Any, at: int, times: int, error: Callable[[], Exception]) -> Iterator[list[int]]:
    """From its `at`-th call on a module finds no memory, so many `times`; yields how often it did."""
    forward, calls, struck = module.forward, [0], [0]

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if at < calls[0] <= at + times:
            struck[0] += 1
            raise error()
        return forward(*args, **kwargs)

    module.forward = failing
    try:
        yield struck
    finally:
        del module.forward


class Told:
    """A tiny model in an engine with caches, what it says undisturbed, and its like to be fed by hand."""

    def __init__(self, family: str, path: Path) -> None:
        self.engine, self.path = Engine(), str(path)
        self.model = self.engine.call(lambda: self.engine._models.get(self.path, "torch", self._precision())).model
        self.model._prefill_step = STEP
        self.fed = load("torch", family, path)
        self.expected = self.ask(QUESTION, cache="off").tokens

    def _precision(self) -> Any:
        from mlxnb.request import Precision

        return Precision("float32")

    def ask(self, prompt: str, **options: Any) -> Any:
        asked = {"model": self.path, "backend": "torch", "dtype": "float32", "max_tokens": 9, "raw": True, **options}
        return self.engine.generate(prompt, **asked)

    def begin(self) -> None:
        """With a cache in which there is nothing but the state of BEGINNING."""
        self.engine.cache.clear()
        self.ask(BEGINNING)
        self.engine.call(lambda: None)  # what an answer leaves is kept behind it

    def layer(self, which: int, after_attention: bool) -> Any:
        layer = self.model.model.model.layers[which]
        return layer.mlp if after_attention else layer.input_layernorm

    def kept(self) -> list[tuple[list[int], Any]]:
        """Tokens and state of everything in memory."""
        self.engine.call(lambda: None)
        return [(list(tokens_of(key)), entry.state) for (_, key), entry in self.memory._entries.items()]

    @property
    def memory(self) -> Any:
        return self.engine.cache._memory


@pytest.fixture(scope="module", params=FAMILIES)
def told(request, checkpoint: Maker, tmp_path_factory) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as own:
        own.setenv("MLXNB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        made = Told(request.param, checkpoint(request.param))
        yield made
        made.engine.close()


def whole(told: Told) -> None:
    """Every state that is kept is what a fresh prefill of its tokens gives."""
    for tokens, state in told.kept():
        fresh = told.fed.prefill(tokens, [len(tokens)])
        same_numbers(told.fed.seen(told.fed.states.copy(state)), told.fed.seen(fresh), 2e-3)


def found(ask: Callable[[], Any]) -> Any:
    """The Result, or the GenerationError in its place."""
    try:
        return ask()
    except GenerationError as err:
        return err


@settings(max_examples=25)
@given(
    at=st.integers(0, 14),
    layer=st.integers(0, 2),
    after_attention=st.booleans(),
    times=st.integers(1, 5),
    words=st.sampled_from(sorted(WORDS)),
    begun=st.booleans(),
)
def test_it_says_the_same_wherever_memory_runs_out(told, at, layer, after_attention, times, words, begun):
    told.engine.cache.clear()
    if begun:
        told.begin()
    with short(told.layer(layer, after_attention), at, times, WORDS[words]) as struck:
        result = found(lambda: told.ask(QUESTION, cache="always"))
    if isinstance(result, GenerationError):
        assert times > 1  # once is never too much
        assert struck[0] > 1
        assert "Memory ran out: load it with --quantize int8, unload another model" in result.remedy
        assert result.partial is None or told.expected[: len(result.partial.tokens)] == result.partial.tokens
    else:
        assert result.tokens == told.expected
        said = [note for note in result.provenance.notes if note.startswith("memory ran short after ")]
        assert bool(said) == bool(struck[0])
    assert told.kept() or isinstance(result, GenerationError)
    whole(told)
    assert told.ask(QUESTION).tokens == told.expected


def test_the_piece_is_halved_down_to_sixteen_tokens_and_then_given_up(told, monkeypatch):
    monkeypatch.setattr(told.model, "_prefill_step", 100)
    pieces: list[int] = []
    embed = told.model.model.get_input_embeddings()
    with short(told.layer(1, True), 0, 99, WORDS["cuda"]) as struck:
        watched = embed.register_forward_pre_hook(lambda module, args: pieces.append(args[0].shape[1]))
        with pytest.raises(GenerationError, match="failed: OutOfMemoryError: CUDA out of memory"):
            told.ask(QUESTION, cache="off")
        watched.remove()
    assert 64 < pieces[0] <= 100
    assert pieces[1:] == [max(16, pieces[0] // 2**n) for n in range(1, len(pieces))]
    assert pieces[-2:] == [16, 16]
    assert struck[0] == len(pieces)


def test_the_cache_in_memory_goes_and_the_note_says_so(told):
    told.begin()
    assert len(told.memory)
    with short(told.layer(0, True), 1, 1, WORDS["cuda"]):
        result = told.ask(QUESTION, cache="always")
    (note,) = [note for note in result.provenance.notes if note.startswith("memory ran short")]
    assert "prefix cache shrunk by" in note
    assert "to 0 bytes" in note
    again = told.ask(QUESTION, cache="always")
    assert again.tokens == result.tokens
    assert not [note for note in again.provenance.notes if note.startswith("memory ran short")]


def test_a_step_that_finds_no_memory_twice_ends_with_what_was_said(told):
    told.begin()
    before = -(-told.ask(QUESTION, cache="off").timings.prompt_tokens // STEP)  # pieces of the prompt
    with short(told.layer(2, True), before + 3, 99, WORDS["cpu"]), pytest.raises(GenerationError) as caught:
        told.ask(QUESTION, cache="off")
    assert caught.value.partial.tokens == told.expected[:4]
    assert "Memory ran out" in caught.value.remedy
    assert "`.partial`" in caught.value.remedy
    whole(told)


def test_tokens_that_are_verified_are_fed_once_more(told):
    """Only states that can be cut are speculated with; the others decode as they do."""
    plain = told.ask(QUESTION, cache="off")
    pieces = -(-plain.timings.prompt_tokens // STEP)
    for at in (pieces, pieces + 2):
        with short(told.layer(1, True), at, 1, WORDS["cuda"]) as struck:
            result = told.ask(QUESTION, cache="off", draft="lookup")
        assert struck == [1]
        assert result.tokens == plain.tokens
        assert any("tried again" in note for note in result.provenance.notes)
    with short(told.layer(1, True), pieces + 2, 2, WORDS["cuda"]), pytest.raises(GenerationError) as caught:
        told.ask(QUESTION, cache="off", draft="lookup")
    assert "Memory ran out" in caught.value.remedy


def test_a_row_that_joins_a_batch_is_fed_in_smaller_pieces(told):
    prompts = [QUESTION, BEGINNING, f"{BEGINNING} and {BEGINNING}"]
    options = {"model": told.path, "backend": "torch", "dtype": "float32", "max_tokens": 6, "raw": True, "cache": "off"}
    alone = [told.engine.generate(prompt, **options).tokens for prompt in prompts]
    told.engine.batch(prompts[:1], **options)  # tries once whether the model can be batched
    with short(told.layer(2, True), 5, 1, WORDS["cuda"]) as struck:
        many = told.engine.batch(prompts, **options)
    assert struck == [1]
    assert [result.tokens for result in many] == alone
    assert sum(any("memory ran short" in note for note in result.provenance.notes) for result in many) == 1


def test_another_error_is_not_taken_for_it(told):
    def broken() -> Exception:
        return RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with short(told.layer(1, True), 1, 1, broken) as struck, pytest.raises(GenerationError, match="mat1") as caught:
        told.ask(QUESTION, cache="off")
    assert struck[0] == 1
    assert "Memory" not in caught.value.remedy


def test_a_model_that_keeps_a_state_of_its_own_is_not_fed_again(told, monkeypatch):
    monkeypatch.setattr(told.model, "states", None)
    with short(told.layer(1, True), 1, 1, WORDS["cuda"]) as struck, pytest.raises(GenerationError):
        told.ask(QUESTION, cache="off")
    assert struck[0] == 1


@pytest.mark.parametrize("family", ["qwen3", "qwen3-next"])
def test_on_mlx_the_prompt_is_fed_again_in_smaller_pieces(engine, checkpoint: Maker, monkeypatch, family):
    pytest.importorskip("mlx_lm")
    path = str(checkpoint(family))
    asked = {"model": path, "backend": "mlx", "dtype": "float32", "max_tokens": 6, "raw": True}
    expected = engine.generate(QUESTION, **asked)
    model = engine.call(lambda: next(m.model for m in engine._models._loaded if m.info.name == path))
    monkeypatch.setattr(model, "prefill_step", 40)
    kind, pieces = type(model.model), []
    call = kind.__call__

    def failing(self: Any, tokens: Any, *args: Any, **kwargs: Any) -> Any:
        pieces.append(tokens.shape[1])
        made = call(self, tokens, *args, **kwargs)
        if len(pieces) == 2:
            raise RuntimeError("[metal::malloc] Attempting to allocate 19660800000 bytes which is greater than allowed")
        return made

    monkeypatch.setattr(kind, "__call__", failing)
    result = engine.generate(QUESTION, **asked)
    assert result.tokens == expected.tokens
    half = pieces[1] // 2
    assert pieces[:2] == [40, expected.timings.prompt_tokens - 41]
    assert pieces[2] == max(16, half)
    assert any("memory ran short after 40 tokens, which are fed again" in note for note in result.provenance.notes)
