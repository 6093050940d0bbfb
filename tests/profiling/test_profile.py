"""The steps of a profile: what follows the runs, what each is given, what stays where one fails or is interrupted."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlxnb.decision import Rejected
from mlxnb.errors import BackendError
from mlxnb.profiling import Plan, Report, profile
from mlxnb.profiling.report import Comparison, Finding, Inside, OtherModel, Recommendation, Roofline, Stress
from mlxnb.runtime import Engine
from tests.profiling import siblings
from tests.profiling.siblings import set_part
from tests.scripted import ScriptedBackend

INSIDE = Inside(model=99, context=10, steps=16, shares=(), synchronised=0.2, free=0.1)
STRESSED = Stress(0, 1.0, 3, 0.0, 0.0, 0.0, None, 1.0, "no leak", 0.9)
ROOF = Roofline(1e9, 1e12, "float32", (), ())
FOUND = Finding("nothing found", None, "", 0.0, 0.0, "", "", "", "")


@pytest.fixture
def asked(run, monkeypatch):
    """What each of the other parts was asked, by its name."""
    seen = {}

    def part(module, name, answer):
        def called(*given, **more):
            seen.setdefault(name, []).append(given)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        set_part(monkeypatch, module, name, called)

    part("machine.environment", "environment", siblings.PLACE)
    part("model.inside", "look_inside", INSIDE)
    part("runs.stress", "stress", STRESSED)
    part("judge.roofline", "roofline", ROOF)
    part("judge.compare", "comparisons", (Comparison(1, 0, ()),))
    part("judge.rules", "findings", (FOUND,))
    part("judge.recommend", "recommendations", (Recommendation("chat", "speed", {}, "", ""),))
    part("judge.recommend", "other_models", (OtherModel("big", 1, "fits", None),))
    return SimpleNamespace(seen=seen, part=part)


def test_every_part_adds_to_the_report(run, asked):
    report = run(ScriptedBackend(), inside=True, stress="10s", runs=2, limits="ttft=1")
    assert report.environment == siblings.PLACE
    assert report.insides == (replace(INSIDE, model=0),)  # of the model that was asked
    assert report.stress == (STRESSED,)
    assert report.roofline == ROOF
    assert report.findings == (FOUND,)
    assert len(report.comparisons) == len(report.recommendations) == len(report.others) == 1
    assert report.limits == {"ttft": 1.0}
    assert report.began.endswith("+00:00")
    assert report.seconds >= max(sample.at for sample in report.samples)


def test_each_part_is_given_what_came_before_it(run, asked):
    run(ScriptedBackend(), inside=True, stress=10, runs=1, max_tokens=7)
    assert asked.seen["environment"] == [("cpu", "float32")]
    ((_, request),) = asked.seen["look_inside"]
    assert (request.model, request.max_tokens, request.cache) == ("pocket", 7, "off")
    ((_, _, seconds, clock, case),) = asked.seen["stress"]
    assert (seconds, case) == (10.0, 0)
    assert clock() > 0
    ((given,),) = asked.seen["findings"]
    assert isinstance(given, Report)
    assert given.roofline == ROOF
    assert given.stress == (STRESSED,)
    assert given.comparisons
    assert given.samples
    ((given,),) = asked.seen["recommendations"]
    assert given.findings == (FOUND,)


def test_the_options_of_every_request_are_kept_and_those_that_were_swept_are_not(run, asked):
    report = run(ScriptedBackend(), runs=1, base={"top_k": 5, "temperature": 0.5}, temperature=[0.1, 0.2], seed=3)
    assert report.options == {"backend": "scripted", "top_k": 5, "seed": 3}


def test_every_model_that_answered_is_looked_into_once(run, asked):
    report = run(ScriptedBackend(), inside=True, models="pocket,/nowhere/none", prompts=["a", "b"], runs=1)
    assert len(asked.seen["look_inside"]) == 1
    assert [each.model for each in report.insides] == [0]


def test_nobody_is_looked_into_who_need_not_be(run, asked):
    report = run(ScriptedBackend(), runs=1)
    assert "look_inside" not in asked.seen
    assert "stress" not in asked.seen
    assert report.insides == ()


def test_a_part_that_cannot_say_why(run, asked):
    asked.part("model.inside", "look_inside", Rejected("inside", "the server keeps it to itself", "take torch"))
    asked.part("runs.stress", "stress", BackendError("It fell over.", "Try again."))
    report = run(ScriptedBackend(), inside=True, stress=1, runs=1)
    assert report.insides == report.stress == ()
    assert any("the server keeps it to itself" in note for note in report.notes)
    assert "stress, pocket on scripted: It fell over. Try again." in report.notes
    assert report.findings == (FOUND,)


@pytest.fixture
def both(asked):
    """`both(**options)` profiles two backends, which are two models of a report."""
    engine = Engine({name: ScriptedBackend(name=name) for name in "ab"}, caching=False)
    yield lambda **options: profile(engine, Plan.of(prompts="Go on.", backend="a,b", runs=1, **options))
    engine.close()


def second_raises(monkeypatch, module, name, answer, error):
    """Put a part in the place of another that answers the first time, and raises the second."""
    answers = iter([answer, error])

    def called(*given, **more):
        now = next(answers)
        if isinstance(now, BaseException):
            raise now
        return now

    set_part(monkeypatch, module, name, called)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), BackendError("It fell over.")])
def test_what_one_model_gave_is_not_lost_with_the_next(both, monkeypatch, error):
    second_raises(monkeypatch, "model.inside", "look_inside", INSIDE, error)
    second_raises(monkeypatch, "runs.stress", "stress", STRESSED, error)
    report = both(stress="settled")
    assert [each.model for each in report.insides] == [0]
    assert report.stress == (STRESSED,)
    notes = [note for note in report.notes if str(error) in note]
    assert [note.partition(":")[0] for note in notes] == ["time inside a token, pocket on b", "stress, pocket on b"]
    assert report.partial is None
    assert report.findings == (FOUND,)


def test_an_interrupt_while_the_second_model_is_looked_into_keeps_the_first(both, monkeypatch):
    second_raises(monkeypatch, "model.inside", "look_inside", INSIDE, KeyboardInterrupt())
    report = both(stress=1)
    assert [each.model for each in report.insides] == [0]
    assert (report.partial, report.stress) == ("interrupted after the runs", ())


def test_an_interrupted_stress_ends_it_and_is_kept(both, asked):
    asked.part("runs.stress", "stress", replace(STRESSED, ended="interrupted"))
    report = both(stress=1, inside=False)
    assert len(report.stress) == len(asked.seen["stress"]) == 1
    assert report.partial == "interrupted after the runs"


@pytest.mark.parametrize(("given", "seconds"), [("settled", None), ("500ms", 0.5)])
def test_a_stress_goes_on_for_a_time_or_until_memory_has_settled(run, asked, given, seconds):
    heard = []
    run(ScriptedBackend(), heard.append, stress=given, runs=1)
    assert [each[2] for each in asked.seen["stress"]] == [seconds]
    said = "until memory has settled" if seconds is None else "0.5 s"
    assert f"stress: pocket on scripted, {said}" in [each.doing for each in heard]


def test_an_interrupt_after_the_runs_keeps_them_and_what_was_done(run, asked):
    asked.part("runs.stress", "stress", KeyboardInterrupt())
    report = run(ScriptedBackend(), inside=True, stress=1, runs=2)
    assert report.partial == "interrupted after the runs"
    assert len(report.runs) == 2
    assert len(report.insides) == 1
    assert report.findings == (FOUND,)


def test_an_interrupt_while_it_is_judged_keeps_what_was_measured(run, asked):
    asked.part("judge.rules", "findings", KeyboardInterrupt())
    report = run(ScriptedBackend(), runs=2)
    assert report.partial == "interrupted after the runs"
    assert len(report.of(0)) == 2
    assert report.samples


def test_after_an_interrupt_of_the_runs_nothing_long_is_begun(run, asked):
    def stop(progress):
        if "run 2" in progress.doing:
            raise KeyboardInterrupt

    report = run(ScriptedBackend(), stop, inside=True, stress=1)
    assert report.partial == "interrupted: prompt, run 2 of 5"
    assert "look_inside" not in asked.seen
    assert report.findings == (FOUND,)


def test_an_environment_that_was_interrupted_is_no_report(run, asked):
    asked.part("machine.environment", "environment", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(ScriptedBackend())


def test_the_default_model_is_the_pocket_model(engine, alone):
    report = profile(engine, Plan.of(scenarios="simple", runs=1, max_tokens=3, warmup=0, inside=False))
    assert report.models[0].name == "pocket"
    assert report.runs[0].timings.prompt_tokens == 64
