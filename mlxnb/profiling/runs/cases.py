"""What is measured: every scenario with every model, every combination of swept values, at every concurrency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...config import settings
from ..report import Case, Value
from ..report.words import value_words
from .plan import Plan
from .scenarios import Scenario, scenarios

OWN_PACE = "concurrency not used: this scenario asks {} at a time"


def cases(plan: Plan) -> tuple[Case, ...]:
    """The cases of a plan; those that are held against each other stand together, the one they are held against first.
    A plan that names no model is about the one that is set as the default.
    """
    models = plan.models or (settings().model,)
    return tuple(
        _case(plan, each, model, varied, together, len(models) > 1)
        for each in scenarios(plan)
        for together in ([each.together] if _own_pace(each) else plan.concurrency)
        for model in models
        for varied in plan.combinations()
    )


def _own_pace(scenario: Scenario) -> bool:
    """Whether it says by itself how many requests go together: a conversation is one, a batch several."""
    return scenario.together > 1 or scenario.turns > 1


def _case(
    plan: Plan, scenario: Scenario, model: str, varied: dict[str, Value], together: int, several_models: bool
) -> Case:
    named = {**({"model": model} if several_models else {}), **varied}
    most = {**plan.base, **varied}.get("max_tokens") or plan.max_tokens or scenario.max_tokens
    return Case(
        label=label(scenario.name, together, named),
        scenario=scenario.name,
        model=None,
        concurrency=together,
        max_tokens=int(most),
        prompt_tokens=scenario.lengths[-1] if scenario.lengths else None,
        varied=named,
        asked=model,
        notes=(OWN_PACE.format(together),) if _own_pace(scenario) and not {*plan.concurrency} <= {1, together} else (),
    )


def label(scenario: str, together: int, varied: dict[str, Value]) -> str:
    """A case in words: "medium, 4 at once, kv_bits 8"."""
    parts = [str(value) if name == "model" else f"{name} {value_words(value)}" for name, value in varied.items()]
    return ", ".join([scenario, *([f"{together} at once"] if together > 1 else []), *parts])


def groups(cases: Sequence[Case], compare: bool) -> list[list[int]]:
    """Places of the cases that are run in turns: those of one scenario at one concurrency where it is to compare, else
    each by itself.
    """
    if not compare:
        return [[place] for place in range(len(cases))]
    found: dict[tuple[str, int], list[int]] = {}
    for place, case in enumerate(cases):
        found.setdefault((case.scenario, case.concurrency), []).append(place)
    return list(found.values())


def rounds(group: Sequence[int], warmup: int, runs: int) -> Iterator[tuple[int, int]]:
    """(case, round) in the order that they are run: A B, B A, A B, … Warm-ups count from −warmup to −1."""
    for number in range(-warmup, runs):
        for place in group if number % 2 == 0 else reversed(group):
            yield place, number
