"""Conversations by name, and turns with tools in them, over a script; overflow and reuse with the pocket model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mlxnb.errors import (
    ConversationError,
    EmptyAnswerError,
    EngineClosedError,
    GenerationError,
    OptionError,
    PromptTooLongError,
)
from mlxnb.render.footer import footer_text
from mlxnb.request import Message, Request
from mlxnb.runtime import Engine
from mlxnb.runtime.chats import Chat
from mlxnb.runtime.exchange import Terms
from tests.scripted import ScriptedBackend

Scripted = tuple[Engine, ScriptedBackend]
BACKENDS = ["torch", "mlx"]


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"21 °C in {city}"


def fails(city: str) -> str:
    """Fail."""
    raise LookupError(f"no {city}")


def call(name: str = "weather", arguments: str = '{"city": "Rome"}') -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def said(chat: Chat) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in chat.conversation.messages]


@pytest.fixture
def chat(scripted: Scripted) -> Chat:
    return scripted[0].chats.open("trip")


@pytest.fixture
def script(scripted: Scripted) -> ScriptedBackend:
    return scripted[1]


def test_a_conversation_grows_by_whole_turns(chat: Chat, script: ScriptedBackend) -> None:
    script.answers = [["One."], ["Two."]]
    chat.ask("a", system="S")
    result = chat.ask("b")
    assert result.text == "Two."
    assert said(chat) == [("system", "S"), ("user", "a"), ("assistant", "One."), ("user", "b"), ("assistant", "Two.")]
    assert [message.content for message in script.requests[1].messages] == ["S", "a", "One.", "b"]
    assert (len(chat), chat.conversation.model) == (2, "pocket")
    assert (result.before, result.tool_calls, result.left_out) == ((), (), 0)


def test_names_lead_to_conversations(chat: Chat, scripted: Scripted, tmp_path: Path) -> None:
    chats = scripted[0].chats
    assert list(chats) == []
    with pytest.raises(ConversationError, match=r"no conversation 'trip'\. There are none yet\."):
        chats["trip"]
    chat.ask("a")
    chat.ask("b")
    assert chats["trip"] is chats.open("trip") is chat
    with pytest.raises(ConversationError, match=r"Did you mean trip\?"):
        chats["tripp"]
    fork = chat.fork("other", 1)
    assert (len(fork), len(chat), list(chats)) == (1, 2, ["trip", "other"])
    fork.ask("c")
    assert [text for _, text in said(chat)[::2]] == ["a", "b"]
    assert [text for _, text in said(fork)[::2]] == ["a", "c"]
    with pytest.raises(ConversationError, match=r"There is a conversation 'other'\."):
        chat.fork("other")
    with pytest.raises(ConversationError, match="no turn 9"):
        chat.fork("third", 9)
    assert list(chats) == ["trip", "other"]
    file = chat.save(tmp_path / "trip.json")
    chat.undo()
    assert len(chat) == 1
    assert chats.load("again", file).conversation.messages[-1].content == "Hello, world."
    chat.clear()
    assert list(chats) == ["other", "again"]
    with pytest.raises(ConversationError, match="nothing to undo"):
        chat.undo()
    for name in ("", "  ", None):
        with pytest.raises(OptionError, match="conversation's name is"):
            chats.open(name)  # type: ignore[arg-type]


def test_what_fails_or_is_empty_leaves_it_as_it_was(chat: Chat, script: ScriptedBackend) -> None:
    chat.ask("a")
    before = chat.conversation
    script.answers = [["  "], ["no", "pe"], ["fine"]]
    notes = chat.ask("empty").provenance.notes
    assert notes == ("the conversation stays as it was, without this turn: there is no answer",)
    assert chat.conversation is before
    script.fail_after = 1
    with pytest.raises(GenerationError):
        chat.ask("b")
    assert chat.conversation is before
    script.fail_after = None
    chat.ask("c")
    assert len(chat) == 2


def test_one_question_at_a_time(chat: Chat, script: ScriptedBackend) -> None:
    def again(city: str) -> str:
        """Ask within."""
        return chat.ask(city).text

    script.answers = [[call("again")], ["done"]]
    result = chat.ask("a", tools=[again], allow=["again"])
    assert result.tool_calls[0].error == "ConversationError: trip is being answered. Wait, or ask in a fork of it."
    assert result.text == "done"


def test_nothing_is_changed_while_it_is_answered(chat: Chat, script: ScriptedBackend, tmp_path: Path) -> None:
    chat.ask("first")
    chat.save(tmp_path / "trip.json")

    def meddle(how: str) -> str:
        """Change the conversation within."""
        return str({"undo": chat.undo, "clear": chat.clear}[how]())

    script.answers = [[call("meddle", f'{{"how": "{how}"}}') for how in ("undo", "clear")], ["done"]]
    result = chat.ask("a", tools=[meddle], allow=["meddle"])
    assert [made.error for made in result.tool_calls] == [
        "ConversationError: trip is being answered. Wait, or ask in a fork of it."
    ] * 2
    assert len(chat) == 2


def test_what_was_answered_meanwhile_is_not_lost(chat: Chat, script: ScriptedBackend) -> None:
    """As two threads do that take the conversation at one time, and ask one after the other."""
    script.answers = [["One."], ["Two."]]
    late = chat.conversation.asked("b", "S")
    chat.ask("a")
    with pytest.raises(ConversationError, match="trip has changed meanwhile"):
        chat.take(late, Request.of(late.given()), Terms())
    assert [text for _, text in said(chat)] == ["a", "One."]
    after = chat.conversation.asked("b", "S")  # another system message is no other conversation
    chat.take(after, Request.of(after.given()), Terms())
    assert [text for _, text in said(chat)] == ["S", "a", "One.", "b", "Two."]


def test_a_turn_asked_anew_takes_the_place_of_the_whole_it_was_made_of(chat: Chat, script: ScriptedBackend) -> None:
    script.answers = [["One."], ["Two."], ["Anew."], ["Three."]]
    chat.ask("a")
    chat.ask("b")
    whole = chat.conversation
    talk = whole.upto(0).asked("c")
    with pytest.raises(ConversationError, match="trip has changed meanwhile"):
        chat.take(talk, Request.of(talk.given()), Terms())
    chat.take(talk, Request.of(talk.given()), Terms(), instead_of=whole)
    assert [text for _, text in said(chat)] == ["c", "Anew."]
    with pytest.raises(ConversationError, match="trip has changed meanwhile"):
        chat.take(talk, Request.of(talk.given()), Terms(), instead_of=whole)


def test_a_call_is_run_and_its_result_goes_back(chat: Chat, script: ScriptedBackend) -> None:
    script.answers = [["Let me see. ", call(), call(arguments='{"city": "Oslo"}')], ["It is ", "fine."]]
    result = chat.ask("Weather?", tools=[weather], allow=[weather])
    assert result.text == "It is fine."
    assert [(each.written(), each.output) for each in result.tool_calls] == [
        ('weather(city="Rome")', "21 °C in Rome"),
        ('weather(city="Oslo")', "21 °C in Oslo"),
    ]
    [before] = result.before
    assert (before.text, before.generation_tokens) == ("Let me see. ", 3)
    assert said(chat) == [
        ("user", "Weather?"),
        ("assistant", "Let me see. "),
        ("tool", "21 °C in Rome"),
        ("tool", "21 °C in Oslo"),
        ("assistant", "It is fine."),
    ]
    _, answer, *tools = script.requests[1].messages
    assert [(each.name, each.call_id) for each in tools] == [("weather", "call00001"), ("weather", "call00002")]
    assert [each.id for each in answer.tool_calls] == ["call00001", "call00002"]
    assert [tool.name for tool in script.requests[0].tools] == ["weather"]
    script.answers = [[call()], ["ok"]]
    assert chat.ask("And now?", tools=[weather], allow=[weather]).tool_calls[0].id == "call00003"
    assert len(chat) == 2


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (call("fails"), "LookupError: no Rome"),
        (call(arguments="{}"), "the arguments do not fit: city: Field required"),
        (call("rm"), "there is no tool 'rm'; the tools are weather, fails"),
        ("<tool_call>{oops</tool_call>", "the call was not understood, for it is no JSON object with a name: {oops"),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(chat: Chat, script: ScriptedBackend, written: str, error: str) -> None:
    script.answers = [[written], ["Sorry."]]
    result = chat.ask("Weather?", tools=[weather, fails], allow=[weather, fails])
    assert result.text == "Sorry."
    [done] = result.tool_calls
    assert (done.output, done.error) == (None, error)
    assert script.requests[1].messages[-1] == Message("tool", f"Error: {error}", name=done.name, call_id="call00001")


def test_what_was_not_allowed_is_not_run(chat: Chat, script: ScriptedBackend) -> None:
    script.answers = [[call()], ["never"]]
    with pytest.raises(OptionError) as caught:
        chat.ask("Weather?", tools=[weather])
    assert str(caught.value) == (
        'The model wants to call weather(city="Rome"), which was not allowed. Pass allow=[weather].'
    )
    assert len(chat) == 0
    with pytest.raises(OptionError, match="rm is allowed, and is no tool here"):
        chat.ask("Weather?", tools=[weather], allow=["rm"])
    with pytest.raises(OptionError, match="rounds is 0"):
        chat.ask("Weather?", tools=[weather], rounds=0)


def test_rounds_end(chat: Chat, script: ScriptedBackend) -> None:
    ran: list[str] = []

    def count(city: str) -> str:
        """Count."""
        ran.append(city)
        return "again"

    script.answers = [[call("count")]]
    script.pieces = [call("count")]
    with pytest.raises(
        GenerationError, match=r"called tools for 2 rounds and has no answer yet\. Allow more"
    ) as caught:
        chat.ask("Weather?", tools=[count], allow=[count], rounds=2)
    assert (len(ran), len(script.requests)) == (2, 3)
    partial = caught.value.partial
    assert partial is not None
    assert [each.output for each in partial.tool_calls] == ["again", "again", None]
    assert len(partial.before) == 2
    assert len(chat) == 0


@pytest.mark.parametrize("last", [2, 9])
def test_a_call_that_was_cut_is_not_run(chat: Chat, script: ScriptedBackend, last: int) -> None:
    """It may read as a whole one, and lack arguments that were to come."""
    ran: list[tuple[str, bool]] = []

    def remove(path: str, really: bool = True) -> str:
        """Remove."""
        ran.append((path, really))
        return "gone"

    whole = "<tool_call><function=remove><parameter=path>a</parameter><parameter=really>false</parameter></function>"
    cut = "<tool_call><function=remove><parameter=path>b</parameter>", "<parameter=really>false</parameter>"
    script.answers = [[f"{whole}</tool_call>", *cut], ["Well."]]
    result = chat.ask("Tidy up", tools=[remove], allow=[remove], max_tokens=last)
    assert ran == [("a", False)] if last == 2 else [("a", False), ("b", False)]
    assert [each.error for each in result.tool_calls][1:] == (
        ["the call was cut, for an answer may have 2 tokens: be brief"] if last == 2 else [""]
    )
    script.answers, script.pieces = [], list(cut)
    with pytest.raises(GenerationError, match="Raise --max-tokens: its call is cut"):
        chat.ask("Tidy up", tools=[remove], allow=[remove], max_tokens=1, rounds=2)
    assert len(ran) == (1 if last == 2 else 2)


def test_without_a_conversation_calls_are_told_and_not_run(scripted: Scripted) -> None:
    engine, script = scripted
    script.answers = [["See: ", call()]]
    result = engine.generate("Weather?", tools=[fails, weather])
    assert result.text == "See: "
    [asked] = result.tool_calls
    assert (asked.name, dict(asked.arguments), asked.output, asked.error) == ("weather", {"city": "Rome"}, None, "")
    assert engine.generate("Weather?").tool_calls == ()


def test_a_closed_engine_answers_no_more() -> None:
    engine = Engine({"scripted": ScriptedBackend()})
    chat = engine.chats.open("a")
    engine.close()
    with pytest.raises(EngineClosedError):
        chat.ask("Hi")


def test_a_model_that_counts_no_tokens_says_so(chat: Chat) -> None:
    chat.ask("a")
    with pytest.raises(
        OptionError, match="overflow drop cannot be done for pocket: the scripted backend does not tell"
    ):
        chat.ask("b", overflow="drop")
    with pytest.raises(OptionError, match=r"overflow is 'cut'\. It takes error, drop, summarise\."):
        chat.ask("b", overflow="cut")
    assert len(chat) == 1


@pytest.mark.parametrize("in_prompt", [True, False])
def test_a_schema_that_was_told_is_part_of_what_was_said(engine: Engine, in_prompt: bool) -> None:
    pytest.importorskip("llguidance")
    chat = engine.chats.open(f"choice {in_prompt}")
    result = chat.ask("Is it?", schema=["yes", "no"], schema_in_prompt=in_prompt, backend="torch")
    assert result.parsed in ("yes", "no")
    asked = chat.conversation.messages[0].content
    assert (asked != "Is it?") == in_prompt
    assert asked.startswith("Is it?")


@pytest.fixture(params=BACKENDS)
def real(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Options for the pocket model on a backend, in an engine that keeps KV states."""
    if request.param == "mlx":
        pytest.importorskip("mlx_lm")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine()
    yield {"engine": engine, "backend": request.param, "dtype": "float32"}
    engine.close()


LONG = (
    "What does itertools.chain do? " + "It joins things one after the other, I think, and more than two of them. " * 14
)


def test_every_turn_goes_on_from_what_was_computed(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("reuse")
    results = [chat.ask(text, max_tokens=40, **real) for text in ("What does deque do?", "Where is it?", "And sqrt?")]
    reused = [result.timings.reused_tokens for result in results]
    assert reused[0] == 0
    assert reused[0] < reused[1] < reused[2]
    for before, after in pairwise(results):
        assert after.timings.reused_tokens >= before.timings.prompt_tokens + len(before.tokens) - 1
    chat.undo()  # what is asked in its place goes on from the turns that are left
    again = chat.ask("What does glob do?", max_tokens=40, **real)
    assert again.timings.reused_tokens >= reused[1]


def test_a_context_that_overflows_is_an_error_that_offers_the_choice(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("full")
    for _ in range(3):
        chat.ask(LONG, max_tokens=8, **real)
    before = chat.conversation
    with pytest.raises(PromptTooLongError) as caught:
        chat.ask(f"{LONG} {LONG}", max_tokens=8, **real)
    assert chat.conversation is before
    message = str(caught.value)
    assert "tokens and pocket has a context of 1024." in message
    assert "Shorten it by at least " in message
    assert "--overflow drop" in message
    assert "--overflow summarise" in message


def test_an_answer_that_the_context_cuts_offers_the_choice_too(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("nearly")
    chat.ask("Hi", max_tokens=8, **real)

    def tokens(text: str) -> int:
        request = Request.of(chat.conversation.asked(text).given())
        return int(engine.call_with("pocket", lambda model: len(model.tokenizer.prompt(request).ids)))

    nearly = next(text for text in (LONG * 3 + "and on " * more for more in range(400)) if tokens(text) > 1014)
    result = chat.ask(nearly, max_tokens=500, **real)
    assert result.finish_reason == "length"
    note = "context full: the answer was cut; leave out the oldest turns with --overflow drop, or "
    assert any(told.startswith(note) for told in result.provenance.notes)
    assert footer_text(result).endswith(" · cut · context full")
    chat.undo()
    dropped = chat.ask(nearly, max_tokens=500, overflow="drop", **real)
    assert dropped.left_out == 1
    assert not any(told.startswith("context full") for told in dropped.provenance.notes)


def test_the_oldest_turns_are_dropped_and_it_is_said(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("drop")
    results = [chat.ask(f"{i}. {LONG}", max_tokens=30, overflow="drop", **real) for i in range(6)]
    assert results[1].left_out == 0
    last = results[-1]
    assert last.left_out == chat.conversation.left_out >= 2
    assert len(chat) == 6  # nothing is lost, it is only not given any more
    assert last.timings.prompt_tokens + 30 <= 1024
    assert any(
        note.startswith(f"overflow: the oldest {last.left_out} turns left out for the context of 1024 tokens")
        for note in last.provenance.notes
    )
    assert not any("lowered" in note for note in last.provenance.notes)
    assert last.before == ()
    short = engine.chats.open("short")
    short.ask("Hi", overflow="drop", max_tokens=8, **real)
    assert short.ask("Hi", overflow="drop", max_tokens=8, **real).left_out == 0


def test_the_oldest_turns_are_summarised_and_that_is_counted(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("sum")
    results = [chat.ask(f"{i}. {LONG}", max_tokens=30, overflow="summarise", **real) for i in range(6)]
    first = next(result for result in results if result.left_out)
    assert first.before
    assert all(each.generation_tokens for each in first.before)
    assert chat.conversation.summary == [each for result in results for each in result.before][-1].text.strip()
    assert chat.conversation.given()[0].content.startswith("[What was said before, in short: ")
    assert "a summary stands for it" in " ".join(first.provenance.notes)
    assert all(result.timings.prompt_tokens + 30 <= 1024 for result in results)
    assert len(chat) == 6
    # between two summaries the earlier turns are reused as ever
    kept = [b for a, b in pairwise(results) if a.left_out == b.left_out]
    assert kept
    assert all(result.timings.reused_tokens > result.timings.prompt_tokens // 3 for result in kept)


def test_a_question_that_is_too_long_is_an_error_however(real: dict[str, Any]) -> None:
    engine = real.pop("engine")
    chat = engine.chats.open("long")
    chat.ask("Hi", max_tokens=8, **real)
    for overflow in ("drop", "summarise"):
        with pytest.raises((PromptTooLongError, EmptyAnswerError)):
            chat.ask(LONG * 8, max_tokens=8, overflow=overflow, **real)
    assert len(chat) == 1
    assert chat.conversation.left_out == 0


def test_a_turn_that_is_too_long_to_be_summarised_at_once_is_read_in_pieces(real: dict[str, Any]) -> None:
    engine = real.pop("engine")

    def fits(text: str) -> bool:
        request = Request.of(text)
        return bool(engine.call_with("pocket", lambda model: len(model.tokenizer.prompt(request).ids)) <= 1000)

    longest = next(text for text in ((LONG * 9)[:end] for end in range(9000, 0, -100)) if fits(text))
    chat = engine.chats.open("pieces")
    chat.ask(longest, max_tokens=8, **real)
    result = chat.ask("Where is sqrt?", max_tokens=30, overflow="summarise", **real)
    assert result.left_out == 1
    assert len(result.before) >= 2
    assert all(each.provenance.prompt_tokens + each.provenance.max_tokens <= 1024 for each in result.before)
