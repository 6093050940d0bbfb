"""What is recorded where something fails, in which order cases run, and what an interrupt keeps."""

import _thread
import itertools
from itertools import pairwise

import pytest

from mlxnb.errors import BackendError, ModelNotFoundError
from mlxnb.profiling import Plan, profile
from mlxnb.profiling.judge.figures import Summary
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend


def failing(when, error):
    """Delays that raise for the requests whose number `when` says yes to."""

    def delays(request, token):
        if when(request):
            raise error
        return 0.0

    return delays


def test_a_model_that_fails_in_run_3_of_5_goes_on(run):
    backend = ScriptedBackend(delays=failing(lambda number: number == 3, RuntimeError("the driver fell over")))
    report = run(backend, runs=5, warmup=1)
    assert [each.round for each in report.runs] == [0, 1, 2, 3, 4]
    assert [each.error is None for each in report.runs] == [True, True, False, True, True]
    assert "the driver fell over" in report.runs[2].error
    assert report.runs[2].timings is None
    found = Summary.of(report, 0)
    assert (found.n, found.failed) == (4, 1)
    assert report.cases[0].error is None
    assert report.partial is None


def test_memory_that_runs_out_in_one_scenario_leaves_the_others(run):
    short = RuntimeError("Insufficient Memory (out of memory)")
    backend = ScriptedBackend(delays=failing(lambda number: number >= 3, short))
    report = run(backend, prompts=["short", "long"], runs=2, warmup=1)
    assert [len(report.of(case)) for case in (0, 1)] == [2, 0]
    assert "no more runs were made after 3 that failed" in report.cases[1].error
    assert "out of memory" in report.cases[1].error
    assert any("a warm-up failed: " in note for note in report.cases[1].notes)
    assert report.cases[0].error is None
    again = ScriptedBackend(delays=failing(lambda number: number < 3, short))
    report = run(again, prompts=["long", "short"], runs=4, warmup=1)
    assert [len(report.of(case)) for case in (0, 1)] == [0, 4]
    assert len([each for each in report.runs if each.case == 0]) == 2  # and a warm-up: the third failure was the last


def test_an_answer_without_a_token_is_kept_and_said(run):
    report = run(ScriptedBackend([]), runs=2)
    assert [each.generation_tokens for each in report.runs] == [0, 0]
    assert report.runs[0].notes == ("no token was generated",)
    found = Summary.of(report, 0)
    assert (found.n, found.failed) == (2, 0)
    assert found.ttft is None
    assert found.tpot is None


def test_a_model_that_cannot_be_loaded_is_the_error_of_its_cases(run):
    report = run(ScriptedBackend(), models=["./nowhere/none", "pocket"], runs=1)
    lost, fine = report.cases
    assert lost.model is None
    assert "nowhere/none" in lost.error
    assert fine.error is None
    assert report.models[fine.model].name == "pocket"
    assert len(report.of(1)) == 1


def test_a_library_that_runs_out_of_memory_while_it_loads_is_recorded(run):
    backend = ScriptedBackend()
    load, times = backend.load, []

    def loads(source, precision):
        times.append(precision)
        if precision.quantize:
            raise MemoryError("Unable to allocate 9 GiB")
        return load(source, precision)

    backend.load = loads
    report = run(backend, quantize=["none", "int8"], runs=1)
    assert report.cases[0].error is None
    assert "MemoryError: Unable to allocate 9 GiB" in report.cases[1].error


def test_what_cannot_be_measured_at_all_raises(run):
    with pytest.raises(ModelNotFoundError, match="nowhere/none"):
        run(ScriptedBackend(), models="./nowhere/none")
    with pytest.raises(BackendError, match=r"Nothing could be measured: .*fell over"):
        run(ScriptedBackend(fails={"stream": lambda: RuntimeError("it fell over")}))


def test_an_interrupt_keeps_what_was_measured(run):
    def interrupting(request, token):
        if request == 3:
            _thread.interrupt_main()
            return 0.3  # within which the answer is not waited for any more
        return 0.0

    report = run(ScriptedBackend(delays=interrupting), runs=5, warmup=1)
    assert report.partial == "interrupted: prompt, run 3 of 5"
    assert [each.round for each in report.runs] == [0, 1]
    assert Summary.of(report, 0).n == 2
    assert report.seconds > 0


def test_an_interrupt_before_anything_was_measured_is_one(run):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(ScriptedBackend(), progress=stop)


def test_an_engine_that_is_closed_ends_it(alone):
    engine = Engine({"scripted": ScriptedBackend()}, caching=False)

    def close(progress):
        if "run 2" in progress.doing:
            engine.close()

    report = profile(engine, Plan.of(prompts=["a"], backend="scripted", inside=False), close)
    assert report.partial == "the engine was closed: prompt, run 2 of 5"
    assert len(report.runs) == 1


def test_progress_tells_what_goes_on_and_comes_to_its_end(run):
    heard = []
    run(ScriptedBackend(delay=0.001), heard.append, prompts=["a", "b"], runs=2, warmup=1)
    assert [each.doing for each in heard if "b" in each.doing or "run" in each.doing] != []
    assert "prompt 1, warm-up 1 of 1" in [each.doing for each in heard]
    assert "prompt 2, run 2 of 2" in [each.doing for each in heard]
    assert all(a.done <= b.done for a, b in pairwise(heard))
    assert {each.total for each in heard} == {6}
    assert heard[0].left is None
    assert heard[-1].done == 6
    assert heard[-1].left == 0
    left = [each.left for each in heard if each.doing.startswith("prompt 2, run")]
    assert left[0] > left[1] > 0


def test_progress_counts_what_is_given_up_as_done(run):
    heard = []
    backend = ScriptedBackend(delays=failing(lambda number: number < 3, RuntimeError("no")))
    run(backend, heard.append, prompts=["a", "b"], runs=4, warmup=1)
    assert heard[-1].done == heard[-1].total == 10


def test_compared_cases_alternate_and_rounds_pair(run):
    backend = ScriptedBackend()
    report = run(backend, temperature=[0.1, 0.2], compare=True, runs=4, warmup=0)
    asked = [request.sampling.temperature for request in backend.requests]
    assert asked == [0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2, 0.1]
    assert [case.varied for case in report.cases] == [{"temperature": 0.1}, {"temperature": 0.2}]
    assert [[each.round for each in report.of(case)] for case in (0, 1)] == [[0, 1, 2, 3]] * 2


def test_requests_at_once_share_a_round(run):
    report = run(ScriptedBackend(), concurrency=3, runs=2)
    assert [each.round for each in report.runs] == [0, 0, 0, 1, 1, 1]
    assert report.cases[0].label == "prompt, 3 at once"
    found = Summary.of(report, 0)
    assert (found.n, found.rounds, found.throughput.n) == (6, 2, 2)
    assert report.runs[0].own is None  # it waited for others
    assert any("not batched" in note for note in report.runs[0].notes)


def test_one_model_asked_in_two_ways_is_one_model(run):
    report = run(ScriptedBackend(), backend=["auto", "scripted"], runs=1)
    assert len(report.models) == 1
    assert [case.model for case in report.cases] == [0, 0]


@pytest.fixture
def either(alone):
    """An engine of two backends for whoever leaves it open, as (engine, the first of them, the other)."""
    first, other = ScriptedBackend(name="first"), ScriptedBackend(name="other")
    engine = Engine({"first": first, "other": other}, caching=False)
    yield engine, first, other
    engine.close()


def asked_openly(engine, **options):
    return profile(engine, Plan.of(prompts="Go on.", inside=False, runs=2, **options))


def test_arms_of_a_sweep_are_answered_by_one_backend(either):
    """The other one has a dtype in memory, and so would be taken for it: the ratio would be one of backends."""
    engine, first, other = either
    engine.load("pocket", "other", dtype="bfloat16")
    report = asked_openly(engine, dtype="float32,bfloat16", compare=True)
    assert [report.models[case.model].backend for case in report.cases] == ["first", "first"]
    assert len(first.requests) == 6
    assert other.requests == []


def test_where_one_backend_cannot_answer_all_arms_it_is_said(either):
    engine, first, _ = either
    load = first.load

    def refusing(source, precision):
        if precision.quantize:
            raise RuntimeError("no kernels for 4 bits")
        return load(source, precision)

    first.load = refusing
    report = asked_openly(engine, quantize="none,int4")
    assert [report.models[case.model].backend for case in report.cases] == ["first", "other"]
    assert not any("answers here" in note for note in report.cases[0].notes)
    (note,) = [note for note in report.cases[1].notes if "answers here" in note]
    assert note.startswith("other answers here and first elsewhere, so that a difference is theirs too: ")
    assert "no kernels for 4 bits" in note
    strict = asked_openly(engine, quantize="none,int4", strict=True)
    assert strict.cases[0].error is None
    assert "no kernels for 4 bits" in strict.cases[1].error


def test_what_another_backend_would_take_over_is_a_failure_of_the_one_that_is_measured(either):
    engine, first, other = either
    fails = itertools.count()

    def fail(place):
        if place == "prefill" and next(fails) == 2:
            raise RuntimeError("the driver fell over")

    first.fail = fail
    report = asked_openly(engine)
    assert [each.error is None for each in report.runs] == [True, False]
    assert "the driver fell over" in report.runs[1].error
    assert other.requests == []


def test_models_tell_how_long_they_loaded_and_runs_do_not(run):
    report = run(ScriptedBackend(load=0.05), runs=2)
    assert report.models[0].load_time >= 0.05
    assert [each.timings.load_time for each in report.runs] == [0.0, 0.0]


def test_what_this_machine_does_not_count_is_said_once(run):
    report = run(ScriptedBackend(), prompts=["a", "b", "c"], runs=1)
    assert len([note for note in report.notes if note.startswith("energy")]) == 1
    assert len(report.samples) >= 1
    assert all(each.peak_rss > 0 for each in report.runs)


def test_a_model_that_cannot_be_loaded_is_tried_once(run):
    backend = ScriptedBackend()
    find, looked = backend.find, []

    def finds(name, here, named):
        looked.append(name)
        return find(name, here, named)

    backend.find = finds
    report = run(backend, models=["/nowhere/none", "pocket"], prompts=["a", "b", "c"], runs=1)
    assert looked.count("/nowhere/none") == 1
    assert len({case.error for case in report.cases if case.asked == "/nowhere/none"}) == 1
