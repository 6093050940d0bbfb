"""What the options of a profile mean, and what is refused, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import pytest

from mlxnb.errors import OptionError
from mlxnb.profile_options import add_options, as_arguments
from mlxnb.profiling.runs.plan import Limits, Plan


def read(line: str) -> Plan:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return Plan.of(**as_arguments(parser.parse_args(shlex.split(line))))


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("", {}),
        ("--quick --runs 4", {"quick": True, "runs": 4}),
        ("--scenario simple,code", {"scenarios": ("simple", "code")}),
        ("--prompt-tokens 128,1024", {"prompt_tokens": (128, 1024)}),
        ("--runs 3 --warmup 0 --max-tokens 16", {"runs": 3, "warmup": 0, "max_tokens": 16}),
        ("--concurrency 1,2", {"concurrency": (1, 2)}),
        ("--kv-bits 8", {"base": {"kv_bits": 8}}),
        ("--kv-bits none,8", {"sweep": {"kv_bits": (None, 8)}}),
        ("--backend mlx,torch --compare", {"sweep": {"backend": ("mlx", "torch")}, "compare": True}),
        ("--sweep temperature=0,0.7 --sweep top-k=4,5", {"sweep": {"temperature": (0.0, 0.7), "top_k": (4, 5)}}),
        ("--sweep prompt_tokens=64,128 --sweep concurrency=2", {"prompt_tokens": (64, 128), "concurrency": (2,)}),
        ("--stress 2.5", {"stress": 2.5}),
        ("--stress Settled", {"stress": "settled"}),
        ("--slo ttft=0.5,tpot=50ms,total=3s", {"limits": Limits(0.5, 0.05, 3.0)}),
        ("--no-inside", {"inside": False}),
    ],
)
def test_options_become_a_plan(line: str, fields: dict[str, Any]) -> None:
    assert read(line) == Plan(**fields)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--runs 0", "runs is '0'. It takes a whole number of at least 1."),
        ("--runs two", "runs is 'two'. It takes a whole number of at least 1."),
        ("--warmup=-1", "warmup is '-1'. It takes a whole number of at least 0."),
        ("--prompt-tokens 128,", "prompt_tokens is ''."),
        ("--scenario smple", "There is no scenario 'smple'. Did you mean simple?"),
        ("--kv-bits four", "kv_bits is 'four'. It takes a whole number."),
        ("--sweep temprature=0,1", "There is no field 'temprature' to vary. Did you mean temperature?"),
        ("--sweep zzz=1", "There is no field 'zzz' to vary. Fields are adapter, backend, "),
        ("--sweep temperature", "sweep is 'temperature'. It takes"),
        ("--sweep temperature=", "sweep is 'temperature='. It takes"),
        ("--sweep kv_bits=4,8 --kv-bits 4", "kv_bits is given twice."),
        ("--sweep prompt_tokens=4 --prompt-tokens 4", "prompt_tokens is given twice."),
        ("--slo 0.5", "limits is '0.5'. It takes figure=seconds"),
        ("--slo tppot=1", "There is no limit on 'tppot'. Did you mean tpot?"),
        ("--slo zzz=1", "There is no limit on 'zzz'. Limits are on ttft, tpot, total."),
        ("--slo ttft=fast", "The limit of ttft is 'fast'. It takes seconds above 0"),
        ("--stress 0", "stress is '0'. It takes seconds above 0"),
        ("--stress nan", "stress is 'nan'."),
        ("--stress forever", "or settled: until memory stops growing."),
        ("--compare", "compare has nothing to compare."),
    ],
)
def test_mistakes_say_what_is_taken(line: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(line)
    assert message in str(caught.value)
