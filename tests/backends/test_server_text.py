"""Bytes to events, halves to characters, markers to thinking: the same however the pieces are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends.base import Watch
from mlxnb.backends.halves import Halves
from mlxnb.backends.server_answer import Answer
from mlxnb.backends.server_events import LONGEST, BadStream, Events
from mlxnb.backends.server_faults import Fault
from mlxnb.backends.server_thinking import Opening
from mlxnb.request import Request
from tests.endpoint import piece


def cut(whole, places):
    at = sorted({min(place, len(whole)) for place in places})
    return [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]


def read(pieces):
    events = Events()
    found = [event for part in pieces for event in events.feed(part)]
    return [*found, *events.finish()], events.done


objects = st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.integers(), max_size=3)
cuts = st.lists(st.integers(0, 400), max_size=12)


@given(st.lists(objects, max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), cuts)
def test_events_are_the_same_however_the_bytes_are_cut(sent, end, ascii_only, places):
    lines = []
    for event in sent:
        lines += [": a comment", f"data: {json.dumps(event, ensure_ascii=ascii_only)}", ""]
    whole = "".join(line + end for line in [*lines, "data: [DONE]", ""]).encode("utf-8", "replace")
    assert read(cut(whole, places)) == read([whole])
    if ascii_only:
        assert read([whole]) == (sent, True)


@given(st.binary(max_size=300), cuts)
def test_any_bytes_give_events_or_one_error(whole, places):
    def outcome(pieces):
        try:
            return read(pieces)
        except BadStream as err:
            return str(err)

    assert outcome(cut(whole, places)) == outcome([whole])


@pytest.mark.parametrize("whole", [b"data: " + b"x" * LONGEST, (b"data: " + b"x" * 1000 + b"\n") * 1100])
def test_an_event_without_end_is_refused(whole):
    with pytest.raises(BadStream, match="more than 1 MB"):
        read([whole[at : at + 5000] for at in range(0, len(whole), 5000)])


def test_nothing_after_the_end_counts():
    assert read([b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {oops\n\n']) == ([{"a": 1}], True)


def test_an_old_llama_servers_error():
    assert read([b'error: {"code": 400, "message": "too long"}\n\n'])[0] == [
        {"error": '{"code": 400, "message": "too long"}'}
    ]


@given(st.text(st.characters(codec="utf-8"), max_size=20), cuts)
def test_characters_are_whole_again_however_their_halves_are_cut(text, places):
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [units[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(units), 2)]
    joined = Halves()
    assert "".join(joined.feed("".join(part)) for part in cut(halves, places)) + joined.finish() == text


@given(st.lists(st.text(st.characters(), max_size=4), max_size=6))
def test_what_is_no_character_never_comes_out(pieces):
    joined = Halves()
    said = "".join(joined.feed(part) for part in pieces) + joined.finish()
    assert not any("\ud800" <= char <= "\udfff" for char in said)


@given(st.text("abEND ", max_size=30), st.lists(st.sampled_from(["END", "b E", "aa"]), max_size=2), cuts)
def test_an_answer_is_cut_at_the_first_stop_string_however_it_comes(text, stops, places):
    watch = Watch()
    answer = Answer(Request.of("x", stop=stops), watch, "host")
    said = ""
    for part in cut(text, places):
        chunk = answer.feed(piece(part))
        said += chunk.text if chunk else ""
        if answer.over():
            break
    last = answer.finish()
    said += last.text if last else ""
    assert said == text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
    assert watch.finish_reason == "stop"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "function", "name"]), inner),
    max_leaves=4,
)
deltas = st.dictionaries(st.sampled_from(["content", "reasoning", "reasoning_content", "tool_calls"]), anything)
choices = st.fixed_dictionaries({}, optional={"delta": deltas | anything, "text": anything, "index": anything})
counts = st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), anything)


@given(choices, anything, counts | anything)
def test_a_strange_event_is_an_answer_or_a_fault(choice, reason, usage):
    watch = Watch()
    answer = Answer(Request.of("x"), watch, "host")
    event = {"choices": [{**choice, "finish_reason": reason}], "usage": usage}
    try:
        answer.feed(event)
    except Fault as fault:
        said = str(fault)
    else:
        said = "host sent "
    answer.finish()
    assert said.startswith("host sent ")
    assert watch.finish_reason in ("stop", "length")
    assert watch.counted >= 0


def split(pieces):
    opening, thinking, answer = Opening(), "", ""
    for part in pieces:
        more = opening.feed(part)
        thinking, answer = thinking + more[0], answer + more[1]
    more = opening.finish()
    return thinking + more[0], answer + more[1]


@given(st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", "[THINK]", " ", "a", "\n"]), max_size=8), cuts)
def test_thinking_is_split_the_same_however_the_text_is_cut(parts, places):
    whole = "".join(parts)
    assert split(cut(whole, places)) == split([whole])


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        (" \n<think>\na\n</think>\n\nb", "a\n", "b"),
        ("<think>never ends", "never ends", ""),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("x <think>a</think>b", "", "x <think>a</think>b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b"),
        ("<|channel|>final<|message|>b", "", "b"),
        ("Here is my thought process: a", "", "Here is my thought process: a"),
        ("<thi", "", "<thi"),
        ("  ", "", "  "),
        ("", "", ""),
    ],
)
def test_thinking_only_where_the_answer_begins_with_it(text, thinking, answer):
    assert split([text]) == (thinking, answer)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["Hm. Two and ", "two.</thi", "nk>\n\nIt is 4."], "</think>"),
        (["Hm.[/THINK]It is 4."], "[/THINK]"),
        (["R1 writes <think> first, ", "then </think>."], ""),
        (["<think>Hm.</think>It is 4."], ""),
        (["It is 4."], ""),
    ],
)
def test_thinking_that_a_server_left_in_the_text_is_told(texts, said):
    """Its template opened the block, so that only the end of it comes; what was shown cannot be taken back."""
    watch = Watch()
    answer = Answer(Request.of("x"), watch, "host")
    for text in texts:
        answer.feed({"choices": [{"delta": {"content": text}}]})
    answer.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    answer.finish()
    notes = [note for note in watch.notes if note.startswith("the thinking is part of the text")]
    assert len(notes) == bool(said)
    assert not said or f"up to {said}: host does not split" in notes[0]
