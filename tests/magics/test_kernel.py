"""The magics in a real kernel: what a front end is sent, and when; interrupts, restarts and completion."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.magics.kernel import Kernel, Ran

# Minutes of an answer, of a prefill or of waiting for a stopped job: where a test comes back, something ended them.
LONG = "script(*['word '] * 20_000, delay=0.01)\n"
ENDLESS = "--max-tokens 20000"
PATIENT = "import mlxnb.magics.follow as follow; follow.GRACE = 600\n"


def one_error_line(ran: Ran) -> str:
    """The cell's one line, after checking that the reply and the message on the side channel agree on it."""
    assert ran.reply["status"] == "error"
    errors = ran.of("error")
    assert len(errors) == 1
    assert errors[0]["traceback"] == ran.reply["traceback"]
    assert len(errors[0]["traceback"]) == 1
    line = re.sub(r"\x1b\[[\d;]*m", "", errors[0]["traceback"][0])
    assert "\n" not in line
    return line


def test_an_answer_streams_at_most_15_times_a_second_and_is_left_once(kernel: Kernel) -> None:
    kernel.run("script(*['word '] * 2000, delay=0.0015)")
    ran = kernel.run("%%generate --max-tokens 5000\nHi")
    times = ran.times("update_display_data")
    assert len(times) > 3  # how many fit into the answer is the machine's affair, how few a second is ours
    assert max(sum(start <= at < start + 1 for at in times) for start in times) <= 15
    seen = [content["data"]["text/html"].count("word") for content in ran.of("update_display_data")[:-1]]
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    assert ran.of("update_display_data")[-1]["data"]["text/plain"] == ""
    assert len(ran.answers) == 1
    assert ran.answers[0].count("word") == 2000


def test_out_is_kept_and_shown_only_when_asked_for(kernel: Kernel) -> None:
    kernel.run("script('One', ' answer.')")
    assert len(kernel.run("%generate Hi").answers) == 1
    again = kernel.run("_")
    assert len(again.of("execute_result")) == 1
    assert again.answers[0].startswith("One answer.")
    assert "text/html" in again.of("execute_result")[0]["data"]
    assert kernel.run("print(Out[max(Out)].text)").printed == "One answer.\n"
    assert len(kernel.run("for i in range(3):\n    %generate What is {{ i }}?").answers) == 3
    assert kernel.run("r = %generate --quiet Hi").answers == []
    assert kernel.run("%generate --quiet Hi").answers == []
    assert len(kernel.run("%generate --no-stream Hi").answers) == 1
    assert kernel.run("%%capture shown\n%generate Hi").answers == []
    assert kernel.run("print(len(shown.outputs))").printed == "1\n"


def test_a_batch_has_one_bar_at_most_15_times_a_second_and_leaves_one_line(kernel: Kernel) -> None:
    kernel.run("script(*['word '] * 400, delay=0.002)")
    ask = "answers = mlxnb.engine().batch(['a', 'b', 'c'], backend='scripted', max_tokens=500{})"
    ran = kernel.run(ask.format(", progress=True"))
    (first,) = ran.of("display_data")
    times, updates = ran.times("update_display_data"), ran.of("update_display_data")
    assert len(updates) > 3
    assert max(sum(start <= at < start + 1 for at in times) for start in times) <= 15
    assert {update["transient"]["display_id"] for update in updates} == {first["transient"]["display_id"]}
    assert all("progressbar" in update["data"]["text/html"] for update in updates[:-1])
    assert "progressbar" not in updates[-1]["data"]["text/html"]
    line = re.sub("\u202f", " ", updates[-1]["data"]["text/plain"])
    assert line.startswith("3 of 3 prompts · 1 200 tokens · ")
    assert kernel.run(ask.format(", progress=False")).of("display_data", "update_display_data") == []
    assert kernel.run("%%capture shown\n" + ask.format(", progress=True")).of("display_data") == []
    assert kernel.run("print(len(shown.outputs), len(answers))").printed == "0 3\n"


def test_an_interrupt_keeps_the_partial_answer_and_stops_what_follows(kernel: Kernel) -> None:
    kernel.run(LONG)
    sent = kernel.send(f"%%generate r << {ENDLESS}\nHi")
    after = kernel.send("print('must not run')")
    kernel.wait_for(sent, "update_display_data", having="word")
    kernel.interrupt()
    ran = kernel.collect(sent)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    line = one_error_line(ran)
    assert re.fullmatch(r"KeyboardInterrupt: stopped after \d+ tokens; the partial answer is in `r`\.", line)
    assert len(ran.answers) == 1
    assert "interrupted" in ran.answers[0]
    assert kernel.collect(after).reply["status"] == "aborted"
    kept = json.loads(kernel.run("import json; print(json.dumps([r.finish_reason, r.text, len(r.tokens)]))").printed)
    assert kept[0] == "interrupted"
    assert kept[1].startswith("word ")
    assert 0 < kept[2] < 20_000
    assert str(kept[2]) in line


def test_an_interrupt_without_a_name_leaves_the_partial_answer_in_underscore(kernel: Kernel) -> None:
    kernel.run(LONG)
    sent = kernel.send(f"%generate {ENDLESS} Hi")
    kernel.wait_for(sent, "update_display_data", having="word")
    kernel.interrupt()
    assert one_error_line(kernel.collect(sent)).endswith("the partial answer is in `_`.")
    assert kernel.run("print(_.finish_reason)").printed == "interrupted\n"


def test_an_interrupt_in_prefill_stops_too(kernel: Kernel) -> None:
    kernel.run("script('Hi', prefill=20)")
    sent = kernel.send("%generate r << Hi")
    kernel.wait_for(sent, "update_display_data", having="prefill")
    kernel.interrupt()
    assert "stopped after 0 tokens" in one_error_line(kernel.collect(sent))
    assert kernel.run("print(r.finish_reason, repr(r.text))").printed == "interrupted ''\n"


# Says when a job was told to stop: from then on a cell waits for it.
SAYS_CANCELLED = """from mlxnb.runtime import Job
cancel = Job.cancel
def told(job):
    cancel(job)
    print("told to stop", flush=True)
Job.cancel = told
"""


def test_a_second_interrupt_ends_the_waiting(kernel: Kernel) -> None:
    kernel.run(PATIENT + SAYS_CANCELLED + "script('Hi', prefill=6000)")
    sent = kernel.send("%generate r << Hi")
    kernel.wait_for(sent, "update_display_data", having="prefill")
    kernel.interrupt()
    kernel.wait_for(sent, "stream", having="told to stop")
    time.sleep(0.5)  # a step or two before it waits
    kernel.interrupt()
    assert "ends in the background" in one_error_line(kernel.collect(sent))
    kernel.restart()  # that prefill goes on


def test_an_interrupt_does_not_wait_for_a_model_that_loads(kernel: Kernel) -> None:
    gate = """import threading
go, backend = threading.Event(), mlxnb.engine().backends["scripted"]
load = backend.load
backend.load = lambda *given: go.wait(600) and load(*given)
"""
    kernel.run(PATIENT + "mlxnb.engine().close()\n" + "script('Hi')\n" + gate)
    sent = kernel.send("%generate Hi")
    kernel.wait_for(sent, "update_display_data", having="loading")
    kernel.interrupt()
    assert "ends in the background" in one_error_line(kernel.collect(sent))
    assert kernel.run("print(go.is_set())\ngo.set()").printed == "False\n"
    assert kernel.run("%generate Hi").answers[0].startswith("Hi")


def test_an_interrupt_does_not_wait_for_the_request_before(kernel: Kernel) -> None:
    kernel.run(PATIENT + LONG + "before = mlxnb.engine().stream('Hi', backend='scripted', max_tokens=20_000)")
    sent = kernel.send("%generate r << Hi")
    kernel.wait_for(sent, "update_display_data", having="queued")
    kernel.interrupt()
    assert "stopped after 0 tokens" in one_error_line(kernel.collect(sent))
    assert kernel.run("print(before.state, r.finish_reason)").printed == "decode interrupted\n"
    kernel.run("before.cancel()")
    assert kernel.run("print(before.result().finish_reason)").printed == "interrupted\n"


def test_mistakes_fail_the_cell_with_one_line(kernel: Kernel) -> None:
    assert one_error_line(kernel.run("%generate --temprature 1 Hi")).startswith("OptionError: Unknown option")
    assert one_error_line(kernel.run("%%generate\n{{ undefined }}")).startswith("TemplateError: {{ undefined }}")
    assert one_error_line(kernel.run("%%generate --backend auto -m nope\nHi")).startswith("ModelNotFoundError: ")
    assert one_error_line(kernel.run("%mlxnb laod")).startswith("OptionError: Unknown command laod.")


def test_a_failed_answer_shows_what_had_come_and_one_error(kernel: Kernel) -> None:
    kernel.run("script(*['word '] * 50, delay=0.01, fail_after=40)")
    ran = kernel.run("%generate Hi")
    assert one_error_line(ran).startswith("GenerationError: ")
    [answer] = ran.answers
    assert answer.count("word") == 40
    assert "interrupted" in answer


def test_a_failure_before_the_first_token_leaves_only_its_error(kernel: Kernel) -> None:
    kernel.run("script(*['word '] * 50, fail_after=0)")
    ran = kernel.run("%generate Hi")
    assert one_error_line(ran).startswith("GenerationError: ")
    assert ran.answers == []


def test_code_is_offered_as_the_next_cell(kernel: Kernel) -> None:
    kernel.run("script('```python\\nprint(1)\\n```')")
    payload = kernel.run("%generate --format code Hi").reply["payload"]
    assert [(each["source"], each["text"], each["replace"]) for each in payload] == [
        ("set_next_input", "print(1)", False)
    ]


def test_prose_is_not_offered_as_code(kernel: Kernel) -> None:
    kernel.run("script('`os.path.join` joins two or more')")
    assert kernel.run("%generate --format code Hi").reply["payload"] == []


def test_the_terms_of_a_real_kernels_completion(kernel: Kernel) -> None:
    assert kernel.complete("%%generate --te") == ["%%generate --temperature"]
    assert kernel.complete("%generate -m poc") == ["%generate -m pocket"]
    assert kernel.complete("r = %generate --see") == ["r = %generate --seed"]
    assert kernel.complete("%mlxnb unl") == ["%mlxnb unload"]


def test_help_opens_for_a_question_mark(kernel: Kernel) -> None:
    pages = kernel.run("%%generate?").reply["payload"]
    assert "--temperature" in pages[0]["data"]["text/plain"]


def test_a_kernel_killed_in_the_middle_works_again(kernel: Kernel) -> None:
    kernel.run(LONG)
    sent = kernel.send(f"%generate {ENDLESS} Hi")
    kernel.wait_for(sent, "update_display_data", having="word")
    kernel.restart()
    kernel.run("script('Back', ' again.')")
    ran = kernel.run("%generate Hi")
    assert ran.reply["status"] == "ok"
    assert ran.answers[0].startswith("Back again.")


def test_the_pocket_model_answers(kernel: Kernel) -> None:
    kernel.run("mlxnb.engine().close()")
    ran = kernel.run("%%generate r << --backend auto\nWhat does itertools.chain do?")
    assert "itertools.chain" in ran.answers[0]
    assert "pocket model" in ran.answers[0]
    ran = kernel.run("print(r.finish_reason, r.provenance.model, r.timings.ttft > 0)")
    assert ran.printed == "stop pocket True\n"


@pytest.mark.parametrize("cell", ["%mlxnb", "%mlxnb models", "%mlxnb config"])
def test_tables_come_as_html_and_text(kernel: Kernel, cell: str) -> None:
    shown = kernel.run(cell).of("display_data")
    assert shown
    assert all(set(each["data"]) == {"text/plain", "text/html"} for each in shown)
