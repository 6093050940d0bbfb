"""Every family whose marking of thinking is publicly known: its markers, its template's switch, and one answer each.

The templates are of each family's form and no more: what they open, close and ask for is taken from the published ones
(https://huggingface.co/models, and llama.cpp's models/templates).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import mlxnb.pocket
from mlxnb.backends.base import Watch
from mlxnb.backends.row import TextStream
from mlxnb.backends.thinking_budget import ThinkingBudget
from mlxnb.backends.tokenizer import Prompt, Tokenizer
from mlxnb.errors import OptionError
from mlxnb.request import Request

USERS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TURN = "<|im_start|>assistant\n"
THINK = ("<think>", "</think>")
EMPTY = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Family:
    """A family: its tokens, its template, what its model writes, and how its prompts end when told to think, and not
    to (None where it cannot be told). `asks` says that the switch changes the prompt elsewhere than at its end.
    """

    name: str
    template: str
    said: str
    tokens: tuple[str, ...] = ()
    special: bool = True
    on: str | None = TURN
    off: str | None = None
    asks: bool = False
    thinking: str = "Hm."
    answer: str = "It is 4."


def soft(name: str, on: str, off: str, default: str = "true") -> str:
    """A template that ends in `on` or `off` by a variable with a default."""
    chosen = f"{{% if {name} is not defined %}}{{% set {name} = {default} %}}{{% endif %}}"
    return f"{chosen}{USERS}{TURN}{{% if {name} %}}{on}{{% else %}}{off}{{% endif %}}"


HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>")
TAGGED = "<think>\nHm.</think>\n\nIt is 4."
CLOSING = "Hm.</think>\n\nIt is 4."
FAMILIES = [
    Family("qwen3", soft("enable_thinking", "", EMPTY), TAGGED, THINK, special=False, off=TURN + EMPTY),
    Family("qwen3-2507", USERS + TURN + "<think>\n", CLOSING, THINK, special=False, on=TURN + "<think>\n"),
    Family("deepseek-r1", USERS + TURN + "<think>\n", CLOSING, THINK, special=False, on=TURN + "<think>\n"),
    Family(
        "deepseek-v3.1",
        soft("thinking", "<think>", "</think>", "false"),
        CLOSING,
        THINK,
        special=False,
        on=TURN + "<think>",
        off=TURN + "</think>",
    ),
    Family("qwq", USERS + TURN + "<think>\n", CLOSING, THINK, special=False, on=TURN + "<think>\n"),
    Family(
        "glm-4.5",
        "{% set off = enable_thinking is defined and not enable_thinking %}{% for m in messages %}<|{{ m.role }}|>\n"
        "{{ m.content }}{% if off %}/nothink{% endif %}{% endfor %}<|assistant|>{% if off %}\n<think></think>"
        "{% endif %}",
        "\n" + TAGGED,
        THINK,
        special=False,
        on="<|assistant|>",
        off="<|assistant|><think></think>",
    ),
    Family("minimax-m2", USERS + TURN + "<think>\n", CLOSING, THINK, special=False, on=TURN + "<think>\n"),
    Family(
        "minimax-m3",
        USERS + TURN + "{% if thinking_mode is defined %}{% if thinking_mode == 'enabled' %}<mm:think>"
        "{% elif thinking_mode == 'disabled' %}</mm:think>{% endif %}{% endif %}",
        "Hm.</mm:think>It is 4.",
        ("<mm:think>", "</mm:think>"),
        special=False,
        on=TURN + "<mm:think>",
        off=TURN + "</mm:think>",
    ),
    Family(
        "nemotron-nano-v2",
        "{% set ns = namespace(on=true) %}{% for m in messages %}{% if '/no_think' in m.content %}"
        "{% set ns.on = false %}{% endif %}<|im_start|>{{ m.role }}\n"
        "{{ m.content.replace('/no_think', '').replace('/think', '') }}<|im_end|>\n{% endfor %}"
        + TURN
        + "{% if ns.on %}<think>\n{% else %}<think></think>{% endif %}",
        CLOSING,
        on=TURN + "<think>\n",
        off=TURN + "<think></think>",
    ),
    Family(
        "granite-3.2",
        "{% if thinking %}Write your thoughts after 'Here is my thought process:' and write your response after "
        "'Here is my response:'.{% endif %}" + USERS + TURN,
        "Here is my thought process:\nHm.\n\nHere is my response:\nIt is 4.",
        off=TURN,
        asks=True,
        thinking="Hm.\n\n",
    ),
    Family(
        "granite-3.3",
        "{% if thinking %}Think between <think></think> and answer between <response></response>.{% endif %}"
        + USERS
        + TURN,
        "<think>Hm.</think>\n<response>It is 4.</response>",
        off=TURN,
        asks=True,
    ),
    Family("exaone-deep", USERS + TURN + "<thought>\n", "Hm.</thought>\nIt is 4.", on=TURN + "<thought>\n"),
    Family(
        "exaone-4",
        soft("enable_thinking", "<think>\n", EMPTY, "false"),
        CLOSING,
        THINK,
        special=False,
        on=TURN + "<think>\n",
        off=TURN + EMPTY,
    ),
    Family(
        "phi-4-reasoning",
        "<|im_start|>system\nUse the structure <think> {Thought section} </think> {Solution section}.<|im_end|>\n"
        + USERS
        + TURN,
        TAGGED,
        on=None,
    ),
    Family("phi-4-mini-reasoning", USERS + TURN, TAGGED, on=None),
    Family(
        "seed-oss",
        "{% if thinking_budget is defined %}Think for {{ thinking_budget }} tokens.{% endif %}" + USERS + TURN,
        "<seed:think>\nHm.</seed:think>It is 4.",
        ("<seed:think>", "</seed:think>"),
        special=False,
        off=TURN,
        asks=True,
    ),
    Family(
        "hunyuan",
        "{% for m in messages %}{{ m.content.split('<answer>')[-1].split('</answer>')[0] }}{% endfor %}"
        + TURN
        + "{% if enable_thinking is defined and not enable_thinking %}"
        + EMPTY
        + "{% endif %}",
        "<think>\nHm.\n</think>\n<answer>\nIt is 4.\n</answer>",
        off=TURN + EMPTY,
        thinking="Hm.\n",
    ),
    Family("kimi-vl", USERS + TURN, "◁think▷Hm.◁/think▷It is 4.", ("◁think▷", "◁/think▷"), special=False, on=None),
    Family("kimi-k2-thinking", USERS + TURN, "<think>Hm.</think>It is 4.", THINK, on=None),
    Family(
        "kimi-k2.5",
        soft("thinking", "<think>", "<think></think>"),
        "Hm.</think>It is 4.",
        THINK,
        on=TURN + "<think>",
        off=TURN + "<think></think>",
    ),
    Family(
        "smollm3",
        soft("enable_thinking", "", EMPTY).replace(TURN, "{{ '/think' if enable_thinking else '/no_think' }}" + TURN),
        TAGGED,
        THINK,
        special=False,
        on=TURN,
        off=TURN + EMPTY,
    ),
    Family(
        "ernie-thinking",
        USERS + TURN + "<think>\n",
        "Hm.</think>\n\n<response>\nIt is 4.\n</response>\n",
        (*THINK, "<response>", "</response>"),
        special=False,
        on=TURN + "<think>\n",
    ),
    Family("olmo-3-think", USERS + TURN + "<think>", CLOSING, on=TURN + "<think>"),
    Family(
        "apriel-1.6",
        "Then give [BEGIN FINAL RESPONSE] ... [END FINAL RESPONSE].\n"
        + USERS
        + TURN
        + "Here are my reasoning steps:\n",
        "Hm.\n[BEGIN FINAL RESPONSE]\nIt is 4.[END FINAL RESPONSE]",
        on=TURN + "Here are my reasoning steps:\n",
        thinking="Hm.\n",
    ),
    Family(
        "magistral",
        "{% if messages[0].role != 'system' %}First [THINK] a draft [/THINK], then answer.{% endif %}" + USERS + TURN,
        "[THINK]Hm.[/THINK]It is 4.",
        ("[THINK]", "[/THINK]"),
        on=None,
    ),
    Family(
        "cohere",
        "{% if reasoning is defined and not reasoning %}Do not reason.{% endif %}" + USERS + TURN,
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>It is 4.<|END_RESPONSE|>",
        ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        off=TURN,
        asks=True,
    ),
    Family(
        "apertus",
        "Deliberation: {{ 'enabled' if enable_thinking else 'disabled' }}\n" + USERS + TURN,
        "<|inner_prefix|>Hm.<|inner_suffix|>It is 4.",
        ("<|inner_prefix|>", "<|inner_suffix|>"),
        off=TURN,
        asks=True,
    ),
    Family(
        "gemma-4",
        "{% if enable_thinking is defined and enable_thinking %}<|think|>{% endif %}" + USERS + TURN,
        "<|channel>thought\nHm.<channel|>It is 4.",
        ("<|channel>", "<channel|>", "<|think|>"),
        off=TURN,
        asks=True,
    ),
    Family(
        "gpt-oss",
        "Reasoning: {{ reasoning_effort | default('medium') }}\n<|start|>user<|message|>{{ messages[-1].content }}"
        "<|end|><|start|>assistant",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is 4.",
        HARMONY,
        on="<|start|>assistant",
    ),
    Family(
        "solar-open",
        USERS + TURN + "<|think:start|>{% if reasoning_effort is defined and reasoning_effort == 'none' %}<|think:end|>"
        "{% endif %}",
        "Hm.<|think:end|>It is 4.",
        ("<|think:start|>", "<|think:end|>"),
        on=TURN + "<|think:start|>",
        off=TURN + "<|think:start|><|think:end|>",
    ),
    Family(
        "ring",
        "detailed thinking {{ thinking_option | default('on') }}\n" + USERS + TURN,
        TAGGED,
        THINK,
        special=False,
        off=TURN,
        asks=True,
    ),
]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def tokenizer(family: Family, tmp_path: Path) -> Tokenizer:
    """The pocket model's tokenizer, with the family's tokens and template."""
    folder = tmp_path / family.name
    shutil.copytree(mlxnb.pocket.path(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": family.template}))
    first = Tokenizer(folder)
    first.inner.add_tokens(list(family.tokens), special_tokens=family.special)
    first.inner.save_pretrained(folder)
    return Tokenizer(folder)


def asked(tokenizer: Tokenizer, **how: object) -> Prompt:
    return tokenizer.prompt(Request.of("What is 2 + 2?", **how))


def ends(tokenizer: Tokenizer, prompt: Prompt, how: str) -> bool:
    """Whether a prompt ends so; of a template Jinja drops the last line's end."""
    return tokenizer.inner.decode(prompt.ids).rstrip().endswith(how.rstrip())


def test_the_thinking_is_split_from_the_answer(family: Family, tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, (), asked(tokenizer, think="on" if family.off else None).thinking)
    ids = tokenizer.inner.encode(family.said, add_special_tokens=False)
    parts = [*map(stream.feed, ids), stream.finish()]
    assert ("".join(t for t, _ in parts), "".join(a for _, a in parts)) == (family.thinking, family.answer)


def test_the_template_is_told_to_think(family: Family, tokenizer: Tokenizer) -> None:
    if family.on is None:
        with pytest.raises(OptionError, match=r"Think on not used by .*its chat template has no switch for thinking"):
            asked(tokenizer, think="on", strict=True)
        return
    prompt = asked(tokenizer, think="on", strict=True)
    assert ends(tokenizer, prompt, family.on)
    assert prompt.note == ""


def test_the_template_is_told_not_to_think_or_says_that_it_cannot(family: Family, tokenizer: Tokenizer) -> None:
    prompt = asked(tokenizer, think="off")
    if family.off is None:
        assert prompt.note.startswith("think off not used: ")
        with pytest.raises(OptionError, match="Think off not used by pocket: "):
            asked(tokenizer, think="off", strict=True)
        return
    assert prompt.note == ""
    assert not prompt.thinking
    assert ends(tokenizer, prompt, family.off)
    if family.asks:
        assert prompt.ids != asked(tokenizer, think="on").ids


def test_a_budget_ends_it_as_the_family_does(family: Family, tokenizer: Tokenizer) -> None:
    """Whatever closes the block is forced, and what follows is the answer."""
    if tokenizer.markers is None:
        assert asked(tokenizer, think=2).note == "think 2 not used: how this model would mark its thinking is not known"
        return
    prompt = asked(tokenizer, think=2)
    guide, made = ThinkingBudget(tokenizer, 2, prompt.thinking, Watch()), []
    if not prompt.thinking:
        made += tokenizer.inner.encode(tokenizer.markers[0], add_special_tokens=False)
    made += tokenizer.inner.encode(" a b c d", add_special_tokens=False)
    before = made
    for length in range(len(made) + 1):
        if guide.forced(made[:length]):
            before = made[:length]
            break
    end = guide.forced(before)
    assert end
    stream = TextStream(tokenizer, (), prompt.thinking)
    ids = [*before, *end, *tokenizer.inner.encode("It is 4.", add_special_tokens=False)]
    parts = [*map(stream.feed, ids), stream.finish()]
    assert "".join(a for _, a in parts).strip() == "It is 4."
    assert "".join(t for t, _ in parts).strip()
    assert not guide.forced(ids)
