"""Speculative decoding through the engine, on real tiny models: what is said is what plain decoding says, whatever
guesses, however it is drawn and wherever it ends; and a draft that cannot be used is refused aloud.
"""

import json
import shutil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlxnb import Request, Speculation
from mlxnb.backends.draft_model import DraftModel
from mlxnb.cache import codec
from mlxnb.errors import GenerationError, ModelNotFoundError, OptionError, PromptError
from mlxnb.render.footer import describe, footer_text
from mlxnb.runtime import Engine
from tests.tiny import SHAPE, make_checkpoint, rope, save

BACKENDS = {"mlx": "mlx_lm", "torch": "torch"}
QUESTION = "What does itertools.chain do?"
DOCUMENT = "deque is a list-like container with fast appends and pops on either end. " * 3


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    pytest.importorskip("torch")  # makes the tiny checkpoints
    pytest.importorskip(BACKENDS[request.param])
    return request.param


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A random model of another seed and shape, with the same vocabulary, for a context of 512 tokens."""
    pytest.importorskip("torch")
    return str(make_checkpoint("llama", tmp_path_factory.mktemp("other"), seed=5))


def both(engine, prompt, draft, **options):
    """The answer with a draft, after it was held against the one without."""
    options = {"dtype": "float32", "max_tokens": 24, **options}
    tokens = options.pop("draft_tokens", None)
    plain = engine.generate(prompt, **options)
    drafted = engine.generate(prompt, draft=draft, draft_tokens=tokens, **options)
    assert drafted.tokens == plain.tokens
    assert (drafted.text, drafted.thinking) == (plain.text, plain.thinking)
    assert drafted.finish_reason == plain.finish_reason
    assert plain.speculation is None
    return drafted


@settings(max_examples=30)
@given(data=st.data())
def test_the_answer_is_that_of_plain_decoding(engine, checkpoint, other, backend, data):
    draw = data.draw
    options = {
        "model": draw(st.sampled_from(["pocket", str(checkpoint("qwen2"))])),
        "draft": draw(st.sampled_from(["lookup", "pocket", other])),
        "draft_tokens": draw(st.none() | st.integers(1, 7)),
        "max_tokens": draw(st.integers(1, 40)),
        "temperature": draw(st.sampled_from([0.0, 0.7, 1.3])),
        "top_p": draw(st.sampled_from([1.0, 0.9])),
        "repetition_penalty": draw(st.sampled_from([1.0, 1.3])),
        "seed": draw(st.integers(0, 5)),
        "stop": draw(st.sampled_from([None, "the", "`", "\n", "a"])),
        "raw": draw(st.booleans()),
    }
    both(engine, draw(st.sampled_from([QUESTION, DOCUMENT, "x"])), backend=backend, **options)


def test_a_model_drafts_for_itself_without_a_fault(engine, backend):
    s = both(engine, DOCUMENT, "pocket", raw=True, backend=backend, max_tokens=40, draft_tokens=4).speculation
    assert s.acceptance == 1
    assert s.proposed >= 12


def test_a_strange_model_is_hardly_ever_right(engine, other, backend):
    s = both(engine, QUESTION, other, backend=backend, max_tokens=40).speculation
    assert s.draft == other
    assert s.proposed >= 6
    assert s.acceptance < 0.2


def test_a_copy_is_looked_up(engine, backend):
    answer = engine.generate(QUESTION, backend=backend, dtype="float32").text
    again = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": QUESTION},
    ]
    result = both(engine, again, "lookup", backend=backend, max_tokens=60)
    assert result.text == answer
    assert result.speculation.acceptance > 0.5
    assert result.speculation.tokens_per_step > 1.5
    assert f"accepted {result.speculation.accepted} of {result.speculation.proposed} drafted" in footer_text(result)
    assert "tokens a step" in describe(result)


CASES = [(f, d) for f in ("gemma", "phi3-longrope", "deepseek-v3") for d in ("lookup", "itself")]


@pytest.mark.parametrize(("family", "draft"), [case for case in CASES if case != ("phi3-longrope", "itself")])
def test_every_family_that_can_be_cut(engine, checkpoint, backend, family, draft):
    model = str(checkpoint(family))
    prompt = "deque is a list-like container. " * (18 if family == "phi3-longrope" else 3)  # around its border of 256
    length = len(engine.call_with(model, lambda m: m.prompt(Request.of(prompt, raw=True)).ids, backend))
    if family == "phi3-longrope":
        assert length < 256 < length + 90
    name = model if draft == "itself" else draft
    result = both(engine, prompt, name, model=model, backend=backend, raw=True, max_tokens=90)
    assert result.speculation.draft == name
    assert result.speculation.steps + result.speculation.accepted == len(result.tokens) - 1 - (
        result.timings.prompt_tokens < 256 < length + 90 and family == "phi3-longrope"  # where it began anew
    )


def test_a_draft_whose_states_depend_on_their_length_is_refused(engine, checkpoint, backend):
    model = str(checkpoint("phi3-longrope"))
    result = both(engine, QUESTION, model, model=model, backend=backend, raw=True)
    assert any("depends on the length that it was made for" in note for note in result.provenance.notes)


@pytest.mark.parametrize("family", ["gemma3", "qwen3-next"])
def test_a_state_that_cannot_be_cut_is_decoded_plainly_and_says_so(engine, checkpoint, backend, family):
    model = str(checkpoint(family))
    result = both(engine, QUESTION, "lookup", model=model, backend=backend)
    assert result.speculation is None
    note = f"draft lookup not used: a KV state of {model} cannot be cut back to the tokens that were accepted"
    assert note in result.provenance.notes
    with pytest.raises(OptionError, match="cannot be cut back"):
        engine.generate(QUESTION, model=model, backend=backend, draft="lookup", strict=True)


def test_a_draft_that_cannot_be_cut_is_refused_by_its_name(engine, checkpoint, backend):
    draft = str(checkpoint("qwen3-next"))
    result = both(engine, QUESTION, draft, backend=backend)
    assert result.speculation is None
    assert any(draft in note and "cannot be cut back" in note for note in result.provenance.notes)


def test_another_vocabulary_is_refused(engine, checkpoint, backend, tmp_path):
    shutil.copytree(checkpoint("qwen2"), tmp_path / "other-words")
    file = tmp_path / "other-words" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    words = tokenizer["model"]["vocab"]
    first, second = list(words)[300:302]
    words[first], words[second] = words[second], words[first]
    file.write_text(json.dumps(tokenizer))
    draft = str(tmp_path / "other-words")
    result = both(engine, QUESTION, draft, backend=backend)
    assert result.speculation is None
    assert any("its vocabulary is another one: 2 tokens differ" in note for note in result.provenance.notes)
    with pytest.raises(OptionError, match="2 tokens differ"):
        engine.generate(QUESTION, backend=backend, draft=draft, strict=True)


def test_a_draft_that_is_not_there_is_an_error(engine, backend, tmp_path):
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        engine.generate(QUESTION, backend=backend, draft=str(tmp_path / "nowhere"))


def test_a_draft_that_the_backend_cannot_run_is_noted(engine, backend, checkpoint, tmp_path):
    shutil.copytree(checkpoint("qwen2"), tmp_path / "strange")
    config = json.loads((tmp_path / "strange" / "config.json").read_text())
    (tmp_path / "strange" / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    draft = str(tmp_path / "strange")
    result = both(engine, QUESTION, draft, backend=backend)
    assert result.speculation is None
    [note] = [note for note in result.provenance.notes if note.startswith(f"draft {draft} not used: ")]
    assert "unheard_of" in note or "cannot" in note
    with pytest.raises(OptionError, match="cannot be used"):
        engine.generate(QUESTION, backend=backend, draft=draft, strict=True)


def test_a_draft_that_breaks_leaves_nothing_behind(backend, checkpoint, monkeypatch):
    model = str(checkpoint("qwen2"))
    options = {"backend": backend, "model": model, "max_tokens": 12, "raw": True, "draft": model}
    guess, asked = DraftModel._guess, []

    def breaks(self, *args):
        asked.append(guess(self, *args))
        if len(asked) == 2:
            raise ValueError("out of tokens")
        return asked[-1]

    caching = Engine()
    try:
        plain = caching.generate(DOCUMENT, **{**options, "draft": None, "cache": "off"})
        with monkeypatch.context() as patched:
            patched.setattr(DraftModel, "_guess", breaks)
            broken = caching.generate(DOCUMENT, **options)  # the draft costs no answer
            assert broken.tokens == plain.tokens
            assert any("given up on the way: ValueError: out of tokens" in note for note in broken.provenance.notes)
            asked.clear()
            with pytest.raises(GenerationError, match="out of tokens"):
                caching.generate(DOCUMENT, strict=True, cache="off", **options)
        again = caching.generate(DOCUMENT, **options, cache="always", temperature=0.0, seed=1)
        assert again.speculation.acceptance == 1
        assert again.tokens == plain.tokens
    finally:
        caching.close()


def test_a_backend_that_decodes_by_itself_says_so(scripted):
    engine, _ = scripted
    result = engine.generate("Hello", draft="lookup")
    assert "draft lookup not used: the scripted backend decodes by itself" in result.provenance.notes
    with pytest.raises(OptionError, match="decodes by itself"):
        engine.generate("Hello", draft="lookup", strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draft_tokens": 4}, "draft_tokens is 4 without a draft"),
        ({"draft": ""}, "draft is ''"),
        ({"draft": 3}, "draft is 3"),
        ({"draft": "lookup", "draft_tokens": 0}, "It takes a whole number from 1 to 64"),
        ({"draft": "lookup", "draft_tokens": 2.5}, "draft_tokens is 2.5"),
    ],
)
def test_options_that_are_wrong(options, message):
    with pytest.raises(OptionError, match=message):
        Request.of("Hello", **options)


def test_a_draft_with_a_shorter_context_drafts_as_far_as_it_goes(engine, checkpoint, backend, tmp_path):
    short = {"max_position_embeddings": 48, "rope_parameters": rope(5000.0), "tie_word_embeddings": True}
    assert SHAPE["max_position_embeddings"] > 48
    draft = str(save("Qwen2Config", short, tmp_path / "short", seed=3))
    model = str(checkpoint("qwen2"))
    result = both(engine, "one two three", draft, model=model, backend=backend, raw=True, max_tokens=60)
    assert len(result.tokens) + result.timings.prompt_tokens > 48
    assert result.speculation.proposed > 0
    assert f"draft {draft} not used beyond its context of 48 tokens" in result.provenance.notes


@settings(max_examples=8)
@given(after=st.integers(1, 20), draft=st.sampled_from(["lookup", "itself"]), seed=st.integers(0, 3))
def test_an_interrupted_answer_goes_on_from_the_prefix_cache(engine, checkpoint, backend, after, draft, seed):
    model = str(checkpoint("qwen2"))
    options = {"model": model, "backend": backend, "raw": True, "max_tokens": 24, "dtype": "float32"}
    options |= {"temperature": 0.5, "seed": seed, "draft": model if draft == "itself" else draft}
    prompt = f"{seed} {after} {draft} {DOCUMENT}"
    caching = Engine()
    try:
        job = caching.stream(prompt, **options)
        said = []
        for chunk in job:
            said.append(chunk)
            if len(said) == after:
                break
        stopped = job.result()
        assert job.watch.draft is None
        assume(stopped.text.strip())
        more = prompt + stopped.text
        again = caching.generate(more, **options)
        assert again.provenance.reused_tokens > 20
        assert again.tokens == engine.generate(more, **{**options, "draft": None}).tokens
    finally:
        caching.close()


def test_a_kept_answer_remembers_how_it_was_decoded_and_the_draft_keeps_its_state(checkpoint, backend):
    model = str(checkpoint("qwen2"))
    options = {"backend": backend, "max_tokens": 12, "raw": True, "draft": model}
    engine = Engine()
    try:
        first = engine.generate(DOCUMENT, **options)
        assert [info.name for info in engine.models()] == ["pocket", model]
        again = engine.generate(DOCUMENT, **options)
        assert again.cached
        assert again.speculation == first.speculation
        assert "drafted" not in footer_text(again)
        assert not engine.generate(DOCUMENT, **{**options, "draft": None}).cached  # one key each
        engine.generate(f"{DOCUMENT} deque", **options)
        assert engine.cache.stats().prefixes[model].hits == 1
    finally:
        engine.close()


def test_a_draft_needs_no_chat_template(checkpoint, backend, tmp_path):
    shutil.copytree(checkpoint("qwen2"), tmp_path / "base")
    file = tmp_path / "base" / "tokenizer_config.json"
    words = json.loads(file.read_text())
    words.pop("chat_template", None)
    file.write_text(json.dumps(words))
    draft = str(tmp_path / "base")
    engine = Engine()
    try:
        with pytest.raises(PromptError, match="no chat template"):
            engine.generate(QUESTION, system="Be brief.", model=draft, backend=backend)
        for question in (QUESTION, "What is a deque?"):  # the second finds states in memory, and makes room
            result = both(engine, question, draft, system="Be brief.", backend=backend)
            assert result.speculation.proposed > 0
    finally:
        engine.close()


def test_an_answer_that_was_stored_before_there_were_drafts_is_read(engine):
    result = engine.generate(QUESTION, draft="lookup", max_tokens=8)
    assert codec.decode(codec.encode(result)) == result
    body = json.loads(codec.encode(result))
    del dict(body["items"])["result"]["fields"]["speculation"]
    assert codec.decode(json.dumps(body).encode()).speculation is None
    assert isinstance(result.speculation, Speculation)
