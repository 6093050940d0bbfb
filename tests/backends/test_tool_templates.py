"""Tools through chat templates: offered, refused by name, called and answered, with real models on both backends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mlxnb.pocket
from mlxnb.backends.row import TextStream
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.errors import OptionError, PromptTooLongError
from mlxnb.request import Message, Request
from mlxnb.runtime import Engine
from mlxnb.tools import ToolCall
from tests import tiny_caller
from tests.tiny_caller import ANSWER, CALL, HERMES, LLAMA, MISTRAL, OUTPUT, QUESTION, weather, with_template

CALLS = (ToolCall("weather", {"city": "Rome"}, "call00001"), ToolCall("weather", {"city": "Öslo"}, "call00002"))
TALK = (
    Message("user", QUESTION),
    Message("assistant", "Hm.", CALLS),
    Message("tool", "21", name="weather", call_id="call00001"),
    Message("tool", "9", name="weather", call_id="call00002"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the pocket model's tokenizer, whose template a test may change."""
    return shutil.copytree(mlxnb.pocket.path(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


def text_of(folder: Path, template: str, *messages: Message) -> str:
    tokenizer = Tokenizer(with_template(folder, template))
    ids = tokenizer.prompt(Request.of(messages, tools=[weather])).ids
    return str(tokenizer.inner.decode(ids))


@pytest.mark.parametrize("template", [HERMES, MISTRAL, LLAMA], ids=["hermes", "mistral", "llama"])
def test_tools_are_offered_and_calls_written_as_the_template_has_them(folder: Path, template: str) -> None:
    text = text_of(folder, template, *TALK)
    assert "Tell how warm it is." in text
    assert '"required": ["city"]' in text
    assert text.count("Rome") == 2
    assert "Öslo" in text


def test_llamas_template_gets_one_call_a_message(folder: Path) -> None:
    text = text_of(folder, LLAMA, *TALK)
    assert text.index("Rome", 60) < text.index("[tool]21") < text.index("Öslo") < text.index("[tool]9")


def test_a_model_without_a_place_for_tools_is_refused_by_name(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    with pytest.raises(OptionError, match=r"The chat template of pocket has no place for tools\. Leave out the tools"):
        tokenizer.prompt(Request.of("Hi", tools=[weather]))
    other = Tokenizer(with_template(folder, HERMES.replace("<tool_call>", "<call>")))
    with pytest.raises(OptionError, match="pocket calls tools in a way that is not read here"):
        other.prompt(Request.of("Hi", tools=[weather]))
    bare = json.loads((folder / "tokenizer_config.json").read_text())
    del bare["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(bare))
    with pytest.raises(OptionError, match="pocket has no chat template, so it cannot be offered tools"):
        Tokenizer(folder).prompt(Request.of("Hi", tools=[weather]))


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("template", "marker", "call"),
    [
        (HERMES, "<tool_call>", '{"name": "weather", "arguments": {"city": "Rome"}}'),
        (MISTRAL, "[TOOL_CALLS]", '[{"name": "weather", "arguments": {"city": "Rome"}}]'),
        (LLAMA + "{# <|python_tag|> #}", "<|python_tag|>", '{"name": "weather", "parameters": {"city": "Rome"}}'),
    ],
)
def test_a_marker_that_is_a_special_token_is_read_too(
    folder: Path, template: str, marker: str, call: str, special: bool
) -> None:
    tokenizer = Tokenizer(with_template(folder, template))
    tokenizer.inner.add_tokens([marker], special_tokens=special)
    tokenizer.inner.save_pretrained(folder)
    tokenizer = Tokenizer(with_template(folder, template))
    ids = tokenizer.inner.encode(f"Hm.{marker}{call}", add_special_tokens=False)
    request = Request.of("Hi", tools=[weather])
    for tools, expected in ((request.tools, "Hm."), ((), f"Hm.{'' if special else marker}{call}")):
        text = TextStream(tokenizer, (), False, tools)
        said = "".join(text.feed(token)[1] for token in ids) + text.finish()[1]
        assert said == expected
        assert [(each.name, dict(each.arguments)) for each in text.calls] == (
            [("weather", {"city": "Rome"})] if tools else []
        )


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that calls a tool."""
    return tiny_caller.make_caller(tmp_path_factory.mktemp("caller") / "caller")


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_real_model_calls_and_answers_with_what_came_back(
    caller: Path, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "mlx":
        pytest.importorskip("mlx_lm")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    engine = Engine()
    options: dict[str, Any] = {"model": str(caller), "backend": backend, "dtype": "float32", "max_tokens": 60}
    try:
        alone = engine.generate(QUESTION, tools=[weather], **options)
        assert (alone.text, alone.finish_reason) == ("", "stop")
        assert [(each.written(), each.output) for each in alone.tool_calls] == [('weather(city="Rome")', None)]
        again = engine.generate(QUESTION, tools=[weather], **options)
        assert again.cached
        assert again.tool_calls == alone.tool_calls
        assert engine.batch([QUESTION], tools=[weather], **options)[0].tool_calls == alone.tool_calls  # type: ignore[union-attr]
        chat = engine.chats.open("rome")
        result = chat.ask(QUESTION, tools=[weather], allow=[weather], cache="auto", **options)
        assert result.text == ANSWER
        assert [(each.written(), each.output) for each in result.tool_calls] == [('weather(city="Rome")', OUTPUT)]
        # the second round goes on from what the first computed
        assert result.timings.reused_tokens >= alone.timings.prompt_tokens
        assert [message.role for message in chat.conversation.messages] == ["user", "assistant", "tool", "assistant"]
        assert CALL not in result.text
    finally:
        engine.close()


@pytest.mark.parametrize("overflow", ["error", "drop"])
def test_what_came_back_and_is_too_long_is_named(caller: Path, engine: Engine, overflow: str) -> None:
    """And is not cut: the model would answer from a part of it, and nobody would know."""
    pytest.importorskip("torch")

    def weather(city: str) -> str:
        """Tell how warm it is."""
        return "21 degrees " * 1000

    chat = engine.chats.open(f"huge {overflow}")
    with pytest.raises(PromptTooLongError) as caught:
        chat.ask(QUESTION, tools=[weather], allow=[weather], overflow=overflow, model=str(caller), backend="torch")
    assert "weather gave back 11,000 characters, which are in it: have it give back less." in str(caught.value)
    assert len(chat) == 0


def test_the_pocket_model_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(OptionError, match="The chat template of pocket has no place for tools"):
        engine.generate("Hi", tools=[weather])
