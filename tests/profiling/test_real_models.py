"""The pocket model on the real backends: exact lengths, figures that hold together, caches that reuse."""

import pytest

from mlxnb.profiling import Plan, profile
from mlxnb.profiling.judge.figures import Summary
from mlxnb.profiling.report.words import model_names
from mlxnb.runtime import Engine
from tests.adapters import draw_updates, write_mlx

BACKENDS = ["torch", "mlx"]


@pytest.fixture(scope="module", params=BACKENDS)
def measured(request, tmp_path_factory):
    """A profile of several scenarios on one backend."""
    pytest.importorskip("torch" if request.param == "torch" else "mlx_lm")
    from tests.profiling.siblings import stand_in

    patch = pytest.MonkeyPatch()
    stand_in(patch)
    engine = Engine(caching=True)
    asked = Plan.of(
        backend=request.param,
        scenarios="simple,multi-turn,long-context,batch",
        prompt_tokens=[100],
        runs=2,
        max_tokens=6,
        inside=False,
    )
    try:
        yield profile(engine, asked)
    finally:
        engine.close()
        patch.undo()


def case(report, name):
    return next(place for place, each in enumerate(report.cases) if each.scenario == name)


def test_prompts_have_exactly_the_tokens_that_are_meant(measured):
    for name in ("simple", "batch", "random 100"):
        place = case(measured, name)
        assert {run.timings.prompt_tokens for run in measured.of(place)} == {measured.cases[place].prompt_tokens}
        assert measured.cases[place].notes == ()
        assert measured.cases[place].tokenising > 0


def test_a_prompt_that_the_context_does_not_hold_is_cut_and_said(measured):
    place = case(measured, "long-context")
    context = measured.models[0].context_length
    assert {run.timings.prompt_tokens for run in measured.of(place)} == {context - 6}
    assert measured.cases[place].notes == (
        f"prompts of {context - 6} instead of 4096 tokens: the context holds {context}",
    )
    assert measured.cases[place].prompt_tokens == 4096


def test_nothing_is_reused_where_the_scenario_is_not_about_that(measured):
    place = case(measured, "multi-turn")
    assert {run.timings.reused_tokens for run in measured.runs if run.case != place} == {0}


def test_later_turns_reuse_the_conversation_and_the_first_does_not(measured):
    runs = measured.of(case(measured, "multi-turn"))
    assert [(run.round, run.turn) for run in runs] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for first, second, third in (runs[:3], runs[3:]):
        assert [run.timings.prompt_tokens for run in (first, second, third)] == [128, 320, 512]
        assert first.timings.reused_tokens < 20  # what the chat template puts before every conversation
        assert 110 < second.timings.reused_tokens < 320
        assert 300 < third.timings.reused_tokens < 512


def test_the_batch_runs_together(measured):
    place = case(measured, "batch")
    runs = measured.of(place)
    assert len(runs) == 16
    assert {run.round for run in runs} == {0, 1}
    assert not any("not batched" in note for run in runs for note in run.notes)
    found = Summary.of(measured, place)
    assert found.rounds == 2
    assert found.throughput.median > 0


def test_figures_hold_together(measured):
    for place in range(len(measured.cases)):
        found = Summary.of(measured, place)
        assert found.failed == 0
        assert 0 < found.generation_tokens.high <= 6
        assert 0 < found.ttft.median <= found.total.high
        assert found.peak_rss > measured.models[0].weights / 2
    assert measured.models[0].load_time > 0
    assert all(run.own is None or 0 <= run.own < 60 for run in measured.runs)


def test_options_of_a_plan_reach_the_model(tmp_path):
    from tests.profiling.siblings import stand_in

    patch = pytest.MonkeyPatch()
    stand_in(patch)
    engine = Engine(caching=False)
    try:
        asked = Plan.of(
            scenarios="simple", draft=["none", "lookup"], runs=1, max_tokens=12, backend="torch", inside=False
        )
        report = profile(engine, asked)
    finally:
        engine.close()
        patch.undo()
    plain, drafted = report.runs
    assert plain.proposed is None
    assert drafted.proposed is not None
    assert drafted.accepted <= drafted.proposed
    assert report.cases[1].label == "simple, draft lookup"


def test_attention_kernels_are_on_for_their_cases_only(tmp_path):
    pytest.importorskip("mlx_lm")
    from tests.profiling.siblings import stand_in

    patch = pytest.MonkeyPatch()
    stand_in(patch)
    engine = Engine(caching=False)
    try:
        asked = Plan.of(
            scenarios="simple",
            kernels="off,on",
            kv_bits=8,
            runs=2,
            max_tokens=4,
            backend="mlx",
            compare=True,
            inside=False,
        )
        report = profile(engine, asked)
    finally:
        engine.close()
        patch.undo()
    assert [bool(run.attention_calls) for run in sorted(report.runs, key=lambda run: run.case)] == [
        False,
        False,
        True,
        True,
    ]


def test_an_adapter_is_loaded_once_and_is_another_model(alone, checkpoint, tmp_path):
    """Asked for only with the requests, it would be loaded within the first of them, and looked at without."""
    base = checkpoint("llama")
    folder = write_mlx(tmp_path / "tuned", draw_updates(base, ["model.layers.0.self_attn.q_proj"]), 2.0)
    engine = Engine(caching=False)
    try:
        plan = Plan.of(
            models=str(base), backend="torch", adapter=["none", str(folder)], prompt_tokens=8, max_tokens=3,
            runs=1, warmup=0,
        )  # fmt: skip
        report = profile(engine, plan)
        assert engine._models.loads == 2
    finally:
        engine.close()
    assert [case.error for case in report.cases] == [None, None]
    assert [model.adapter for model in report.models] == [None, "tuned"]
    assert [each.model for each in report.insides] == [0, 1]
    assert {run.timings.load_time for run in report.runs} == {0.0}
    assert model_names(report)[1].endswith("tuned")
