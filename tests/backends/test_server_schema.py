"""Schemas on servers: each kind is told in its own words or refused by name, and no answer is believed unseen."""

import dataclasses
import re

import pytest

from mlxnb.backends.server_kinds import KINDS
from mlxnb.backends.server_schema import structure_of
from mlxnb.errors import GenerationError, OptionError
from mlxnb.request import Request
from tests.backends.served import ask, nothing_set  # noqa: F401
from tests.endpoint import says, serving

pytest.importorskip("openai", reason="the server backend needs the openai package")
pytest.importorskip("pydantic")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


CLOSED = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
TOLD = sorted(name for name, kind in KINDS.items() if kind.schemas == "json_schema")


def told(kind, schema, **options):
    return structure_of(Request.of("Hi", schema=schema, **options), KINDS[kind])


@pytest.mark.parametrize("kind", TOLD)
def test_most_take_openais_own_words(kind):
    said = told(kind, CLOSED)["response_format"]
    assert said == {"type": "json_schema", "json_schema": {"name": "answer", "schema": CLOSED, "strict": True}}
    # OpenAI refuses a strict schema with a property that may be left out.
    assert told(kind, Point)["response_format"]["json_schema"]["strict"] is False


def test_others_have_words_of_their_own():
    assert told("llama-cpp-python", CLOSED) == {"response_format": {"type": "json_object", "schema": CLOSED}}
    assert told("vllm", ["a", "b"]) == {"structured_outputs": {"choice": ["a", "b"]}}
    assert told("vllm", re.compile("a+")) == {"structured_outputs": {"regex": "a+"}}
    assert told("llama-server", ["a", 'b"']) == {"grammar": 'root ::= "a" | "b\\""'}
    assert told("openai", None) == {}


@pytest.mark.parametrize(
    ("kind", "schema", "options", "says"),
    [
        ("mlx-lm", CLOSED, {}, "mlx_lm.server keeps no answer to a schema. Take --backend mlx"),
        ("ollama", ["a", "b"], {}, "Ollama keeps no answer to a choice. Give a JSON schema."),
        ("llama-server", "regex:a+", {}, "llama-server keeps no answer to a regular expression."),
        ("vllm", CLOSED, {"raw": True}, "schema goes with no raw prompt on a server"),
    ],
)
def test_what_a_server_cannot_do_is_refused_by_its_name(kind, schema, options, says):
    with pytest.raises(OptionError, match=re.escape(says)):
        told(kind, schema, **options)


def test_an_answer_is_parsed():
    with serving(says('{"x": 3', ', "y": 4}')) as endpoint:
        result = ask(endpoint, schema=Point)
        [question] = endpoint.asked
    assert result.parsed == Point(3, 4)
    assert question.body["response_format"]["json_schema"]["schema"]["required"] == ["x"]


def test_an_answer_that_does_not_keep_to_it_is_an_error_with_the_text():
    with (
        serving(says("Sure! Here you are: ", '{"x": 3}')) as endpoint,
        pytest.raises(GenerationError, match="The answer does not keep to its schema: Invalid JSON") as caught,
    ):
        ask(endpoint, schema=Point)
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Sure! Here you are: {"x": 3}'
    assert caught.value.partial.parsed is None


def test_a_cut_answer_says_so_where_it_is_asked_for_what_it_says():
    with serving(says('{"x": 3', finish="length")) as endpoint:
        result = ask(endpoint, schema=Point, max_tokens=2)
    with pytest.raises(GenerationError, match=r"cut at its \d+ tokens .* a larger max_tokens") as caught:
        _ = result.parsed
    assert caught.value.partial is result
    assert any("cut at its token limit" in note for note in result.provenance.notes)
