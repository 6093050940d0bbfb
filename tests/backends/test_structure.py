"""Answers that are kept to a schema: whatever the model would say, each that is complete parses and validates."""

import copy
import json
import re
from enum import Enum
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.backends import local, structure
from mlxnb.backends.lead import Lead
from mlxnb.errors import GenerationError, OptionError
from mlxnb.request import Request
from mlxnb.runtime import Engine
from mlxnb.schema import Schema
from tests.backends.test_local import TOKENIZER, Replay
from tests.schemas import random_schema

llguidance = pytest.importorskip("llguidance")
pydantic = pytest.importorskip("pydantic")
jsonschema = pytest.importorskip("jsonschema")

NEEDS = {"torch": "torch", "mlx": "mlx_lm", "llamacpp": "llama_cpp", "onnx": "onnxruntime_genai"}
SEEDS = st.integers(0, 2**31)


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    size: Literal["small", "large"]
    people: int | None = pydantic.Field(ge=0, le=10**6)


def holds(result, value):
    """A complete answer says what its schema allows, by validators that have nothing to do with the grammar."""
    assert result.finish_reason in ("stop", "length"), result
    if result.finish_reason == "length":
        with pytest.raises(GenerationError, match="nothing to parse"):
            _ = result.parsed
        assert any(note.startswith("schema: the answer was cut") for note in result.provenance.notes)
        return False
    if isinstance(value, dict):
        jsonschema.Draft202012Validator(value).validate(json.loads(result.text))
        assert result.parsed == json.loads(result.text)
    elif isinstance(value, re.Pattern):
        assert value.fullmatch(result.text)
    else:
        assert result.parsed in value
    return True


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("model", ["pocket", "qwen3", "gemma3"])
def test_whatever_is_complete_is_valid(engine, checkpoint, backend, model):
    pytest.importorskip(NEEDS[backend])
    name = "pocket" if model == "pocket" else str(checkpoint(model))

    @settings(max_examples=8)
    @given(SEEDS)
    def check(seed):
        value = random_schema(seed)
        options = {"model": name, "backend": backend, "max_tokens": 300, "raw": True}
        holds(engine.generate("Say", schema=value, temperature=1.0, seed=seed, **options), value)
        holds(engine.generate("Say", schema=value, **options), value)

    check()


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_rows_of_a_batch_have_each_its_own(engine, backend):
    pytest.importorskip(NEEDS[backend])
    values = [random_schema(seed) for seed in range(700, 708)]
    asked = {"backend": backend, "temperature": 1.0, "seed": 3, "max_tokens": 200, "dtype": "float32"}
    requests = [Request.of("Say something.", schema=value, **asked) for value in values]
    together = engine.batch([*requests, Request.of("Say something.", **asked)], progress=False)
    for value, result in zip(values, together[:-1], strict=True):
        holds(result, value)
    alone = [engine.submit(request).result() for request in requests]
    assert [result.text for result in together[:-1]] == [result.text for result in alone]
    assert together[-1].parsed is None


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("draft", ["lookup", "pocket"])
@pytest.mark.parametrize("seed", range(710, 716))
def test_a_draft_changes_nothing(engine, backend, draft, seed):
    pytest.importorskip(NEEDS[backend])
    value = random_schema(seed)
    asked = {"backend": backend, "schema": value, "temperature": 1.0, "seed": seed, "dtype": "float32"}
    plain = engine.generate("Say something.", max_tokens=200, **asked)
    drafted = engine.generate("Say something.", max_tokens=200, draft=draft, **asked)
    assert drafted.tokens == plain.tokens
    assert drafted.speculation is not None
    assert holds(drafted, value) == holds(plain, value)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 8, "repetition_penalty": 1.1}])
def test_tokens_without_a_choice_are_fed_together(engine, monkeypatch, backend, options):
    pytest.importorskip(NEEDS[backend])
    asked = {"backend": backend, "schema": City, "max_tokens": 100, "dtype": "float32", **options}
    together = engine.generate("Tell me of Paris.", **asked)
    assert together.speculation.draft == "schema"
    assert together.speculation.accepted == together.speculation.proposed > 10
    assert together.speculation.steps < len(together.tokens) / 2
    monkeypatch.setattr(local, "forced", lambda model, request, watch: None)
    one_by_one = engine.generate("Tell me of Paris.", **asked)
    assert one_by_one.speculation is None
    assert together.tokens == one_by_one.tokens
    assert together.parsed == one_by_one.parsed
    for limit in (1, 2, 3, 10):
        cut = engine.generate("Tell me of Paris.", **{**asked, "max_tokens": limit})
        assert cut.tokens == together.tokens[:limit]


@pytest.mark.parametrize("backend", ["llamacpp", "onnx"])
def test_backends_with_logits_in_numpy(engine, backend):
    pytest.importorskip(NEEDS[backend])
    for seed in range(720, 728):
        value = random_schema(seed)
        asked = {"backend": backend, "schema": value, "max_tokens": 200, "temperature": 1.0, "seed": seed}
        holds(engine.generate("Say something.", **asked), value)


@pytest.mark.parametrize("backend", ["torch", "mlx", "llamacpp", "onnx"])
def test_a_class_comes_back_as_its_instance(engine, backend):
    pytest.importorskip(NEEDS[backend])
    result = engine.generate("Tell me of Paris.", backend=backend, schema=City, max_tokens=100)
    assert isinstance(result.parsed, City)
    assert json.loads(result.text) == result.parsed.model_dump()
    assert json.loads(result.provenance.schema)["title"] == "City"
    assert result.finish_reason == "stop"


def test_an_answer_that_is_kept_is_parsed_anew():
    with_caches = Engine()
    asked = {"backend": "torch", "schema": City, "max_tokens": 100, "cache": "always"}
    pytest.importorskip("torch")
    first, second = (with_caches.generate("Tell me of Paris.", **asked) for _ in range(2))
    assert second.cached
    assert (first.parsed, second.text) == (second.parsed, first.text)
    assert isinstance(second.parsed, City)
    other = with_caches.generate("Tell me of Paris.", backend="torch", schema=["yes", "no"], cache="always")
    assert other.parsed in ("yes", "no")
    assert not other.cached
    with_caches.close()


class Hue(Enum):
    RED = "red"
    BLUE = "blue"


def test_a_cut_answer_says_so(engine):
    pytest.importorskip("mlx_lm")
    result = engine.generate("Tell me of Paris.", backend="mlx", schema=City, max_tokens=4)
    assert not holds(result, City)
    chosen = engine.generate("Which one?", backend="mlx", schema=Hue)
    assert isinstance(chosen.parsed, Hue)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"not": {"type": "string"}}, 'Unimplemented keys: ["not"]'),
        ({"type": "string", "format": "nonsense"}, "Unknown format: nonsense"),
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum (3) is greater than maximum (2)"),
        ({"$ref": "https://example.org/schema"}, "Default retriever does not fetch resources"),
        (re.compile("(?=a)b"), "look-around"),
        (re.compile(r"(a)\1"), "backreferences are not supported"),
    ],
)
def test_what_cannot_be_enforced_is_said_before_anything_is_generated(engine, value, says):
    pytest.importorskip("mlx_lm")
    job = engine.stream("Hi", backend="mlx", schema=value)
    with pytest.raises(OptionError, match=re.escape(says)):
        job.result()
    assert job.watch.start is None


def with_a_token_of(characters):
    """A tokenizer with tokens of the letter a, one for each length up to so many: llguidance's trie is not as deep."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("a" * n for n in range(2, characters))]
    merges = [("a" * n, "a") for n in range(1, characters - 1)]
    made = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def test_a_tokenizer_that_cannot_be_read(monkeypatch):
    class Slow(type(TOKENIZER)):
        def __init__(self):
            self.inner, self.end_ids, self.markers, self.decode = object(), frozenset({2}), None, str

    request = Request.of("Hi", schema=["a"])
    with pytest.raises(OptionError, match="llguidance cannot read the tokenizer of pocket"):
        structure.structure_for(Slow(), request, TOKENIZER.prompt(request))
    long = type(TOKENIZER).__new__(type(TOKENIZER))
    long.inner, long.end_ids = with_a_token_of(1100), frozenset({0})
    with pytest.raises(OptionError, match="llguidance cannot read the tokenizer of pocket"):
        structure.structure_for(long, request, TOKENIZER.prompt(request))
    endless = Slow()
    endless.end_ids = frozenset()
    with pytest.raises(OptionError, match="pocket has no token that ends an answer"):
        structure.structure_for(endless, request, TOKENIZER.prompt(request))
    monkeypatch.setattr(structure, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=re.escape("pip install 'mlxnb[structured]'")):
        structure.structure_for(TOKENIZER, request, TOKENIZER.prompt(request))


class Thinker:
    """The pocket model's tokenizer with two tokens of it as marks of thinking."""

    def __init__(self):
        vocabulary = {"<think>": 3000, "</think>": 3001}
        ids = {"encode": lambda self, text, add_special_tokens: [vocabulary[text]]}
        self.inner = type("Inner", (), {"get_vocab": lambda self: vocabulary, **ids})()
        self.markers, self.end_ids, self.vocabulary = ("<think>", "</think>"), TOKENIZER.end_ids, TOKENIZER.vocabulary

    def decode(self, ids):
        names = {3000: "<think>", 3001: "</think>"}
        return "".join(names.get(i) or TOKENIZER.decode([i]) for i in ids)


def allowed(guide, made):
    import numpy as np

    return set(np.flatnonzero(np.unpackbits(guide.allowed(made).view(np.uint8), bitorder="little")).tolist())


def grammar(value):
    return structure._vocabulary(TOKENIZER, "pocket").grammar(Schema.of(value))


def steered_by(tokenizer, thinking, may_open):
    return structure.Structure(grammar(["yes", "no"]), tokenizer, Lead(tokenizer, thinking, may_open))


def test_thinking_comes_before_the_structure():
    [yes] = TOKENIZER.inner.encode("yes", add_special_tokens=False)[:1]
    end = min(TOKENIZER.end_ids)
    inside = steered_by(Thinker(), thinking=True, may_open=True)
    everything = allowed(inside, [])
    assert len(everything) >= 4096 - len(TOKENIZER.end_ids)
    assert end not in everything
    assert allowed(inside, [100, 200]) == everything
    assert yes in allowed(inside, [100, 200, 3001])
    assert len(allowed(inside, [100, 200, 3001])) < 10
    # Written out, the mark ends the thinking too.
    spelled = TOKENIZER.inner.encode("</think>", add_special_tokens=False)
    assert len(allowed(inside, [100, *spelled])) < 10
    free = steered_by(Thinker(), thinking=False, may_open=True)
    first = allowed(free, [])
    assert 3000 in first
    assert yes in first
    assert len(first) < 10
    assert allowed(free, [3000, 5]) == everything
    assert 3000 not in allowed(free, [3000, 5, 3001])
    never = steered_by(Thinker(), thinking=False, may_open=False)
    assert 3000 not in allowed(never, [])


@given(st.data())
def test_a_guide_may_be_asked_about_any_beginning(data):
    value = random_schema(data.draw(SEEDS))
    guide, made = structure.Structure(grammar(value), TOKENIZER, Lead(TOKENIZER, False, False)), []
    sets = [allowed(guide, [])]
    for _ in range(data.draw(st.integers(0, 12))):
        made.append(data.draw(st.sampled_from(sorted(sets[-1]))))
        guide.drew(made, None)
        if guide.over:
            made.pop()
            break
        sets.append(allowed(guide, made))
    for length in data.draw(st.lists(st.integers(0, len(made)), max_size=4)):
        assert allowed(guide, made[:length]) == sets[length]


def test_a_request_without_a_schema_is_not_steered():
    said = Replay("Hello")
    request = Request.of("Hi")
    assert structure.structure_for(TOKENIZER, request, TOKENIZER.prompt(request)) is None
    assert said.guides(request, TOKENIZER.prompt(request), None) == []


@pytest.mark.parametrize(("think", "may"), [(None, True), ("on", True), (5, True), ("off", False), (0, False)])
def test_what_shall_not_think_begins_with_the_structure(think, may):
    marked = copy.copy(TOKENIZER)
    marked.markers = ("def", "class")
    opens = TOKENIZER.inner.get_vocab()["def"]
    request = Request.of("Hi", schema=["yes", "no"], think=think)
    guide = structure.structure_for(marked, request, TOKENIZER.prompt(Request.of("Hi")))
    assert (opens in allowed(guide, [])) == may


def test_what_llguidance_ends_by_itself_is_told():
    guide = structure.Structure(grammar(["yes", "no"]), TOKENIZER, Lead(TOKENIZER, False, False))
    with pytest.raises(GenerationError, match=r"cannot be kept to its schema any further: .*Take a simpler schema"):
        guide.drew([5], None)


def test_a_class_and_its_schema_by_itself_have_each_its_own_grammar():
    made = structure._vocabulary(TOKENIZER, "pocket")
    made.grammar(Schema("json", '{"type":"integer"}', int))
    made.grammar(Schema("json", '{"type":"integer"}'))
    assert {key[1] for key in made._grammars if key[0].source == '{"type":"integer"}'} == {True, False}
