"""Everything that can go wrong with a server: what a person reads, how often it was asked, what is kept."""

import tracemalloc

import pytest

from mlxnb.errors import BackendMissingError, GenerationError, ModelError, PromptTooLongError, ServerError
from tests.backends.served import SHORT, ask, engine_for, nothing_set  # noqa: F401
from tests.endpoint import AFTER, BEFORE, HUGE_LINE, Fault, Reply, deaf, nobody, refuses, says, serving

pytest.importorskip("openai", reason="the server backend needs the openai package")


@pytest.mark.parametrize("fault", BEFORE, ids=str)
def test_a_failure_before_the_first_token(fault: Fault):
    with serving(*fault.script) as endpoint, pytest.raises(ServerError) as caught:
        ask(endpoint)
    assert caught.value.message.startswith(f"{endpoint.host} {fault.says}"), caught.value.message
    assert caught.value.remedy
    assert len(endpoint.asked) == fault.asked
    assert (f"It was asked {fault.asked} times." in caught.value.message) == (fault.asked > 1)
    assert caught.value.__cause__ is None  # an error of the client's knows the key


@pytest.mark.parametrize("fault", AFTER, ids=str)
def test_a_failure_in_the_middle_keeps_what_was_said_and_is_not_tried_again(fault: Fault):
    with serving(*fault.script) as endpoint, pytest.raises(GenerationError) as caught:
        ask(endpoint)
    assert fault.says.format(host=endpoint.host) in caught.value.message
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Half an"
    assert caught.value.partial.finish_reason == "interrupted"
    assert caught.value.partial.generation_tokens == 2
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ((refuses(429),), "asked 2 times: busy (429)"),
        ((refuses(503), refuses(500)), "asked 3 times: failed (503), failed (500)"),
        ((Reply(), refuses(429, **{"Retry-After": "0"})), "asked 3 times: cut off, busy (429)"),
    ],
)
def test_a_try_that_helps_is_noted(failures, said):
    with serving(*failures, says("Here ", "I am")) as endpoint:
        result = ask(endpoint)
    assert result.text == "Here I am"
    assert said in result.provenance.notes
    assert len(endpoint.asked) == len(failures) + 1


def test_tries_are_told_of_an_answer_that_was_cut_too():
    with serving(refuses(503), says("one END two")) as endpoint:
        result = ask(endpoint, stop="END", kv_bits=8)
    assert result.text == "one "
    assert "asked 2 times: failed (503)" in result.provenance.notes
    assert sum("kv_bits 8 not used" in note for note in result.provenance.notes) == 1


def test_a_server_is_given_the_time_that_it_asks_for():
    import time

    with serving(refuses(429, **{"Retry-After": "0.4"}), says("x")) as endpoint:
        began = time.perf_counter()
        result = ask(endpoint)
    assert time.perf_counter() - began > 0.4
    assert result.text == "x"


@pytest.mark.parametrize("wait", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_nobody_waits_for_an_hour(wait):
    with serving(refuses(429, "later", **{"Retry-After": wait})) as endpoint, pytest.raises(ServerError) as caught:
        ask(endpoint)
    assert "It asks to wait for " in caught.value.message
    assert len(endpoint.asked) == 1


def test_money_that_is_spent_is_not_asked_for_again():
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    reply = Reply((body,), 429, {"Content-Type": "application/json"})
    with serving(reply) as endpoint, pytest.raises(ServerError, match=r"refused the request .429.: You exceeded"):
        ask(endpoint)
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "This model has 512 tokens", "code": "context_length_exceeded"}}',
        b'{"error": {"message": "no", "type": "exceed_context_size_error", "code": 400}}',
        b'{"error": "Requested tokens (612) exceed context window of 512"}',
    ],
)
def test_a_prompt_that_is_too_long_is_an_error_of_the_prompt(body):
    reply = Reply((body,), 400, {"Content-Type": "application/json"})
    with serving(reply) as endpoint, pytest.raises(PromptTooLongError, match="has no room for the prompt"):
        ask(endpoint)


def test_a_server_that_stopped_since_it_was_loaded():
    with engine_for() as engine:
        with serving(says("one")) as endpoint:
            assert engine.generate("x", model=endpoint.url).text == "one"
        with pytest.raises(ServerError) as caught:
            engine.generate("x", model=endpoint.url)
    assert caught.value.message == f"{endpoint.host} could not be reached: Connection refused. It was asked 3 times."


def test_a_huge_line_takes_little_memory():
    parts = tuple([b"data: {" + b"x" * 60_000] + [b"x" * 1_000_000] * 40)
    with serving(Reply(parts)) as endpoint:
        tracemalloc.start()
        try:
            with pytest.raises(ServerError, match="more than 1 MB"):
                ask(endpoint)
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


def test_a_huge_error_is_read_in_part_and_shown_in_part():
    with serving(refuses(400, "x" * 30_000_000)) as endpoint, pytest.raises(ServerError) as caught:
        ask(endpoint)
    assert len(caught.value.message) < 600


def test_what_a_server_says_is_on_one_line_and_without_control_characters():
    with serving(refuses(400, "no\nway\x1b[31m\x00")) as endpoint, pytest.raises(ServerError) as caught:
        ask(endpoint)
    assert caught.value.message.isprintable()


def test_nobody_there_is_said_at_once():
    with engine_for() as engine, pytest.raises(BackendMissingError) as caught:
        engine.generate("x", model=nobody())
    assert caught.value.message.startswith("No server listens at 127.0.0.1:")
    assert caught.value.remedy == "Try to start it, or check the address."


def test_somebody_deaf_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr("mlxnb.backends.server_models.NAMED", 0.3)
    with deaf() as url, engine_for() as engine, pytest.raises(ModelError, match=r"did not answer within 0\.3 s"):
        engine.generate("x", model=url)


def test_an_engine_goes_on_after_every_fault():
    with engine_for(SHORT) as engine:
        for fault in (BEFORE[1], BEFORE[2], AFTER[2]):
            with serving(*fault.script) as endpoint, pytest.raises((ServerError, GenerationError)):
                engine.generate("x", model=endpoint.url)
        with serving(says("fine")) as endpoint:
            assert engine.generate("x", model=endpoint.url).text == "fine"


def test_the_huge_fault_is_huge():
    assert sum(map(len, HUGE_LINE)) > 2_000_000
