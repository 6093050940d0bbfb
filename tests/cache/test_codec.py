"""A stored answer comes back as it was, and only as an answer."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache import codec
from mlxnb.result import Result
from tests.cache import strategies


@given(strategies.results)
def test_every_result_comes_back_exactly(result):
    back = codec.decode(codec.encode(result))
    assert back == result
    assert repr(back) == repr(result)  # the sign of a zero and tuple or list are in it too
    assert [type(r) for r in back.provenance.passed_over] == [type(r) for r in result.provenance.passed_over]


@given(strategies.results, strategies.decisions, st.dictionaries(strategies.TEXT, st.lists(strategies.COUNTS)))
def test_a_field_of_the_future_comes_back_and_one_that_was_not_there_is_its_default(result, decision, figures):
    @dataclass(frozen=True)
    class Later(Result):
        decision: object = None
        figures: object = None

    later = Later(**{name: getattr(result, name) for name in Result.__slots__}, decision=decision, figures=figures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(codec.CLASSES, "Later", Later)
        assert codec.decode(codec.encode(later)) == later
        body = codec.encode(result).replace(b'"is":"Result"', b'"is":"Later"')
        assert codec.decode(body) == Later(**{name: getattr(result, name) for name in Result.__slots__})
    with pytest.raises(ValueError):
        codec.decode(body)


def test_what_has_no_place_in_json_is_refused():
    with pytest.raises(TypeError, match="object"):
        codec.encode(strategies.result(text=object()))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b"3", b'{"is":"dict","items":[]}', b'{"is":"os.system","fields":{}}', b"\xff",
        b'{"is":"dict","items":[["version",1],["result",null]]}', b"[" * 100_000, b'{"is":"dict","items":3}',
        codec.as_json({"version": 99, "result": strategies.result()}),
        codec.encode(strategies.result()).replace(b'"temperature":0.0', b'"temperature":99.0'),
        codec.encode(strategies.result()).replace(b'"tokens"', b'"surprise"'),
    ],
)  # fmt: skip
def test_anything_else_is_a_value_error(body):
    with pytest.raises(ValueError):
        codec.decode(body)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["is", "items", "fields", "x"]), inner | st.sampled_from(["tuple", "dict", "Result"])
            )
        ),
    )
)
def test_no_json_at_all_does_anything_else(value):
    with pytest.raises(ValueError):
        codec.decode(json.dumps(value).encode())
