"""`--n`, `--compare`, `--logprobs` and `%mlxnb perplexity` in a real shell, over the pocket model and over a script."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.cli import main
from mlxnb.errors import MlxnbError, OptionError, PromptError
from mlxnb.magics.compare import arms_of, axes
from mlxnb.render.numbers import significant
from mlxnb.request import Request
from mlxnb.result import Result
from mlxnb.runtime import Engine
from mlxnb.runtime.samples import sampled
from tests.scripted import ScriptedBackend

NEEDS = {"torch": "torch", "mlx": "mlx_lm"}
ASK = "What does itertools.chain do?"


@pytest.fixture
def real(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine behind the magics is one with the real backends."""
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    return engine


@pytest.fixture(params=NEEDS)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(NEEDS[request.param])
    return str(request.param)


def value(shell: InteractiveShell, cell: str) -> Any:
    """What a cell gives back; a cell that fails raises."""
    ran = shell.run_cell(cell, store_history=True)
    ran.raise_error()
    return ran.result


# Samples.


def test_each_sample_repeats_alone(shell: InteractiveShell, real: Engine, backend: str, capsys: Any) -> None:
    line = f"--backend {backend} --dtype float32 --raw --temperature 1.5 --max-tokens 12"
    found = value(shell, f"%%generate --n 3 --seed 5 {line} --into many\nimport")
    shown = capsys.readouterr().out
    assert found is shell.user_ns["many"]
    assert all(f"[{i} of 3, seed {4 + i}]" in shown for i in (1, 2, 3))
    assert [each.provenance.sampling.seed for each in found] == [5, 6, 7]
    alone = real.generate("import", raw=True, backend=backend, dtype="float32", temperature=1.5, seed=6, max_tokens=12)
    assert alone.tokens == found[1].tokens
    assert len({tuple(each.tokens) for each in found}) > 1
    assert [each.tokens for each in real.samples(
        "import", 2, raw=True, backend=backend, dtype="float32", temperature=1.5, seed=5, max_tokens=12
    )] == [each.tokens for each in found[:2]]  # fmt: skip


def test_without_a_seed_each_sample_has_its_own_that_is_told(real: Engine, backend: str) -> None:
    asked = {"raw": True, "backend": backend, "dtype": "float32", "temperature": 1.5, "max_tokens": 8}
    found = real.samples("import", 3, **asked)
    seeds = [each.provenance.sampling.seed for each in found if isinstance(each, Result)]
    assert len(set(seeds)) == 3
    assert None not in seeds
    assert isinstance(found[2], Result)
    assert real.generate("import", seed=seeds[2], **asked).tokens == found[2].tokens


def test_the_prompt_of_samples_is_computed_once(backend: str) -> None:
    engine = Engine()
    try:
        found = engine.samples(ASK * 8, 3, backend=backend, temperature=1.0, seed=1, max_tokens=3)
    finally:
        engine.close()
    first, *others = [each.provenance for each in found if isinstance(each, Result)]
    assert len(others) == 2
    assert all(each.reused_tokens > 0.9 * first.prompt_tokens for each in others)


@pytest.mark.parametrize(
    ("n", "options", "said"),
    [
        (0, {"temperature": 1.0}, "n is 0. It takes a whole number from 1 to 1,000."),
        ("many", {"temperature": 1.0}, "n is 'many'"),
        (True, {"temperature": 1.0}, "n is True"),
        (2, {}, "n is 2 at temperature 0, where every answer is the same. Give a temperature above 0"),
        (2, {"temperature": 1.0, "seed": 2**63 - 1}, "count up from there"),
    ],
)
def test_samples_that_cannot_be_are_refused(n: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        sampled(Request.of("Hi", **options), n)


def test_one_greedy_sample_is_no_mistake() -> None:
    assert len(sampled(Request.of("Hi"), 1)) == 1


# Log-probabilities.


def test_a_cell_with_log_probabilities_shows_them(
    shell: InteractiveShell, real: Engine, backend: str, capsys: Any
) -> None:
    for line, most in (("--logprobs", 5), ("--logprobs 2", 2), ("--format logprobs", 5)):
        result = value(shell, f"%%generate {line} --backend {backend} --max-tokens 6\n{ASK}")
        assert [len(entry.top) for entry in result.logprobs] == [most] * 6
        assert "perplexity" in capsys.readouterr().out
    result = value(shell, f"%generate --logprobs=1 --format text --backend {backend} --max-tokens 6 {ASK}")
    assert len(result.logprobs) == 6
    assert "likeliest" not in capsys.readouterr().out
    value(shell, "%generate --last")
    assert "likeliest" in capsys.readouterr().out
    assert "likeliest" in repr(result.logprobs_view())
    assert value(shell, "%generate --last").logprobs is not None
    assert "likeliest" in capsys.readouterr().out


# Comparison.


@pytest.mark.usefixtures("script")
def test_arms_run_one_after_another_and_are_shown_together(
    shell: InteractiveShell, script: ScriptedBackend, capsys: Any
) -> None:
    found = value(shell, "%%generate --compare temperature=0,0.7 --seed 3 --into both\nHi")
    assert [request.sampling.temperature for request in script.requests] == [0.0, 0.7]
    assert all(request.sampling.seed == 3 for request in script.requests)
    assert found is shell.user_ns["both"]
    assert [each.text for each in found] == ["Hello, world."] * 2
    out = capsys.readouterr().out
    assert out.index("[temperature = 0]") < out.index("[temperature = 0.7]")
    assert "the first answer, word for word" in out


def test_each_arm_is_computed_anew_and_kept_to_the_schema(
    shell: InteractiveShell, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("llguidance")
    with_caches = Engine()
    monkeypatch.setattr(mlxnb, "engine", lambda: with_caches)
    shell.user_ns["own"] = {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]}
    shell.user_ns["own"]["additionalProperties"] = False
    line = f"--schema own --seed 3 --backend {backend} --max-tokens 30"
    try:
        kept = value(shell, f"%%generate {line}\n{ASK}")
        found = value(shell, f"%%generate --compare temperature=0,2 {line}\n{ASK}")
        named = value(shell, f"%%generate --compare temperature=0,2 {line} --cache always\n{ASK}")
    finally:
        with_caches.close()
    assert [each.parsed["x"] in (1, 2) for each in found] == [True, True]
    assert found[0].parsed == kept.parsed
    assert [(each.cached, each.provenance.reused_tokens) for each in found] == [(False, 0)] * 2
    assert named[0].cached
    assert "first answer" in capsys.readouterr().out


@pytest.mark.usefixtures("script")
def test_an_arm_that_fails_leaves_the_others(shell: InteractiveShell, capsys: Any) -> None:
    found = value(shell, "%%generate --compare backend=scripted,nope\nHi")
    assert isinstance(found[0], Result)
    assert isinstance(found[1], OptionError)
    assert "✗ There is no backend 'nope'" in capsys.readouterr().out
    with pytest.raises(OptionError, match="There is no backend 'no'"):
        value(shell, "%%generate --compare backend=no,nope\nHi")


@pytest.mark.usefixtures("script")
def test_an_interrupt_keeps_the_arms_that_are_done(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.runtime import Job

    wait, waits = Job.wait, threading.local()

    def interrupted_in_the_second(job: Job, timeout: float | None = None) -> bool:
        seen = getattr(waits, "jobs", [])
        waits.jobs = seen if job in seen else [*seen, job]
        if len(waits.jobs) == 2 and not job.watch.cancelled.is_set():
            raise KeyboardInterrupt
        return wait(job, timeout)

    monkeypatch.setattr(Job, "wait", interrupted_in_the_second)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at [12] answer"):
        value(shell, "%%generate --compare temperature=0,0.7,1 --into some\nHi")
    some = shell.user_ns["some"]
    assert some[0].text == "Hello, world."
    assert len(some) in (1, 2)
    assert all(each.finish_reason == "interrupted" for each in some[1:])


def test_backends_are_compared(shell: InteractiveShell, real: Engine) -> None:
    for module in NEEDS.values():
        pytest.importorskip(module)
    one, two = value(shell, f"%%generate --compare backend=torch,mlx --max-tokens 5 --dtype float32 --quiet\n{ASK}")
    assert (one.provenance.backend, two.provenance.backend) == ("torch", "mlx")
    assert one.text == two.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pocket", "--compare needs two values or more, and has 'pocket'"),
        ("a,", "needs two values"),
        ("temprature=1,2", "knows no 'temprature'. Did you mean temperature?"),
        ("prompt=a,b", "--compare knows no 'prompt'"),
        ("temperature=1,1", "has '1' twice"),
        ("temperature=1,x", "temperature is 'x'. It takes a number from 0 to 10"),
        ("kv_bits=4,5", "kv_bits is 5"),
        ("dtype=float32,int3", "dtype is 'int3'"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        arms_of(text, Request.of("Hi"))


def test_every_axis_makes_requests() -> None:
    request = Request.of("Hi")
    assert [arm.request.kv_bits for arm in arms_of("--kv-bits=none,4,8", request)] == [None, 4, 8]
    assert [arm.request.model for arm in arms_of("a/b,c", request)] == ["a/b", "c"]
    assert [arm.name for arm in arms_of("top_p=0.5,1", request)] == ["top_p = 0.5", "top_p = 1"]
    assert {"model", "backend", "temperature", "kv_bits", "dtype", "quantize", "draft", "cache"} <= set(axes())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--n 2 --compare a,b", "do not go together"),
        ("--n 2 --chat", "--n and --chat do not go together"),
        ("--compare a,b --chat x", "--compare and --chat do not go together"),
        ("--n", "--n has no value"),
        ("--n x --temperature 1", "n is 'x'"),
        ("--logprobs 21", "logprobs is 21. It takes a whole number from 0 to 20"),
        ("--logprobs many", "logprobs is 'many'"),
    ],
)
@pytest.mark.usefixtures("script")
def test_bad_lines_are_refused_before_anything_runs(
    shell: InteractiveShell, script: ScriptedBackend, line: str, said: str
) -> None:
    with pytest.raises(MlxnbError, match=said):
        value(shell, f"%%generate {line}\nHi")
    assert script.requests == []


@pytest.mark.usefixtures("script")
def test_samples_that_all_fail_are_one_error(shell: InteractiveShell, capsys: Any) -> None:
    with pytest.raises(OptionError, match="There is no backend 'nope'"):
        value(shell, "%%generate --n 2 --temperature 1 --backend nope\nHi")
    assert "[1 of 2" not in capsys.readouterr().out


# Perplexity.


def test_perplexity_of_a_variable_and_a_file(
    shell: InteractiveShell, real: Engine, backend: str, capsys: Any, tmp_path: Path
) -> None:
    texts = ["itertools.chain makes one iterator of several.", (ASK, "It joins."), "", "a"]
    shell.user_ns["texts"] = texts
    value(shell, f"%mlxnb perplexity texts --backend {backend} --dtype float32")
    out = capsys.readouterr().out
    whole = real.perplexity(texts[:2], backend=backend, dtype="float32")
    assert "without 2 texts" in out
    assert "The text is empty. Leave it out." in out
    assert f"{significant(whole.value)}  ● without 2 texts" in out
    long = tmp_path / "long.txt"
    long.write_text("The pathlib module offers classes for paths. " * 130, encoding="utf-8")
    value(shell, f"%mlxnb perplexity {long} --backend {backend}")
    assert "in 2 pieces" in capsys.readouterr().out


def test_perplexity_says_what_is_wrong(shell: InteractiveShell, real: Engine, tmp_path: Path) -> None:
    shell.user_ns["number"], shell.user_ns["nothing"], bad = 7, [], tmp_path / "bad.txt"
    bad.write_bytes(b"\xff\xfe")
    for line, said in (
        ("", "needs a file's or a variable's name"),
        ("missing", "There is no variable and no file 'missing'"),
        (str(bad), "not text in UTF-8: byte 0"),
        (str(tmp_path), "cannot be read"),
        ("number", "texts is a int"),
        ("nothing", "There is no text"),
        ("number more", "one word too many"),
    ):
        with pytest.raises((OptionError, PromptError), match=said):
            value(shell, f"%mlxnb perplexity {line}")
    with pytest.raises(OptionError, match="--model says nothing to status"):
        value(shell, "%mlxnb status -m pocket")


def test_perplexity_in_the_terminal(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "text.txt"
    file.write_text("The pathlib module offers classes for paths.", encoding="utf-8")
    assert main(["perplexity", str(file), "--backend", "torch"]) == 0
    out = capsys.readouterr().out
    assert "The pathlib module offers classes for paths." in out
    assert "pocket model · torch" in out
    assert main(["perplexity", str(tmp_path / "none.txt")]) == 1
    assert "cannot be read" in capsys.readouterr().err
