"""Conversations and tools in a real kernel: who is asked, what is shown when, and what an interrupt leaves."""

from __future__ import annotations

from tests.magics.kernel import TIMEOUT, Kernel
from tests.magics.test_kernel import one_error_line

SETUP = '''
def answers(*each, **more):
    script(**more)
    mlxnb.engine().backends["scripted"].answers = [list(one) for one in each]
ROME = '<tool_call>{"name": "weather", "arguments": {"city": "Ro<b>me"}}</tool_call>'
ran = []
def weather(city: str) -> str:
    """Tell the weather of a city."""
    ran.append(city)
    return "<script>alert(1)</script> 21 °C"
'''


def test_a_call_is_asked_for_in_the_cell_and_run(kernel: Kernel) -> None:
    kernel.run(SETUP + "answers(['Let me see. ', ROME], ['It is fine.'])")
    sent = kernel.send("%generate r << --chat=asks --tool weather Weather?", allow_stdin=True)
    question = kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]
    assert question["prompt"] == 'The model wants to call weather(city="Ro<b>me"). Run it? [y/N] '
    assert not question["password"]
    kernel.client.input("y")
    ran = kernel.collect(sent)
    assert ran.reply["status"] == "ok"
    called = next(text for text in ran.answers if "weather" in text)
    assert called == 'running weather(city="Ro<b>me")'
    updates = [content["data"] for content in ran.of("update_display_data")]
    [after] = [data for data in updates if data["text/plain"].startswith("weather(")]
    assert after["text/plain"] == 'weather(city="Ro<b>me") → <script>alert(1)</script> 21 °C'
    assert "<script" not in after["text/html"]
    assert "&lt;script&gt;" in after["text/html"]
    assert "Ro<b>me" not in after["text/html"]
    assert ran.answers[-1].startswith("It is fine.")
    assert kernel.run("print(ran, r.tool_calls[0].output, len(mlxnb.chat('asks')))").printed == (
        "['Ro<b>me'] <script>alert(1)</script> 21 °C 1\n"
    )


def test_no_in_the_cell_runs_nothing(kernel: Kernel) -> None:
    kernel.run(SETUP + "answers([ROME], ['A pity.'])")
    sent = kernel.send("%generate r << --tool weather Weather?", allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=TIMEOUT)
    kernel.client.input("no")
    assert kernel.collect(sent).answers[-1].startswith("A pity.")
    assert kernel.run("print(ran, r.tool_calls[0].error)").printed == "[] the user did not allow this call\n"


def test_a_notebook_that_a_program_runs_asks_nobody(kernel: Kernel) -> None:
    kernel.run(SETUP + "answers([ROME], ['never'])")
    ran = kernel.run("%generate --chat=program --tool weather Weather?", allow_stdin=False)
    assert one_error_line(ran) == (
        'OptionError: The model wants to call weather(city="Ro<b>me"), which was not allowed. '
        "Nobody can be asked here: pass --allow weather."
    )
    assert kernel.run("print(ran, list(mlxnb.engine().chats))").printed.startswith("[] [")
    assert "program" not in kernel.run("print(list(mlxnb.engine().chats))").printed
    kernel.run("answers([ROME], ['Fine.'])")
    ran = kernel.run("%generate --tool weather --allow weather Weather?", allow_stdin=False)
    assert ran.answers[-1].startswith("Fine.")


def test_an_interrupt_while_a_function_runs_leaves_the_conversation(kernel: Kernel) -> None:
    slow = '''
def weather(city: str) -> str:
    """Wait for a long time."""
    import time
    time.sleep(600)
    return "never"
'''
    kernel.run(SETUP + slow + "answers(['Before.'], [ROME], ['never'])")
    kernel.run("%generate --chat=stopped Hi")
    sent = kernel.send("%generate --chat=stopped --tool weather --allow weather Weather?")
    kernel.wait_for(sent, "display_data", having="running weather")
    kernel.interrupt()
    assert one_error_line(kernel.collect(sent)) == "KeyboardInterrupt: stopped."
    assert kernel.run("print(len(mlxnb.chat('stopped')))").printed == "1\n"
    kernel.run("answers(['After.'])")
    assert kernel.run("%generate --chat=stopped Hi again").answers[0].startswith("After.")


def test_an_interrupt_while_it_answers_keeps_the_part_and_no_turn(kernel: Kernel) -> None:
    kernel.run(SETUP + "answers([ROME], ['word '] * 20_000, delay=0.01)")
    sent = kernel.send("%%generate part << --chat half --tool weather --allow weather --max-tokens 20000\nHi")
    kernel.wait_for(sent, "update_display_data", having="word word")
    kernel.interrupt()
    assert "the partial answer is in `part`. The conversation half is as it was." in one_error_line(
        kernel.collect(sent)
    )
    shown = kernel.run("print(part.finish_reason, len(part.tool_calls), part.text[:4], len(mlxnb.chat('half')))")
    assert shown.printed == "interrupted 1 word 0\n"


def test_a_conversation_shows_itself(kernel: Kernel) -> None:
    kernel.run("script('An **answer** with `code`.')")
    kernel.run("%%generate --chat shown\nA <b>question</b>")
    [shown] = kernel.run("%mlxnb chat shown").of("display_data")
    page = shown["data"]["text/html"]
    assert "<strong>answer</strong>" in page
    assert "&lt;b&gt;question&lt;/b&gt;" in page
    assert "1 · assistant" in page
    [listed] = kernel.run("%mlxnb chats").of("display_data")
    assert "shown" in listed["data"]["text/plain"]
