"""What the options of a profile mean, and what is refused, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.errors import OptionError
from mlxnb.profile_options import add_options, as_arguments, fields_to_sweep, limits_of, with_defaults


def read(line: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    arguments = as_arguments(parser.parse_args(shlex.split(line)))
    return {name: value for name, value in arguments.items() if value != {}}


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("", {}),
        ("--quick --compare", {"quick": True, "compare": True}),
        ("--scenario simple,code", {"scenarios": ("simple", "code")}),
        ("--prompt-tokens 128,1024", {"prompt_tokens": (128, 1024)}),
        ("--runs 3 --warmup 0 --max-tokens 16", {"runs": 3, "warmup": 0, "max_tokens": 16}),
        ("--concurrency 1,2", {"concurrency": (1, 2)}),
        ("--kv-bits 8", {"base": {"kv_bits": 8}}),
        ("--kv-bits none,8", {"sweep": {"kv_bits": (None, 8)}}),
        ("--backend mlx,torch --quantize int8", {"base": {"quantize": "int8"}, "sweep": {"backend": ("mlx", "torch")}}),
        ("--sweep temperature=0,0.7 --sweep top-k=4", {"base": {"top_k": 4}, "sweep": {"temperature": (0.0, 0.7)}}),
        ("--sweep prompt_tokens=64,128", {"prompt_tokens": (64, 128)}),
        ("--sweep concurrency=2", {"concurrency": (2,)}),
        ("--stress 2.5", {"stress": 2.5}),
        ("--slo ttft=0.5,tpot=50ms,total=3s", {"limits": {"ttft": 0.5, "tpot": 0.05, "total": 3.0}}),
        ("--no-inside", {"inside": False}),
    ],
)
def test_options_become_arguments(line: str, arguments: dict[str, Any]) -> None:
    assert read(line) == arguments


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--runs 0", "--runs is '0'. It takes a whole number of at least 1."),
        ("--runs two", "--runs is 'two'. It takes a whole number of at least 1."),
        ("--warmup=-1", "--warmup is '-1'. It takes a whole number of at least 0."),
        ("--prompt-tokens 128,", "--prompt-tokens is '128,'. It takes values with commas between"),
        ("--prompt-tokens 128,x", "--prompt-tokens is 'x'."),
        ("--kv-bits four", "kv_bits has the value 'four'. It takes whole numbers"),
        (
            "--sweep temprature=0,1",
            "--sweep names 'temprature', which is no field of a request. Did you mean temperature?",
        ),
        ("--sweep zzz=1", "--sweep names 'zzz', which is no field of a request. It takes backend, "),
        ("--sweep temperature", "--sweep is 'temperature'. It takes values after the name, as in temperature=A,B."),
        ("--sweep temperature=", "--sweep is 'temperature='."),
        ("--sweep kv_bits=4,8 --kv-bits 4", "kv_bits is given twice."),
        ("--sweep prompt_tokens=4 --prompt-tokens 4", "prompt_tokens is given twice."),
        ("--sweep temperature=0,0.0", "temperature has a value twice in '0,0.0'."),
        ("--slo 0.5", "--slo has '0.5'. It takes, for example, ttft=0.5,tpot=50ms."),
        ("--slo tppot=1", "--slo has 'tppot=1'. Did you mean tpot?"),
        ("--slo ttft=fast", "--slo ttft is 'fast'. It takes a time of more than 0"),
        ("--stress 0", "--stress is '0'. It takes a time of more than 0, such as 2, 2s or 50ms."),
        ("--stress nan", "--stress is 'nan'."),
    ],
)
def test_mistakes_say_what_is_taken(line: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(line)
    assert message in str(caught.value)


@given(st.dictionaries(st.sampled_from(["ttft", "tpot", "total"]), st.integers(1, 10**6), min_size=1))
def test_limits_mean_the_same_in_either_unit(limits: dict[str, int]) -> None:
    in_ms = limits_of(",".join(f"{name}={value}ms" for name, value in limits.items()))
    in_s = limits_of(", ".join(f"{name} = {value / 1000}" for name, value in limits.items()))
    assert in_ms == pytest.approx(in_s)


def test_what_the_line_says_wins_over_defaults() -> None:
    arguments = {"base": {"kv_bits": 8}, "sweep": {"backend": ("mlx", "torch")}}
    filled = with_defaults(arguments, {"backend": "onnx", "kv_bits": 4, "quantize": "int8"})
    assert filled == {"base": {"kv_bits": 8, "quantize": "int8"}, "sweep": {"backend": ("mlx", "torch")}}


def test_every_swept_field_is_one_of_a_request() -> None:
    from mlxnb.request import Request

    for name in {*fields_to_sweep()} - {"concurrency", "prompt_tokens"}:
        Request.of("?", **{name: None} if name in ("seed", "kv_bits", "kv_group_size", "draft_tokens") else {})
        with pytest.raises(OptionError, match=name):
            Request.of("?", **{name: object()})
