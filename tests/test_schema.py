"""What counts as a schema, what an answer says by it, and what is refused before anybody is asked."""

import dataclasses
import enum
import json
import re
import typing
from typing import Literal

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache.key import Answerer, result_key
from mlxnb.errors import GenerationError, OptionError
from mlxnb.request import Request
from mlxnb.schema import Schema, ends
from tests.render.samples import make_result

pydantic = pytest.importorskip("pydantic")
pytest.importorskip("jsonschema")


class City(pydantic.BaseModel):
    name: str
    size: Literal["small", "large"] = "small"
    twins: set[int] = pydantic.Field(default=set(), max_length=3)


@dataclasses.dataclass
class Place:
    city: City
    at: tuple[int, int] | None = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Pair(typing.NamedTuple):
    x: int
    city: City


class Spot(typing_extensions.TypedDict):
    x: int
    city: typing_extensions.NotRequired[City]


LIST = {"type": "array", "items": {"type": "boolean"}}
ROME = City(name="Rome")


@pytest.mark.parametrize(
    ("value", "text", "parsed"),
    [
        (City, '{"name": "Rome", "twins": [1, 1]}', City(name="Rome", twins={1})),
        (Place, '{"city": {"name": "Rome"}, "at": [3, 4]}', Place(City(name="Rome"), (3, 4))),
        (LIST, "[true, false]", [True, False]),
        (json.dumps(LIST), "[true]", [True]),
        (re.compile("[a-f]+", re.IGNORECASE), "FaB", "FaB"),
        ("regex:\\d+", "12", "12"),
        (["yes", "no"], "no", "no"),
        ([1, 2.5], "2.5", 2.5),
        ({"yes", "no"}, "no", "no"),
        (Colour, "blue", Colour.BLUE),
        (Pair, '[1, {"name": "Rome"}]', Pair(1, ROME)),
        (Spot, '{"x": 1, "city": {"name": "Rome"}}', {"x": 1, "city": ROME}),
        (list[City], '[{"name": "Rome"}]', [ROME]),
        (City | None, "null", None),
        (City | Place, '{"city": {"name": "Rome"}}', Place(ROME)),
        (dict[str, Colour], '{"a": "red"}', {"a": Colour.RED}),
        (Literal["a", "b"], '"a"', "a"),
        (["a", "b", "a"], "a", "a"),
        ({"type": "number", "multipleOf": 0.01}, "4.14", 4.14),
        ({"type": "number", "multipleOf": 0.1}, "1e3", 1000.0),
        (["日本 語", "😀", "a\nb", 'q"u'], "a\nb", "a\nb"),
    ],
)
def test_what_an_answer_says(value, text, parsed):
    schema = Schema.of(value)
    assert schema.parse(text) == parsed
    assert type(schema.parse(text)) is type(parsed)
    assert Schema.of(schema) is schema
    assert hash(Schema.of(value)) == hash(schema)


@pytest.mark.parametrize(
    ("value", "text", "says"),
    [
        (City, '{"name": 3}', "name: Input should be a valid string"),
        (City, '{"name": "Ro', "Invalid JSON"),
        (LIST, "[true, 3]", "1: 3 is not of type 'boolean'"),
        (LIST, "[true", "Expecting"),
        (LIST, "[" * 100_000, "nested too deeply"),
        (re.compile("a+"), "aab", "does not match"),
        ({"type": "number", "multipleOf": 0.01}, "4.145", "4.145 is not a multiple of 0.01"),
        ({"items": {"multipleOf": 3}}, "[3, 4]", "1: 4 is not a multiple of 3"),
        (["yes", "no"], "maybe", "is none of yes, no"),
    ],
)
def test_an_answer_that_does_not_keep_to_it(value, text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Schema.of(value).parse(text)


class Own(pydantic.BaseModel):
    own: "list[Own]"


class Endless(pydantic.BaseModel):
    own: "Endless"


HOLDS_ITSELF: dict = {}
HOLDS_ITSELF["properties"] = {"a": HOLDS_ITSELF}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "schema is a int. It takes a pydantic model"),
        (int, "schema is the class int. It takes"),
        (object(), "schema is a object"),
        (City(name="Rome"), "schema is a City"),
        ("City", "schema is 'City'. A string is 'regex:…' or a JSON schema in text."),
        ("[1, 2]", "A string is"),
        ("regex:(", "no regular expression: 'regex:(', missing ), unterminated subpattern"),
        ("regex:", "empty regular expression"),
        (re.compile(b"a"), "over bytes"),
        (re.compile("a", re.ASCII), "flag ASCII"),
        ([], "empty list of choices"),
        (["a", " "], "has the choice ' '"),
        (["a", None], "has the choice None"),
        ([1, "1"], "has the choices 1 and '1', which read alike"),
        (enum.Enum("Two", {"A": 1, "B": "1"}), "which read alike"),
        (list[object.__class__], "of which there is no JSON schema"),
        (typing.Callable[[int], str], "of which there is no JSON schema"),
        ({"type": "strng"}, "no JSON schema: at type, 'strng' is not valid"),
        ({"properties": {"a": {"minimum": "3"}}}, "at properties/a/minimum"),
        ({"enum": {1, 2}}, "no JSON: Object of type set"),
        ({"const": float("nan")}, "no JSON: Out of range float"),
        (HOLDS_ITSELF, "schema is no JSON: Circular reference"),
        (Endless, "asks for itself without an end"),
    ],
)
def test_what_is_no_schema(value, says):
    with pytest.raises(OptionError, match=re.escape(says)):
        Request.of("Hi", schema=value)


def test_a_model_that_may_end_is_taken():
    assert Schema.of(Own).parse('{"own": [{"own": []}]}') == Own(own=[Own(own=[])])
    choice = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    assert ends(choice, choice)
    assert not ends({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, LIST | {"$ref": "#"})


def test_a_stop_string_has_no_place_beside_a_schema():
    with pytest.raises(OptionError, match="stop is 'END' with a schema"):
        Request.of("Hi", schema=LIST, stop="END")


def test_the_prompt_changes_only_where_that_is_asked_for():
    assert Request.of("Hi", schema=City).messages[-1].content == "Hi"
    shown = Request.of("Hi", schema=City, schema_in_prompt=True).messages[-1].content
    assert shown.startswith("Hi\n\nAnswer with JSON")
    assert '"small"' in shown
    raw = Request.of("Hi", schema=["a", "b"], raw=True, schema_in_prompt=True).prompt
    assert raw == "Hi\n\nAnswer with one of these and nothing else: a, b"
    with pytest.raises(OptionError, match="schema_in_prompt is on without a schema"):
        Request.of("Hi", schema_in_prompt=True)


def test_answers_are_kept_by_their_schema():
    def key(**options):
        return result_key(Request.of("Hi", **options), [1, 2], Answerer("model", "torch", "1", "cpu", "float32"))

    kinds = [{}, {"schema": City}, {"schema": LIST}, {"schema": ["yes"]}, {"schema": "regex:yes"}]
    assert len({key(**kind) for kind in kinds}) == len(kinds)
    assert key(schema=LIST) == key(schema=json.dumps(LIST))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_any_constant_is_a_schema_that_takes_itself_alone(value):
    schema = Schema.of({"const": value})
    assert schema.parse(json.dumps(value)) == value
    with pytest.raises(ValueError):  # the message begins with the constant, however long
        schema.parse('"something else than that"')


def test_what_is_not_whole_says_nothing():
    made = make_result('{"x": 1')
    kept = dataclasses.replace(made.provenance, schema='{"type":"object"}')
    assert dataclasses.replace(made, finish_reason="length").parsed is None  # there was no schema
    assert dataclasses.replace(made, provenance=kept, value={"x": 1}).parsed == {"x": 1}
    for reason, says in (("length", "was cut at its"), ("interrupted", "was interrupted before")):
        cut = dataclasses.replace(made, provenance=kept, finish_reason=reason)
        assert cut.value is None
        with pytest.raises(GenerationError, match=says) as caught:
            _ = cut.parsed
        assert caught.value.partial is cut
