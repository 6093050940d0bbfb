"""The key changes with everything that decides an answer, and with nothing else."""

from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

import pytest
from hypothesis import given

from mlxnb.cache import Answerer, prefix_namespace, repeats, result_key, row_key, run_key
from mlxnb.cache.key import NOT_DECIDING, PROMPT, deciding
from mlxnb.errors import OptionError
from mlxnb.request import Message, Request, Sampling
from mlxnb.tools import Tool
from tests.cache import strategies

ANSWERER = Answerer("commit:1", "torch", "torch 2.9", "cpu", "float32")
REQUEST = Request.of("Hello")
TOKENS = [1, 2, 3]
KEY = result_key(REQUEST, TOKENS, ANSWERER)

OTHER: dict[str, Any] = {
    "messages": (Message("user", "Hi"),), "prompt": None, "model": "other", "backend": "torch", "max_tokens": 9,
    "sampling": Sampling(seed=1), "kv_bits": 4, "kv_group_size": 64, "stop": ("x",), "strict": True, "dtype": "float16",
    "draft": "lookup", "draft_tokens": 2, "think": "off", "adapter": "/somewhere", "schema": {"type": "array"},
    "quantize": "int8", "tools": (Tool("weather", "", {"type": "object"}),), "logprobs": 3, "prefill_step": 9,
}  # fmt: skip
NEEDED: dict[str, Any] = {"kv_group_size": {"kv_bits": 8}, "draft_tokens": {"draft": "lookup"}}
OTHER_SAMPLING = {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "min_p": 0.5, "repetition_penalty": 1.5, "seed": 5}
OTHER_ANSWERER = {
    "identity": "commit:2", "backend": "mlx", "backend_version": "torch 3", "device": "cuda", "dtype": "float16",
    "quantization": "4-bit", "adapter": "files:1", "kv_bits": 4, "kv_group_size": 32, "kernels": "fused",
    "thinking": "off", "schema": "{}",
}  # fmt: skip


def test_the_same_gives_the_same_also_in_another_process():
    assert result_key(Request.of("Hello"), tuple(TOKENS), replace(ANSWERER)) == KEY
    assert len(KEY) == 64
    assert set(KEY) <= set("0123456789abcdef")


@pytest.mark.parametrize("name", [f.name for f in fields(Request) if f.name not in ("cache", "keep_alive")])
def test_every_field_of_a_request_decides(name):
    if name == "prompt":
        assert result_key(Request.of("Hello", raw=True), TOKENS, ANSWERER) != KEY
        return
    base = replace(REQUEST, **NEEDED.get(name, {}))
    changed = replace(base, **{name: OTHER.get(name)})
    assert changed != base
    assert result_key(changed, TOKENS, ANSWERER) != result_key(base, TOKENS, ANSWERER)


@pytest.mark.parametrize("name", [f.name for f in fields(Sampling)])
def test_every_field_of_sampling_decides(name):
    changed = replace(REQUEST, sampling=replace(REQUEST.sampling, **{name: OTHER_SAMPLING[name]}))
    assert result_key(changed, TOKENS, ANSWERER) != KEY


@pytest.mark.parametrize("name", [f.name for f in fields(Answerer)])
def test_every_field_of_what_answers_decides(name):
    changed = replace(ANSWERER, **{name: OTHER_ANSWERER[name]})
    assert result_key(REQUEST, TOKENS, changed) != KEY
    same = name in ("schema", "thinking")  # those change tokens, not the states of given tokens
    assert (prefix_namespace(changed) == prefix_namespace(ANSWERER)) == same


@pytest.mark.parametrize("tokens", [[], [1, 2], [1, 2, 3, 4], [3, 2, 1], [12, 3]])
def test_every_token_decides(tokens):
    assert result_key(REQUEST, tokens, ANSWERER) != KEY


def test_a_field_of_the_future_decides_by_itself():
    for base, at in ((Request, "request"), (Sampling, "sampling"), (Answerer, "answerer")):
        made = make_dataclass("Later", [("novel", int, field(default=0))], bases=(base,), frozen=True)
        values = {"request": REQUEST, "sampling": REQUEST.sampling, "answerer": ANSWERER}[at]
        kept = {f.name: getattr(values, f.name) for f in fields(base)}
        keys, rows = set(), set()
        for novel in (0, 1):
            later = made(**kept, novel=novel)
            request = {"request": later, "sampling": replace(REQUEST, sampling=later)}.get(at, REQUEST)
            keys.add(result_key(request, TOKENS, later if at == "answerer" else ANSWERER))
            rows.add((row_key(request, "model", 0), run_key(request, "model")))
        assert len(keys) == 2
        assert len(rows) == (1 if at == "answerer" else 2)


@pytest.mark.parametrize("name", [f.name for f in fields(Request)])
def test_every_field_of_a_request_that_decides_tells_the_rows_of_a_table_apart(name):
    """A row is found again under its key, in the file of its run: no field may be forgotten in the one or the other."""
    base = replace(REQUEST, **NEEDED.get(name, {}))
    values = {**OTHER, "cache": "always", "keep_alive": 9.0}
    changed = Request.of("Hello", raw=True) if name == "prompt" else replace(base, **{name: values.get(name)})
    assert changed != base
    same = name in NOT_DECIDING
    assert (row_key(changed, "model", 0) == row_key(base, "model", 0)) == same
    assert (deciding(changed) == deciding(base)) == same  # by which rows that ask the same are counted
    if name == "prompt":  # `raw` is one of the prompt's, by which rows of one run may differ
        return
    assert (run_key(changed, "model") == run_key(base, "model")) == (same or name in PROMPT)


@pytest.mark.parametrize("name", [f.name for f in fields(Sampling)])
def test_every_field_of_sampling_tells_rows_apart(name):
    changed = replace(REQUEST, sampling=replace(REQUEST.sampling, **{name: OTHER_SAMPLING[name]}))
    assert row_key(changed, "model", 0) != row_key(REQUEST, "model", 0)
    assert run_key(changed, "model") != run_key(REQUEST, "model")


def test_the_model_and_the_place_among_equals_tell_rows_apart():
    keys = {row_key(REQUEST, model, nth) for model in ("model", "other") for nth in (0, 1)}
    assert len(keys) == 4
    assert run_key(REQUEST, "model") != run_key(REQUEST, "other")


def test_how_the_cache_is_used_does_not_decide():
    assert result_key(replace(REQUEST, cache="always"), TOKENS, ANSWERER) == KEY


def test_a_field_without_a_canonical_form_is_refused():
    @dataclass(frozen=True)
    class Later(Request):
        processor: Any = None

    kept = {f.name: getattr(REQUEST, f.name) for f in fields(Request)}
    for odd in (object(), {1: 2}, {1, 2}, b"x"):
        with pytest.raises(TypeError, match="canonical form"):
            result_key(Later(**kept, processor=odd), TOKENS, ANSWERER)
    assert result_key(Later(**kept, processor={"a": 1, "b": [2]}), TOKENS, ANSWERER) == result_key(
        Later(**kept, processor={"b": (2,), "a": 1}), TOKENS, ANSWERER
    )


@given(strategies.samplings, strategies.samplings)
def test_two_samplings_share_a_key_only_if_they_are_equal(a, b):
    keys = [result_key(replace(REQUEST, sampling=s), TOKENS, ANSWERER) for s in (a, b)]
    assert (keys[0] == keys[1]) == (repr(a) == repr(b))


@pytest.mark.parametrize(
    ("options", "mode", "taken"),
    [
        ({}, "auto", True),
        ({"seed": 1}, "auto", True),
        ({"temperature": 0.7, "seed": 1}, "auto", True),
        ({"temperature": 0.7}, "auto", False),
        ({"temperature": 0.7}, "always", True),
        ({}, "off", False),
    ],
)
def test_which_requests_repeat(options, mode, taken):
    verdict = repeats(Request.of("Hello", **options), mode)
    assert bool(verdict) == taken
    assert taken or verdict.remedy


def test_an_unknown_mode():
    with pytest.raises(OptionError, match="'sometimes'"):
        repeats(REQUEST, "sometimes")
