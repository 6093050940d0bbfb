"""A Rust library that panics, or a grammar that cannot go on, ends one answer, and neither a batch nor the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlxnb.backends import structure
from mlxnb.backends.panics import Panic, panics_as_errors
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.errors import GenerationError, MlxnbError, OptionError
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine
from mlxnb.schema import Schema
from tests.scripted import ScriptedBackend

pytest.importorskip("llguidance")
NEEDS = {"torch": "torch", "mlx": "mlx_lm"}
ASKED: dict[str, Any] = {"max_tokens": 12, "dtype": "float32", "raw": True}
LETTERS = Schema.of("regex:[a-z ]{40}")


class PanicException(BaseException):
    """What pyo3 raises, by its name: it exports none."""


@pytest.fixture(params=NEEDS)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(NEEDS[request.param])
    return str(request.param)


def panics(*_: Any, **__: Any) -> Any:
    raise PanicException("assertion failed: range.start <= range.end")


def cannot_go_on(*_: Any, **__: Any) -> Any:
    raise GenerationError("The answer cannot be kept to its schema any further: too many items.")


@pytest.fixture(params=[panics, cannot_go_on])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a structure of exactly four tokens does then, in the place of an answer."""
    real = structure.Structure.allowed

    def allowed(self: structure.Structure, made: Any) -> Any:
        return request.param() if len(made) == 4 else real(self, made)

    monkeypatch.setattr(structure.Structure, "allowed", allowed)
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("draft", [None, "lookup"])
@pytest.mark.usefixtures("broken")
def test_an_answer_that_cannot_go_on_is_an_error_with_what_there_is(
    engine: Engine, backend: str, draft: str | None
) -> None:
    with pytest.raises(GenerationError, match=r"assertion failed|any further") as caught:
        engine.generate("Say", schema=LETTERS, backend=backend, draft=draft, **ASKED)
    assert caught.value.partial is not None
    assert 3 <= len(caught.value.partial.tokens) <= 4
    assert engine.generate("Say", backend=backend, **ASKED).text


@pytest.mark.usefixtures("broken")
def test_in_a_batch_it_is_the_end_of_its_row_alone(engine: Engine, backend: str) -> None:
    rows = [Request.of("Say", backend=backend, schema=schema, **ASKED) for schema in (None, LETTERS, ["yes", "no"])]
    free, failed, chosen = engine.batch(rows, progress=False)
    assert isinstance(failed, GenerationError)
    assert isinstance(free, Result)
    assert free.tokens == engine.generate("Say", backend=backend, **ASKED).tokens
    assert isinstance(chosen, Result)
    assert chosen.parsed in ("yes", "no")


def test_a_prompt_that_makes_the_tokenizer_panic(engine: Engine, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "prompt", panics)
        with pytest.raises(MlxnbError, match="assertion failed"):
            engine.generate("Never asked before", backend=backend, **ASKED)
        together = engine.batch(["Nor this", "nor that"], backend=backend, progress=False, **ASKED)
    assert all(isinstance(each, MlxnbError) for each in together)
    assert engine.generate("Say", backend=backend, **ASKED).text


def test_a_schema_that_it_panics_over_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(structure, "_matcher", panics)
    job = engine.stream("Say", backend="torch", schema="regex:never asked before")
    with pytest.raises(OptionError, match="llguidance broke down over it: assertion failed"):
        job.result()
    assert job.watch.start is None


def test_the_engines_thread_outlives_what_runs_on_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException] | None] = []
    monkeypatch.setattr("threading.excepthook", lambda args: seen.append(args.exc_type))
    engine.later(panics)
    assert engine.call(lambda: 3) == 3
    assert seen == [PanicException]
    with pytest.raises(PanicException):
        engine.call(panics)


def test_what_is_no_panic_goes_on_as_it_is() -> None:
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="one"), panics_as_errors():
        raise ValueError("one")
    with pytest.raises(Panic, match=r"range\.start"), panics_as_errors():
        panics()


def test_a_model_that_a_library_panics_over_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ScriptedBackend(name="first", fails={"load": PanicException}), ScriptedBackend(name="second")
    engine = Engine({"first": first, "second": second}, caching=False)
    try:
        result = engine.generate("Hi", backend="first,second")
        assert result.provenance.backend == "second"
        assert "Panic" in result.provenance.passed_over[0].reason
        with pytest.raises(MlxnbError, match="could not load"):
            engine.generate("Hi", backend="first")
    finally:
        engine.close()
