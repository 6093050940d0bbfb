"""Plans and the cases they make; every mistake is named with what belongs in its place."""

import pytest

from mlxnb.errors import OptionError
from mlxnb.profiling import Limits, Plan
from mlxnb.profiling.runs.cases import cases, groups, rounds
from mlxnb.profiling.runs.scenarios import NAMES, QUICK, scenario, scenarios

MISTAKES = [
    ({"sweep": "foo=1,2"}, "no field 'foo'", "Fields are adapter, backend"),
    ({"sweep": {"model": ["a", "b"]}}, "no field 'model'", "models="),
    ({"sweep": "messages=a,b"}, "no field 'messages'", "Fields are"),
    ({"sweep": "kv_bits"}, "sweep is 'kv_bits'", "FIELD=value"),
    ({"sweep": "kv_bits="}, "sweep is 'kv_bits='", "FIELD=value"),
    ({"sweep": ["kv_bits=4", "kv_bits=8"]}, "names kv_bits twice", "FIELD=value"),
    ({"sweep": {"kv_bits": []}}, "sweep kv_bits is empty", "values"),
    ({"sweep": "kv_bits=none,3"}, "kv_bits is 3", "4"),
    ({"sweep": "kv_bits=lots"}, "kv_bits is 'lots'", "a whole number"),
    ({"sweep": "temperature=hot"}, "temperature is 'hot'", "a number"),
    ({"sweep": "kv_group_size=32,64"}, "without kv_bits", "Give kv_bits"),
    ({"sweep": "dtype=float32,float8"}, "dtype is 'float8'", "bfloat16"),
    ({"kernels": "maybe"}, "kernels is 'maybe'", "on or off"),
    ({"kv_bits": "4,8", "sweep": "kv_bits=4,8"}, "kv_bits is swept twice", "Give kv_bits alone"),
    ({"base": {"model": "a"}}, "no field 'model'", "models="),
    ({"temperature": 11}, "temperature is 11", "from 0 to 10"),
    ({"scenarios": "simple,hard"}, "no scenario 'hard'", "multi-turn"),
    ({"scenarios": ""}, "scenarios is ''", "names"),
    ({"models": [3]}, "models is [3]", "names"),
    ({"prompts": ["a", " "]}, "prompts holds ' '", "list of strings"),
    ({"prompts": 3}, "prompts is 3", "list of strings"),
    ({"prompt_tokens": "128,x"}, "prompt_tokens is 'x'", "whole numbers"),
    ({"prompt_tokens": [0]}, "prompt_tokens is 0", "at least 1"),
    ({"concurrency": "0"}, "concurrency is '0'", "at least 1"),
    ({"concurrency": True}, "concurrency is True", "whole numbers"),
    ({"runs": 0}, "runs is 0", "at least 1"),
    ({"runs": 2.5}, "runs is 2.5", "whole number"),
    ({"warmup": -1}, "warmup is -1", "at least 0"),
    ({"max_tokens": "many"}, "max_tokens is 'many'", "at least 1"),
    ({"stress": 0}, "stress is 0", "seconds"),
    ({"stress": float("inf")}, "stress is inf", "seconds"),
    ({"stress": "forever"}, "stress is 'forever'", "settled"),
    ({"limits": "ttft"}, "limits is 'ttft'", "figure=seconds"),
    ({"limits": "speed=1"}, "no limit on 'speed'", "ttft, tpot, total"),
    ({"limits": {"ttft": "1.2.3s"}}, "ttft is '1.2.3s'", "200ms"),
    ({"limits": 3}, "limits is 3", "figure=seconds"),
    ({"quick": "yes"}, "quick is 'yes'", "True or False"),
    ({"compare": True}, "nothing to compare", "sweep backend"),
    ({"foo": 1}, "Unknown option 'foo'", "warmup"),
]


@pytest.mark.parametrize(("options", "says", "takes"), MISTAKES)
def test_a_mistake_is_named_with_what_belongs_there(options, says, takes):
    with pytest.raises(OptionError) as error:
        Plan.of(**options)
    assert says in error.value.message
    assert takes in error.value.remedy


def test_a_plan_that_is_made_directly_is_checked_too():
    with pytest.raises(OptionError, match="runs"):
        Plan(runs=0)
    with pytest.raises(OptionError, match="no field 'foo'"):
        Plan(sweep={"foo": (1,)})
    with pytest.raises(OptionError, match="kv_bits"):
        Plan(base={"kv_bits": 5})
    with pytest.raises(OptionError, match="limit of tpot"):
        Limits(tpot=-1.0)


def test_text_and_values_make_the_same_plan():
    by_text = Plan.of(
        models="a,b", sweep=["kv_bits=none,8", "kernels=on,off"], concurrency="1,4", limits="ttft=200ms,tpot=0.05"
    )
    by_value = Plan.of(
        models=["a", "b"],
        sweep={"kv_bits": [None, 8], "kernels": [True, False]},
        concurrency=(1, 4),
        limits={"ttft": 0.2, "tpot": 0.05},
    )
    assert by_text == by_value
    assert by_text.limits.given() == {"ttft": 0.2, "tpot": 0.05}


def test_fields_by_themselves_hold_for_every_request_or_are_swept():
    plan = Plan.of(temperature=0.7, kv_bits="4,8", quantize=["int8", "int4"], backend="torch")
    assert plan.base == {"temperature": 0.7, "backend": "torch"}
    assert plan.sweep == {"kv_bits": (4, 8), "quantize": ("int8", "int4")}
    assert len(list(plan.combinations())) == 4


def test_a_folder_is_taken_as_a_path_or_as_its_text(tmp_path):
    assert Plan.of(adapter=tmp_path) == Plan.of(adapter=str(tmp_path))
    assert Plan.of(adapter=[None, tmp_path]).sweep == {"adapter": (None, str(tmp_path))}


def test_a_quick_profile_makes_fewer_runs_unless_told():
    assert Plan.of(quick=True).runs == 3 < Plan.of().runs
    assert Plan.of(quick=True, runs=7).runs == 7
    assert [each.name for each in scenarios(Plan.of(quick=True))] == list(QUICK)
    assert [each.name for each in scenarios(Plan.of())] == list(NAMES)


def test_what_a_person_gives_takes_the_place_of_the_usual_scenarios():
    plan = Plan.of(prompts=["one", "two"], prompt_tokens="128,1024")
    assert [each.name for each in scenarios(plan)] == ["prompt 1", "prompt 2", "random 128", "random 1024"]
    assert [each.name for each in scenarios(Plan.of(prompts="one", scenarios="code"))] == ["code", "prompt"]


def test_every_scenario_can_be_read():
    for name in NAMES:
        found = scenario(name)
        assert found.about
        assert found.prompts
        assert len(found.lengths) == found.turns
        assert list(found.lengths) == sorted(found.lengths)
        assert all(text.material for prompt in found.prompts for text in prompt)
    assert scenario("batch").together == len(scenario("batch").prompts) > 1
    assert scenario("multi-turn").turns > 1
    assert scenario("long-context").lengths[0] > scenario("complex").lengths[0] > scenario("medium").lengths[0]
    with pytest.raises(OptionError, match="Scenarios are"):
        scenario("../plan")


def test_cases_are_every_scenario_with_every_model_and_value():
    plan = Plan.of(models="a,b", kv_bits="none,8", concurrency="1,4", scenarios="simple,multi-turn,batch", max_tokens=9)
    made = cases(plan)
    assert len(made) == (2 + 1 + 1) * 2 * 2
    assert {case.concurrency for case in made if case.scenario == "simple"} == {1, 4}
    assert {case.concurrency for case in made if case.scenario == "multi-turn"} == {1}
    assert {case.concurrency for case in made if case.scenario == "batch"} == {8}
    passed_over = {case.scenario for case in made if any("concurrency not used" in note for note in case.notes)}
    assert passed_over == {"multi-turn", "batch"}
    assert not any(case.notes for case in cases(Plan.of()))
    assert {case.max_tokens for case in made} == {9}
    assert made[0].label == "simple, a, kv_bits none"
    assert made[0].varied == {"model": "a", "kv_bits": None}
    assert len({case.label for case in made}) == len(made)


def test_a_swept_max_tokens_is_that_of_its_case():
    made = cases(Plan.of(sweep={"max_tokens": [16, 32]}, scenarios="simple"))
    assert [case.max_tokens for case in made] == [16, 32]


def test_cases_that_are_compared_alternate():
    made = cases(Plan.of(models="a,b", compare=True, scenarios="simple,code"))
    first, second = groups(made, compare=True)
    assert [made[place].scenario for place in first] == ["simple"] * 2
    assert list(rounds(first, 0, 4)) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2), (1, 3), (0, 3)]
    assert [number for _, number in rounds(second, 2, 1)] == [-2, -2, -1, -1, 0, 0]
    assert groups(made, compare=False) == [[0], [1], [2], [3]]


def test_a_plan_without_a_model_is_about_the_default_one(monkeypatch):
    assert cases(Plan.of(scenarios="simple"))[0].asked == "pocket"
    monkeypatch.setenv("MLX_MODEL_NAME", "some/other")
    assert cases(Plan.of(scenarios="simple"))[0].asked == "some/other"


def test_a_number_is_one_value_however_it_is_written():
    """Else a profile from Python would have no case in common with the same one from a line."""
    from_python, from_line = Plan.of(sweep={"temperature": [0, 1]}), Plan.of(sweep="temperature=0,1")
    assert repr(from_python.sweep) == repr(from_line.sweep)
    assert [case.label for case in cases(from_python)] == [case.label for case in cases(from_line)]
    assert cases(from_line)[0].label == "simple, temperature 0"
