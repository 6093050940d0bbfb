"""What a caller gets from generate, stream, chat and agenerate, on the real backends with the pocket model."""

import asyncio
import time

import pytest

import mlxnb
from mlxnb.errors import EmptyPromptError, OptionError, PromptError, PromptTooLongError, TemplateError

QUESTION = "What does itertools.chain do?"
BACKENDS = ["mlx", "torch"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[request.param])
    return request.param


def test_a_result_says_where_it_came_from(engine, backend):
    r = engine.generate(
        QUESTION, model="pocket", backend=backend, max_tokens=64, temperature=0.0, seed=None, system=None
    )
    assert "itertools.chain" in r.text
    assert str(r) == r.text
    assert isinstance(r.tokens, list)
    assert r.tokens
    assert all(isinstance(token, int) for token in r.tokens)
    assert r.finish_reason == "stop"
    p = r.provenance
    assert (p.model, p.backend, p.source, p.dtype) == ("pocket", backend, "pocket", "bfloat16")
    assert p.device in ("cpu", "cuda", "metal", "mps")
    assert p.reused_tokens == 0
    assert p.prompt_tokens > 5
    assert p.context_length == 1024
    assert backend in p.backend_version
    assert p.attention


def test_timings_follow_their_definitions(engine, backend):
    before = time.perf_counter()
    r = engine.generate(QUESTION, backend=backend)
    after = time.perf_counter()
    t = r.timings
    n = len(r.tokens)
    assert len(t.token_times) == n
    assert before <= t.accepted <= t.start <= t.token_times[0] <= t.token_times[-1] <= after
    assert t.ttft == pytest.approx(t.token_times[0] - t.accepted)
    assert t.tpot == pytest.approx((t.token_times[-1] - t.token_times[0]) / (n - 1))
    assert t.decode_rate == pytest.approx(1 / t.tpot)
    assert t.prefill_rate == pytest.approx(t.prompt_tokens / (t.token_times[0] - t.start))
    assert len(t.itl) == n - 1
    assert all(gap >= 0 for gap in t.itl)


def test_one_token_has_no_rate(engine, backend):
    r = engine.generate(QUESTION, backend=backend, max_tokens=1)
    assert len(r.tokens) == 1
    assert r.finish_reason == "length"
    assert r.timings.tpot is None
    assert r.timings.decode_rate is None
    assert r.timings.ttft is not None


def test_max_tokens_is_kept(engine, backend):
    whole = engine.generate(QUESTION, backend=backend)
    part = engine.generate(QUESTION, backend=backend, max_tokens=7)
    assert part.tokens == whole.tokens[:7]
    assert part.finish_reason == "length"
    assert whole.text.startswith(part.text)


def test_a_stream_is_the_result_in_pieces(engine, backend):
    job = engine.stream(QUESTION, backend=backend)
    chunks = list(job)
    r = job.result()
    assert "".join(chunk.text for chunk in chunks) == r.text
    assert [chunk.token for chunk in chunks if chunk.token is not None] == r.tokens
    assert job.state == "done"


def test_a_seed_repeats_and_another_differs(engine, backend):
    def draw(**options):
        return engine.generate("Once upon a", raw=True, backend=backend, temperature=3.0, max_tokens=40, **options)

    first = draw(seed=7)
    assert draw(seed=7).tokens == first.tokens
    assert draw(seed=8).tokens != first.tokens
    free = draw()
    assert free.provenance.sampling.seed is not None
    assert draw(seed=free.provenance.sampling.seed).tokens == free.tokens


def test_a_stop_string_that_straddles_tokens_is_cut_exactly(engine, backend):
    whole = engine.generate(QUESTION, backend=backend).text
    for stop in (whole[9:14], whole[20:33], "\n\n```py"):
        assert stop in whole
        r = engine.generate(QUESTION, backend=backend, stop=stop)
        assert r.text == whole[: whole.find(stop)]
        assert r.finish_reason == "stop"
    several = engine.generate(QUESTION, backend=backend, stop=["nowhere", whole[20:33]])
    assert several.text == whole[: whole.find(whole[20:33])]


def test_a_prompt_too_long_gives_both_numbers(engine, backend):
    with pytest.raises(PromptTooLongError, match=r"has \d{4} tokens and pocket has a context of 1024"):
        engine.generate("word " * 3000, backend=backend)


def test_max_tokens_beyond_the_context_ends_there_and_says_so(engine, backend):
    r = engine.generate("x = 1\n" * 190, backend=backend, raw=True, max_tokens=5000)
    assert len(r.tokens) <= 1024 - r.provenance.prompt_tokens
    assert any("the context holds 1024" in note for note in r.provenance.notes)


def test_messages_system_and_raw_reach_the_template(engine, backend):
    chat = engine.chat(
        [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": engine.generate(QUESTION, backend=backend).text},
            {"role": "user", "content": "What is its signature?"},
        ],
        backend=backend,
    )
    assert "itertools.chain" in chat.text
    system = engine.generate(QUESTION, backend=backend, system="Answer briefly.")
    assert system.provenance.prompt_tokens > engine.generate(QUESTION, backend=backend).provenance.prompt_tokens
    raw = engine.generate(QUESTION, backend=backend, raw=True, max_tokens=3)
    assert raw.provenance.prompt_tokens < system.provenance.prompt_tokens


def test_agenerate_and_its_cancellation(engine, backend):
    async def run():
        r = await engine.agenerate(QUESTION, backend=backend)
        assert r.text
        task = asyncio.create_task(engine.agenerate("word " * 500, backend=backend, raw=True, max_tokens=400))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return r

    assert asyncio.run(run()).finish_reason == "stop"


def test_nothing_to_answer():
    engine = mlxnb.engine()
    for prompt in ("", "  \n", [], [{"role": "user", "content": " "}]):
        with pytest.raises(EmptyPromptError):
            engine.generate(prompt)
    for prompt in (None, 3, {"role": "user", "content": "x"}, [{"role": "pirate", "content": "x"}], ["x"]):
        with pytest.raises(PromptError):
            engine.generate(prompt)
    with pytest.raises(PromptError, match="system is a int"):
        engine.generate("x", system=5)
    with pytest.raises(PromptError, match="two system messages"):
        engine.generate([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], system="c")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_p", 1.5),
        ("top_k", 2.5),
        ("min_p", "much"),
        ("repetition_penalty", 0),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("seed", "seven"),
        ("seed", -3),
        ("stop", [""]),
        ("stop", 5),
        ("max_tokens", 10.5),
        ("backend", ["mlx"]),
        ("dtype", 16),
        ("sampling", None),
        ("messages", ()),
        ("tempreature", 1),
    ],
)
def test_an_option_out_of_range_names_itself_and_its_range(option, value):
    with pytest.raises(OptionError, match=option):
        mlxnb.engine().generate("hi", **{option: value})


def test_a_template_that_refuses_names_the_roles(engine, checkpoint, tmp_path, backend):
    import json
    import shutil

    path = tmp_path / "strict"
    shutil.copytree(checkpoint("llama"), path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ raise_exception('System role not supported') }}"
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TemplateError, match=r"\(system, user\): System role not supported"):
        engine.generate("hi", model=str(path), backend=backend, system="be kind")


def test_a_model_without_a_template_gets_the_prompt_as_it_is(engine, checkpoint, tmp_path, backend):
    import json
    import shutil

    path = tmp_path / "base"
    shutil.copytree(checkpoint("llama"), path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    r = engine.generate("hello", model=str(path), backend=backend, max_tokens=2)
    assert any("no chat template" in note for note in r.provenance.notes)
    with pytest.raises(PromptError, match="no chat template"):
        engine.generate("hello", model=str(path), backend=backend, system="be kind")


def test_thinking_is_no_part_of_the_answer(engine, checkpoint, tmp_path, backend):
    """A template that opens the block and a vocabulary with both markers, as reasoning models have."""
    from mlxnb.backends.row import TextStream
    from mlxnb.backends.tokenizer import Tokenizer

    path = checkpoint("llama")
    tokenizer = Tokenizer(path)
    assert tokenizer.markers is None
    tokenizer.inner.add_tokens(["<think>", "</think>"])
    tokenizer.markers = tokenizer._thinking_markers()
    assert tokenizer.markers == ("<think>", "</think>")
    ids = tokenizer.inner.encode("<think>\nLet me see.</think>\n\nIt joins END lists.", add_special_tokens=False)
    text = TextStream(tokenizer, ("END",), thinking=False)
    parts = [text.feed(i) for i in ids] + [text.finish()]
    assert "".join(t for t, _ in parts) == "Let me see."
    assert "".join(a for _, a in parts).startswith("It joins ")
    assert text.stopped


def test_the_signature_names_every_option():
    import inspect

    from mlxnb.runtime import Engine

    for method in (Engine.generate, Engine.stream, Engine.chat, Engine.agenerate):
        parameters = inspect.signature(method).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        expected = {"model": "pocket", "backend": "auto", "max_tokens": 256, "temperature": 0.0, "seed": None}
        assert expected.items() <= defaults.items()
        assert {"system", "raw", "stop", "strict", "dtype", "top_p", "top_k", "min_p"} <= set(defaults)
