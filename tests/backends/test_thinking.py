"""Thinking is told from the answer as each family marks it, and asked for by the switch that its template has.

The tokenizers are the pocket model's, with the special tokens and a template of the family's form.
"""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.backends.base import Watch
from mlxnb.backends.row import TextStream
from mlxnb.backends.server_answer import Answer
from mlxnb.backends.server_body import body_of
from mlxnb.backends.server_kinds import KINDS
from mlxnb.backends.split import Unwrapper
from mlxnb.backends.structure import structure_for
from mlxnb.backends.thinking import FAMILIES, HARMONY, HarmonySplitter, markers_of, splitter
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.errors import OptionError
from mlxnb.request import Request

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TURNS_HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
)
# Families whose markers are no tokens: their templates say them, or begin the block.
PLAIN = {
    "olmo": TURNS + "{% if false %}<think>{% endif %}",
    "granite": TURNS
    + "{% if thinking %}Write your thoughts after 'Here is my thought process:' and write your response "
    "after 'Here is my response:'.{% endif %}",
}
TOKENS = {
    "olmo": [],
    "granite": [],
    "harmony": ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>", "<|return|>"],
    "gemma4": ["<|channel>", "<channel|>", "<|think|>", "<turn|>"],
    "k3": ["<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"],
    "cohere": ["<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"],
    "think": ["<think>", "</think>"],
    "seed": ["<seed:think>", "</seed:think>"],
    "none": [],
}


@pytest.fixture
def tokenizer(tmp_path):
    """Makes the tokenizer of a family, with a chat template."""

    def make(family: str, template: str = TURNS) -> Tokenizer:
        folder = shutil.copytree(
            mlxnb.pocket.path(), tmp_path / family, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True
        )
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
        first = Tokenizer(folder)
        first.inner.add_tokens(TOKENS[family], special_tokens=True)
        first.inner.save_pretrained(folder)
        return Tokenizer(folder)

    return make


def split(tokenizer: Tokenizer, said: str, thinking: bool = False) -> tuple[str, str]:
    stream = TextStream(tokenizer, (), thinking)
    ids = tokenizer.inner.encode(said, add_special_tokens=False)
    parts = [stream.feed(i) for i in ids] + [stream.finish()]
    return "".join(t for t, _ in parts), "".join(a for _, a in parts)


ANALYSIS, FINAL = HARMONY.begin, "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("family", "said", "thinking", "answer"),
    [
        ("think", "<think>\nHm.\n</think>\n\nIt is 4.", "Hm.\n", "It is 4."),
        ("seed", "<seed:think>Hm.</seed:think>It is 4.", "Hm.", "It is 4."),
        ("gemma4", "<|channel>thought\nHm.\n<channel|>It is 4.<turn|>", "Hm.\n", "It is 4."),
        (
            "cohere",
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>It is 4.<|END_RESPONSE|>",
            "Hm.",
            "It is 4.",
        ),
        (
            "k3",
            "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>It is 4.<|close|>response<|sep|>"
            "<|close|>message<|sep|>",
            "Hm.",
            "It is 4.",
        ),
        ("harmony", f"{ANALYSIS}Hm.<|end|>{FINAL}It is 4.", "Hm.", "It is 4."),
        (
            "harmony",
            f"{ANALYSIS}Hm.<|end|><|start|>assistant{ANALYSIS} Well.<|end|>{FINAL}It is 4.",
            "Hm. Well.",
            "It is 4.",
        ),
        ("harmony", "<|channel|>final <|constrain|>json<|message|>{}", "", "{}"),
        ("harmony", "<|channel|>commentary<|message|>I look it up.<|end|>", "", "I look it up."),
        ("harmony", f"{ANALYSIS}Hm", "Hm", ""),
        ("harmony", "<|channel|>fin", "", ""),
        ("none", "Write <think> and </think>.", "", "Write <think> and </think>."),
    ],
)
def test_each_family_is_split_as_it_marks_its_thinking(tokenizer, family, said, thinking, answer):
    assert split(tokenizer(family), said) == (thinking, answer)


GRANITE = TURNS + "{% if thinking %}Think between <think></think> and answer between <response></response>.{% endif %}"
HUNYUAN = TURNS + "{% if '</answer>' in messages[0].content %}{{ messages[0].content.split('<answer>') }}{% endif %}"


@pytest.mark.parametrize(("template", "tag"), [(GRANITE, "response"), (HUNYUAN, "answer")])
def test_tags_around_the_answer_are_no_part_of_it(tokenizer, template, tag):
    said = f"<think>Hm.</think>\n<{tag}>\nIt is 4.</{tag}>"
    assert split(tokenizer("think", template), said) == ("Hm.", "It is 4.")
    assert split(tokenizer("none", TURNS), f"<{tag}>4</{tag}>") == ("", f"<{tag}>4</{tag}>")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<response>\nA tag <response> and </response> in it.\n</response>", "A tag <response> and </response> in it."),
        ("Write <response>4</response>.", "Write <response>4</response>."),
        ("<response>4</response> and more", "4</response> and more"),
        ("<response>4", "4"),
        ("<resp", "<resp"),
        ("<response>a</response>\n\n</response>\n", "a</response>"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_tags_in_an_answer_are_part_of_it(said, answer, size):
    unwrapper = Unwrapper([("<response>", "</response>"), ("<answer>", "</answer>")])
    pieces = [said[i : i + size] for i in range(0, len(said), size)]
    assert "".join([*map(unwrapper.feed, pieces), unwrapper.finish()]) == answer


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_marker_in_the_answer_is_what_it_is_about(size):
    """Or all that follows would be lost to the reader."""

    def parts(text: str, pair: tuple[str, str], inside: bool = False) -> tuple[str, str]:
        split = splitter(pair, inside)
        found = [split.feed(text[i : i + size]) for i in range(0, len(text), size)] + [split.finish()]
        return "".join(t for t, _ in found), "".join(a for _, a in found)

    tags = ("<think>", "</think>")
    about = "R1 writes <think> first, then </think>."
    assert parts(about, tags) == ("", about)
    assert parts(f"<think>Hm.</think>\n\n{about}", tags) == ("Hm.", about)
    assert parts(f"Hm.</think>{about}", tags, True) == ("Hm.", about)
    assert parts("<think>a</think>\n<think>b</think>c", tags) == ("ab", "c")  # before the answer it thinks on
    assert parts("\n<think>a</think>\nb", tags) == ("a", "b")  # GLM
    assert parts("\n <b>", tags) == ("", "\n <b>")
    assert parts(" \n", tags) == ("", " \n")
    gemma = ("<|channel>thought", "<channel|>")
    assert parts("One.<|channel>thought\nHm.<channel|>Two.", gemma) == ("Hm.", "One.Two.")


@pytest.mark.parametrize("raw", [True, False])
def test_a_raw_text_of_a_model_that_marks_nothing_stays_whole(tokenizer, raw):
    """One that answers in a chat may think all the same, as Phi-4-mini-reasoning does."""
    made = tokenizer("none")
    stream = TextStream(made, (), False, raw=raw)
    ids = made.inner.encode("<think>Hm.</think>4", add_special_tokens=False)
    parts = [*map(stream.feed, ids), stream.finish()]
    said = "".join(t for t, _ in parts), "".join(a for _, a in parts)
    assert said == (("", "<think>Hm.</think>4") if raw else ("Hm.", "4"))


def test_a_tool_call_of_gpt_oss_stays_whole(tokenizer):
    call = "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}"
    assert split(tokenizer("harmony"), f"{ANALYSIS}Hm.<|end|><|start|>assistant{call}") == ("Hm.", call)


@given(st.lists(st.sampled_from([ANALYSIS, FINAL, "<|end|>", "<|start|>", "<|channel|>", "a", "<|", "x y"])), st.data())
def test_harmony_is_split_alike_in_one_piece_and_in_many(parts, data):
    text = "".join(parts)
    whole, pieces = HarmonySplitter(), HarmonySplitter()
    expected = [whole.feed(text), whole.finish()]
    found, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found.append(pieces.feed(rest[:size]))
        rest = rest[size:]
    found.append(pieces.finish())
    for side in (0, 1):
        assert "".join(each[side] for each in found) == "".join(each[side] for each in expected)


@pytest.mark.parametrize("marks", FAMILIES, ids=lambda marks: marks.begin)
def test_what_closes_a_block_closes_it(marks):
    """The text that a budget forces leads out of thinking, whichever family it is."""
    split = splitter(marks.pair)
    assert split.feed(f"{marks.begin}hm") == ("hm", "")
    assert split.inside
    assert split.feed(f"{marks.end}yes") == ("", "yes")
    assert not split.inside


def test_markers_that_are_no_tokens_are_known_by_the_template():
    assert markers_of([], "{{ m.content.split('</thought>')[-1] }}") == ("<thought>", "</thought>")
    assert markers_of(["<think>"], TURNS) is None


QWEN = TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
DEEPSEEK = TURNS + "{% if thinking %}<think>{% else %}</think>{% endif %}"
SEED = "{% if thinking_budget is defined %}{{ thinking_budget }}{% endif %}" + TURNS
MISTRAL = (
    "{% if reasoning_effort is defined and reasoning_effort not in ('none', 'high') %}"
    "{{ raise_exception('only none and high') }}{% endif %}effort {{ reasoning_effort }} " + TURNS
)
NEMOTRON = (
    "{% set ns = namespace(on=true) %}{% for m in messages %}{% if '/no_think' in m.content %}{% set ns.on = false %}"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content.replace('/no_think', '').replace('/think', '') }}{% endfor %}"
    "<|im_start|>assistant\n{% if ns.on %}<think>\n{% else %}<think></think>{% endif %}"
)
GPT_OSS = "Reasoning: {{ reasoning_effort | default('medium') }} " + TURNS_HARMONY


@pytest.mark.parametrize(
    ("family", "template", "think", "rendered", "inside"),
    [
        ("think", QWEN, "off", "assistant\n<think>\n\n</think>\n\n", False),
        ("think", QWEN, "on", "assistant\n", False),
        ("think", QWEN, 0, "</think>\n\n", False),
        ("think", QWEN, 50, "assistant\n", False),
        ("think", DEEPSEEK, "on", "assistant\n<think>", True),
        ("think", DEEPSEEK, "off", "assistant\n</think>", False),
        ("seed", SEED, 512, "512<|im_start|>", False),
        ("seed", SEED, "off", "0<|im_start|>", False),
        ("think", MISTRAL, "off", "effort none ", False),
        ("think", MISTRAL, "on", "effort high ", False),
        ("think", NEMOTRON, "off", "<think></think>", False),
        ("think", NEMOTRON, "on", "assistant\n<think>\n", True),
        ("harmony", GPT_OSS, "on", "Reasoning: medium ", False),
        ("think", TURNS + "<think>", "on", "assistant\n<think>", True),
    ],
)
def test_a_template_is_told_in_its_own_words(tokenizer, family, template, think, rendered, inside):
    made = tokenizer(family, template)
    prompt = made.prompt(Request.of("What is 2 + 2?", think=think, strict=True))
    text = made.inner.decode(prompt.ids)
    assert text.startswith(rendered) or text.endswith(rendered)
    assert (prompt.thinking, prompt.note) == (inside, "")


@pytest.mark.parametrize(
    ("family", "template", "think", "why"),
    [
        ("think", TURNS + "<think>\n", "off", "its chat template has no switch for thinking"),
        ("none", TURNS, "on", "its chat template has no switch for thinking"),
        ("think", TURNS + "{# enable_thinking does nothing #}", "off", "its chat template has no switch for thinking"),
        ("harmony", GPT_OSS, "off", "this family always thinks: it was asked for reasoning_effort low instead"),
        ("harmony", TURNS_HARMONY, "off", "this family always thinks"),
    ],
)
def test_a_model_that_cannot_be_told_says_so_or_fails_when_strict(tokenizer, family, template, think, why):
    made = tokenizer(family, template)
    assert made.prompt(Request.of("Hi", think=think)).note == f"think {think} not used: {why}"
    with pytest.raises(OptionError, match=why) as raised:
        made.prompt(Request.of("Hi", think=think, strict=True))
    assert ("think 0 closes" in str(raised.value)) == (family != "none")


def structured(made: Tokenizer, schema: str, **asked: object):
    """A guide for a schema, what turns text into ids, and what tells which of some tokens it allows after a text."""
    pytest.importorskip("llguidance")
    request = Request.of("Hi", schema=schema, **asked)
    guide = structure_for(made, request, made.prompt(request))
    assert guide is not None

    def ids(text: str) -> list[int]:
        return made.inner.encode(text, add_special_tokens=False)

    def may(after: str, text: str) -> bool:
        words, [token, *_] = guide.allowed(ids(after)), ids(text)
        return bool(token // 32 < words.size and words[token // 32] >> token % 32 & 1)

    return guide, ids, may


@pytest.mark.parametrize(
    ("family", "opened", "closed"),
    [
        ("think", "<think>", "</think>"),
        ("gemma4", "<|channel>thought", "<channel|>"),
        ("k3", "<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        ("olmo", "<think>", "</think>"),
        ("granite", "Here is my thought process:", "Here is my response:"),
    ],
)
def test_a_schema_begins_after_thinking_of_every_kind_of_marker(tokenizer, family, opened, closed):
    """Markers of one token or of several, special or plain text: they may open the answer, and then it is free."""
    made = tokenizer(family, PLAIN.get(family, TURNS))
    guide, ids, may = structured(made, "regex:[0-9]{2}")
    assert may("", "7")
    assert may("", opened)
    assert not may("", "Hm")
    first = made.inner.decode(ids(opened)[:1])
    if len(ids(opened)) > 1:
        assert may(first, made.inner.decode(ids(opened)[1:2]))
        assert not may(first, "7")
    thinking = f"{opened}Hm, 12"
    assert may(thinking, " or")
    assert not may(thinking, "<|im_end|>")
    assert may(thinking, closed)
    after = ids(thinking) + ids(closed)
    assert may_only_digits(made, guide.allowed(after))
    guide.drew([*after, *ids("1")], None)
    assert not guide.over
    guide.drew([*after, *ids("1"), *ids("2")], None)
    assert guide.over


def may_only_digits(made: Tokenizer, words) -> bool:
    allowed = [i for i in range(words.size * 32) if words[i // 32] >> i % 32 & 1]
    return bool(allowed) and all(made.inner.decode([i]).isdigit() for i in allowed)


def test_a_schema_that_may_begin_as_the_marker_does(tokenizer):
    """Both ways stay open until one is left."""
    made = tokenizer("olmo", TURNS + "<think></think>" + TURNS)
    _, ids, may = structured(made, "regex:<(th)?[0-9]>")
    assert len(ids("<think>")) > 2
    assert may("", "<")
    assert may("<", "7")
    assert may("<", made.inner.decode(ids("<think>")[1:2]))
    assert not may("<", "Hm")
    assert may("<7", ">")
    assert not may("<7", "7")
    assert may("<think>", "Hm")
    assert not may("<think>Hm</think>", "Hm")
    assert may("<think>Hm</think>", "<")


def test_a_schema_with_the_messages_of_gpt_oss(tokenizer):
    """It is about the final message: what comes before has a header each, and is thinking."""
    made = tokenizer("harmony", TURNS_HARMONY)
    guide, ids, may = structured(made, "regex:[0-9]{2}")
    assert not may("", "7")
    assert may("", "<|channel|>")
    assert guide.forced([]) == ids("<|channel|>")
    assert may("<|channel|>", "final")
    assert may("<|channel|>", "analysis")
    assert not may("<|channel|>", "commentary")
    assert may("<|channel|>final<|message|>", "7")
    assert not may("<|channel|>final<|message|>", "Hm")
    assert may(f"{ANALYSIS}Hm", " 12")
    assert not may(f"{ANALYSIS}Hm<|end|>", "7")
    assert guide.forced(ids(f"{ANALYSIS}Hm<|end|>")) == ids("<|start|>assistant<|channel|>")
    assert may(f"{ANALYSIS}Hm<|end|><|start|>assistant{ANALYSIS}", "Hm")
    assert may(f"{ANALYSIS}Hm<|end|>{FINAL}", "7")
    whole = f"{ANALYSIS}Hm<|end|>{FINAL}12"
    guide.drew(ids(whole), None)
    assert guide.over
    assert split(made, whole) == ("Hm", "12")


def test_a_prompt_that_speaks_of_the_marker_closes_nothing(tokenizer):
    """Only what the template itself closed at its end is closed."""
    pytest.importorskip("llguidance")
    made = tokenizer("think", TURNS)
    request = Request.of("What is </think>", schema="regex:[0-9]+")
    guide = structure_for(made, request, made.prompt(request))
    opening = made.inner.convert_tokens_to_ids("<think>")
    assert guide.allowed([])[opening // 32] >> opening % 32 & 1


def test_what_the_template_closed_the_answer_does_not_open(tokenizer):
    for think, opens in (("off", False), ("on", True)):
        _, _, may = structured(tokenizer("think", QWEN), "regex:[0-9]+", think=think)
        assert may("", "7")
        assert may("", "<think>") == opens


def test_nothing_is_told_where_nothing_was_asked(tokenizer):
    made = tokenizer("think", QWEN)
    assert made.inner.decode(made.prompt(Request.of("Hi")).ids).endswith("assistant\n")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), ("on", "on"), ("off", "off"), (True, "on"), (False, "off"), (0, 0), (120, 120), ("120", 120)],
)
def test_what_think_takes(given, kept):
    assert Request.of("Hi", think=given).think == kept
    assert type(Request.of("Hi", think=given).think) is type(kept)


@pytest.mark.parametrize("wrong", ["maybe", -1, "-3", 1.5, "", "1.5", [1]])
def test_what_think_does_not_take(wrong):
    with pytest.raises(OptionError, match=r"think is .*It takes on, off, or how many tokens"):
        Request.of("Hi", think=wrong)


def test_a_raw_prompt_is_told_nothing():
    with pytest.raises(OptionError, match="told by the chat template"):
        Request.of("Hi", raw=True, think="off")
    assert Request.of("Hi", raw=True, think=5).think == 5


@pytest.mark.parametrize(
    ("kind", "think", "sent"),
    [
        ("vllm", "off", {"enable_thinking": False, "thinking": False, "reasoning": False, "thinking_budget": 0}),
        ("llama-server", "on", {"enable_thinking": True, "thinking": True, "thinking_mode": "enabled"}),
        ("mlx-lm", "off", {"thinking_mode": "disabled", "thinking_option": "off"}),
        ("ollama", "off", {"reasoning_effort": "none"}),
        ("openai", "on", {"reasoning_effort": "medium"}),
    ],
)
def test_a_server_is_told_in_its_own_words(kind, think, sent):
    body = body_of(Request.of("Hi", think=think, strict=True), "m", KINDS[kind], Watch())["extra_body"]
    told = body.get("chat_template_kwargs", body)
    assert sent.items() <= told.items()
    assert ("reasoning_effort" in told) == (kind in ("ollama", "openai"))


@pytest.mark.parametrize(
    ("kind", "think", "why"),
    [("lmstudio", "off", "LM Studio is not told whether to think"), ("vllm", 9, "a server counts no thinking")],
)
def test_what_a_server_is_not_told_is_said(kind, think, why):
    watch = Watch()
    body_of(Request.of("Hi", think=think), "m", KINDS[kind], watch)
    assert f"think {think} not used: {why}" in watch.notes
    with pytest.raises(OptionError, match=why):
        body_of(Request.of("Hi", think=think, strict=True), "m", KINDS[kind], Watch())


@pytest.mark.parametrize(("think", "told"), [("off", True), (0, False), ("on", False), (None, False)])
def test_a_server_that_thinks_all_the_same_is_named(think, told):
    watch = Watch()
    answer = Answer(Request.of("Hi", think=think), watch, "host")
    answer.feed({"choices": [{"delta": {"reasoning_content": "Hm."}}]})
    answer.feed({"choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}]})
    answer.finish()
    assert ("think off was not heeded: host or its model thought all the same" in watch.notes) == told
