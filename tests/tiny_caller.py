"""A tiny model that was taught one conversation by heart: it calls a tool, and answers with what came back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.request import Message, Request
from mlxnb.tools import ToolCall
from tests.tiny import SHAPE, add_tokenizer, rope

QUESTION = "Is it warm in Rome?"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
OUTPUT = "21 degrees"
ANSWER = "Yes: it has 21 degrees."

# The families' ways to offer tools, each as small as it can be.
HERMES = (
    "{% if tools %}<|im_start|>system\nTools: {% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "Call one in <tool_call></tool_call>.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if m.tool_call_id | length != 9 %}{{ raise_exception('an id has nine characters') }}{% endif %}"
    "[TOOL_RESULTS]{{ m.content }}{% elif m.tool_calls %}[TOOL_CALLS]{{ m.tool_calls | tojson }}"
    "{% else %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}"
    "{% if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one at a time') }}{% endif %}"
    '<|python_tag|>{"name": "{{ m.tool_calls[0].function.name }}", '
    '"parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "{% else %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
)


def weather(city: str) -> str:
    """Tell how warm it is."""
    return OUTPUT


def with_template(folder: Path, template: str) -> Path:
    """Give the tokenizer in a folder another chat template."""
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return folder


def make_caller(folder: Path) -> Path:
    """Save such a model of Qwen's kind into `folder`."""
    import torch
    import transformers

    torch.manual_seed(0)
    shape = {**SHAPE, "num_hidden_layers": 2, "rope_parameters": rope(5000.0), "tie_word_embeddings": True}
    config = transformers.Qwen2Config(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(with_template(add_tokenizer(folder), HERMES))
    lessons = [_lesson(tokenizer, [], CALL), _lesson(tokenizer, _called(), ANSWER)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the quickest for so small a model, however busy the machine is
    try:
        _learn(model, lessons)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    return folder


def _learn(model: Any, lessons: list[tuple[Any, Any]]) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(200):
        loss = sum(model(input_ids=ids, labels=labels).loss for ids, labels in lessons)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.03:
            return
    raise AssertionError("the model did not learn its conversation")


def _called() -> list[Message]:
    call = ToolCall("weather", {"city": "Rome"}, "call00001")
    return [Message("assistant", "", (call,)), Message("tool", OUTPUT, name="weather", call_id="call00001")]


def _lesson(tokenizer: Tokenizer, more: list[Message], answer: str) -> tuple[Any, Any]:
    import torch

    prompt = tokenizer.prompt(Request.of([Message("user", QUESTION), *more], tools=[weather])).ids
    said = [*tokenizer.inner.encode(answer, add_special_tokens=False), tokenizer.inner.eos_token_id]
    return torch.tensor([[*prompt, *said]]), torch.tensor([[-100] * len(prompt) + said])
