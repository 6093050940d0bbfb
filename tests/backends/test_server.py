"""The server backend against a scripted endpoint: what it sends, and what it makes of what comes back."""

import pytest

from mlxnb.errors import OptionError, PromptError
from tests.backends.served import LONG, ask, engine_for, nothing_set  # noqa: F401
from tests.endpoint import DONE, HANG, Reply, nobody, piece, says, serving, usage

pytest.importorskip("openai", reason="the server backend needs the openai package")


def test_an_answer_comes_in_pieces_with_the_servers_counts():
    with serving(says("Hel", "lo ", "there")) as endpoint, engine_for() as engine:
        job = engine.stream("Hi", model=endpoint.url)
        chunks = list(job)
        result = job.result()
    assert [chunk.text for chunk in chunks] == ["Hel", "lo ", "there"]
    assert all(chunk.token is None for chunk in chunks)
    assert result.text == "Hello there"
    assert result.finish_reason == "stop"
    assert result.tokens == []
    assert result.generation_tokens == 3
    assert result.provenance.prompt_tokens == 7
    assert len(result.timings.token_times) == 3
    assert result.provenance.backend == "server"
    assert result.provenance.device == endpoint.host
    assert any("times are this client's" in note for note in result.provenance.notes)


def test_messages_go_to_the_chat_call_with_every_option_by_name():
    with serving(says("ok")) as endpoint:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Zwölf?"}]
        ask(endpoint, messages, max_tokens=9, temperature=0.5, top_p=0.9, seed=5, stop=["END"])
    [asked] = endpoint.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "tiny",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "max_tokens": 9,
        "seed": 5,
    }


def test_a_raw_prompt_goes_to_the_completions_call():
    events = (
        {"choices": [{"index": 0, "text": "4, 5", "finish_reason": None}]},
        {"choices": [{"text": "", "finish_reason": "length"}]},
    )
    with serving(Reply((*events, DONE))) as endpoint:
        result = ask(endpoint, "1, 2, 3, ", raw=True, max_tokens=4)
    [asked] = endpoint.asked
    assert asked.path == "/v1/completions"
    assert asked.body["prompt"] == "1, 2, 3, "
    assert "messages" not in asked.body
    assert (result.text, result.finish_reason) == ("4, 5", "length")


def test_a_random_request_gets_a_seed_that_the_result_tells():
    with serving(says("x")) as endpoint:
        result = ask(endpoint, temperature=1.0)
        greedy = ask(endpoint)
    assert result.provenance.sampling.seed == endpoint.asked[0].body["seed"]
    assert "seed" not in endpoint.asked[1].body
    assert greedy.provenance.sampling.seed is None


@pytest.mark.parametrize(
    ("owner", "sent", "noted"),
    [
        ("vllm", {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2}, []),
        ("llamacpp", {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.2, "repeat_last_n": 20}, []),
        ("organization_owner", {"top_k": 5, "repeat_penalty": 1.2}, ["min_p 0.1 not used: LM Studio takes none"]),
        (
            "library",
            {},
            [f"{option} not used: Ollama takes none" for option in ("top_k 5", "min_p 0.1", "repetition_penalty 1.2")],
        ),
    ],
)
def test_each_kind_of_server_gets_the_options_that_it_takes(owner, sent, noted):
    models = {"/v1/models": {"data": [{"id": "tiny", "owned_by": owner}]}}
    with serving(says("x"), gets=models) as endpoint:
        result = ask(endpoint, temperature=1.0, top_k=5, min_p=0.1, repetition_penalty=1.2)
        names = {"top_k", "min_p", "repetition_penalty", "repeat_penalty", "repeat_last_n"}
        assert {name: value for name, value in endpoint.asked[0].body.items() if name in names} == sent
        assert [note for note in result.provenance.notes if "not used" in note] == noted
        if noted:
            with pytest.raises(OptionError, match="not used"):
                ask(endpoint, temperature=1.0, top_k=5, min_p=0.1, repetition_penalty=1.2, strict=True)
    assert len(endpoint.asked) == 1


def test_an_option_that_is_off_is_sent_too_for_servers_have_other_defaults():
    for owner, penalty, no_top_k in (("vllm", "repetition_penalty", -1), ("llamacpp", "repeat_penalty", 0)):
        listed = {"/v1/models": {"data": [{"id": "tiny", "owned_by": owner}]}}
        with serving(says("x"), gets=listed) as endpoint:
            ask(endpoint)
        body = endpoint.asked[0].body
        assert (body["top_k"], body["min_p"], body[penalty]) == (no_top_k, 0.0, 1.0)


def test_what_no_server_does_is_noted_and_refused_where_strict():
    with serving(says("x")) as endpoint:
        result = ask(endpoint, kv_bits=8, dtype="float16", draft="lookup", cache="always", prefill_step=64)
        said = "\n".join(result.provenance.notes)
        refused = ("kv_bits 8 not used", "float16 not used", "draft lookup not used", "cache always not used")
        for option in (*refused, "prefill_step 64 not used"):
            assert option in said, said
        with pytest.raises(OptionError, match="Kv_bits 8 not used"):
            ask(endpoint, kv_bits=8, strict=True)
        with pytest.raises(OptionError, match=r"int8 of http://.* was refused: a server loads its models"):
            ask(endpoint, quantize="int8", strict=True)


def test_half_a_character_in_a_prompt_is_refused_before_it_is_sent():
    with serving(says("x")) as endpoint, pytest.raises(PromptError, match="half of a character"):
        ask(endpoint, "a\ud83d")
    assert endpoint.asked == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_of_its_own_is_no_part_of_the_answer(field):
    events = (piece(**{field: "Let me "}), piece(**{field: "see."}), piece("Four."), piece(finish="stop"), DONE)
    with serving(Reply(events)) as endpoint:
        result = ask(endpoint)
    assert (result.thinking, result.text) == ("Let me see.", "Four.")
    assert result.timings.first_visible == result.timings.token_times[2]


def test_thinking_between_markers_is_split_off_where_the_answer_begins_with_it():
    with serving(says("\n<th", "ink>\nLet me", " see.</thi", "nk>\n\nFo", "ur.")) as endpoint:
        result = ask(endpoint)
    assert (result.thinking, result.text) == ("Let me see.", "Four.")
    with serving(says("The tag <think>", " opens it.")) as endpoint:
        result = ask(endpoint)
    assert (result.thinking, result.text) == ("", "The tag <think> opens it.")


def test_a_server_that_ignores_stop_strings_is_cut_and_left():
    with serving(Reply((piece("One, tw"), piece("o, EN"), piece("D three"), piece("four"), HANG))) as endpoint:
        result = ask(endpoint, stop="END")
        assert endpoint.left.wait(5)
    assert (result.text, result.finish_reason) == ("One, two, ", "stop")


def test_what_could_have_been_a_stop_string_comes_at_the_end():
    with serving(says("A EN", finish="length")) as endpoint:
        result = ask(endpoint, stop=["END"])
    assert (result.text, result.finish_reason) == ("A EN", "length")


def test_only_as_many_stop_strings_are_sent_as_a_server_takes():
    stops = ["a1", "b2", "c3", "d4", "e5"]
    with serving(says("x e5 y")) as endpoint:
        result = ask(endpoint, stop=stops)
    assert endpoint.asked[0].body["stop"] == stops[:4]
    assert (result.text, result.finish_reason) == ("x ", "stop")


def test_a_character_may_come_in_halves_and_in_bytes():
    whole = 'data: {"choices": [{"index": 0, "delta": {"content": "grün 🦙"}}]}\n\n'.encode()
    at = whole.index("🦙".encode()) + 2
    halves = (
        b'data: {"choices": [{"index": 0, "delta": {"content": " \\ud83e"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "\\udd99 \\ud83e"}}]}\n\n',
    )
    with serving(Reply((whole[:at], 0.05, whole[at:], *halves, piece(finish="stop"), DONE))) as endpoint:
        result = ask(endpoint)
    assert result.text == "grün 🦙 🦙 \ufffd"
    assert result.text.encode()


@pytest.mark.parametrize(
    ("reason", "ended", "note"),
    [
        ("stop", "stop", None),
        ("length", "length", None),
        ("tool_calls", "stop", "the model called a tool; tools are not run here"),
        ("content_filter", "stop", "{host} ended the answer by 'content_filter'"),
    ],
)
def test_reasons_to_end(reason, ended, note):
    with serving(says("x", finish=reason)) as endpoint:
        result = ask(endpoint)
    assert result.finish_reason == ended
    if note:
        assert note.format(host=endpoint.host) in result.provenance.notes


def test_a_tool_call_is_named_and_not_run():
    call = {"index": 0, "function": {"name": "rm_everything", "arguments": ""}}
    with serving(Reply((piece(tool_calls=[call]), piece(finish="tool_calls"), DONE))) as endpoint:
        result = ask(endpoint)
    assert (result.text, result.finish_reason) == ("", "stop")
    assert "the model called a tool rm_everything; tools are not run here" in result.provenance.notes


def test_without_counts_each_piece_counts():
    with serving(Reply((piece("a"), piece("b"), piece(finish="stop"), DONE))) as endpoint:
        result = ask(endpoint)
    assert (result.generation_tokens, result.provenance.prompt_tokens) == (2, 0)
    assert any(f"{endpoint.host} counted no tokens" in note for note in result.provenance.notes)


def test_pieces_of_several_tokens_count_as_the_server_counts_them():
    events = (
        piece("a b c"),
        0.05,
        piece("d e f"),
        piece(finish="stop"),
        usage(9, 6, prompt_tokens_details={"cached_tokens": 4}),
        DONE,
    )
    with serving(Reply(events)) as endpoint:
        result = ask(endpoint)
    times = result.timings.token_times
    assert result.generation_tokens == 6
    assert result.provenance.reused_tokens == 4
    assert result.timings.tpot == pytest.approx((times[1] - times[0]) / 5)


def test_thinking_that_is_counted_and_not_sent_has_no_pace():
    hidden = usage(9, 106, completion_tokens_details={"reasoning_tokens": 100})
    with serving(Reply((piece("a"), piece("b"), piece(finish="stop"), hidden, DONE))) as endpoint:
        result = ask(endpoint)
    assert result.generation_tokens == 6
    assert f"100 more tokens were thinking that {endpoint.host} does not show" in result.provenance.notes


def test_an_answer_without_a_word_is_an_answer():
    with serving(Reply((piece(finish="stop"), DONE))) as endpoint:
        result = ask(endpoint)
    assert (result.text, result.finish_reason, result.generation_tokens) == ("", "stop", 0)
    assert result.timings.tpot is None


def test_an_end_without_a_reason_is_noted():
    with serving(Reply((piece("a"), DONE))) as endpoint:
        result = ask(endpoint)
    assert result.finish_reason == "stop"
    assert f"{endpoint.host} did not say why the answer ended" in result.provenance.notes


def test_counts_are_not_waited_for_without_end():
    with serving(Reply((piece("a"), piece(finish="stop"), HANG))) as endpoint:
        result = ask(endpoint)
        assert endpoint.left.wait(5)
    assert (result.text, result.finish_reason) == ("a", "stop")


def test_a_server_that_never_ends_is_cut():
    with serving(Reply((piece("x"),) * 200)) as endpoint:
        result = ask(endpoint, max_tokens=4)
    assert result.finish_reason == "length"
    assert f"cut here: {endpoint.host} does not keep to max_tokens" in result.provenance.notes


def test_other_line_ends_comments_and_names_are_no_trouble():
    event = b'data:{"choices":[{"delta":{"content":"x"}}]}'
    end = b'data: {"choices":\r\ndata: [{"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
    with serving(Reply((b"\xef\xbb\xbf: hello\r\n\r\nevent: message\r", event + b"\r\r", end, DONE))) as endpoint:
        result = ask(endpoint)
    assert (result.text, result.finish_reason) == ("x", "stop")


def test_mlx_lm_server_is_not_trusted_with_stop_strings():
    nobody_owns = {"/v1/models": {"data": [{"id": "tiny"}]}}
    with serving(says("one END", " two"), gets=nobody_owns, software="BaseHTTP/0.6 Python/3.11") as endpoint:
        result = ask(endpoint, stop="END")
    assert "stop" not in endpoint.asked[0].body
    assert (result.text, result.finish_reason) == ("one ", "stop")
    assert result.provenance.device == f"mlx_lm.server at {endpoint.host}"


def test_a_slow_server_is_waited_for_and_its_pace_is_told():
    parts = (0.3, piece("", role="assistant"), 0.3, piece("a"), 0.2, piece("b"), 0.2, piece(finish="stop"), DONE)
    with serving(Reply(parts)) as endpoint:
        result = ask(endpoint, patience=LONG)
    first, second = result.timings.token_times
    assert result.text == "ab"
    assert first - result.timings.start > 0.5
    assert second - first > 0.1


def test_no_proxy_stands_before_this_machine(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, nobody())
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(says("here")) as endpoint:
        assert ask(endpoint).text == "here"
