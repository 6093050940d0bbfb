"""Chat templates render as transformers renders them, and get no further than the sandbox."""

import jinja2
import pytest

import mlxnb.pocket
from mlxnb.backends.chat_template import render

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Is 1 < 2 && "so"? {{ not a template }} café'},
    {"role": "assistant", "content": "<think>hm</think>Yes."},
    {"role": "user", "content": "Sure?"},
]
TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "lines and a break": "{{ bos_token }}\n  {%- for m in messages %}\n    "
    "{% if loop.index > 3 %}{% break %}{% endif %}\n"
    "    {{ m.role | upper }}: {{ m.content | trim }}{{ eos_token }}\n  {% endfor %}\n",
    "json and namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{{ m | tojson }}{% endfor %}{{ ns.n }}{% if tools %}tools{% endif %}{{ messages[1:] | length }}",
    "a turn marked": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}[{{ m.content }}]{% endif %}{% endfor %}",
    "parts of a text": "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\n') }}|{% endfor %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_as_transformers_renders(name, prompt):
    transformers = pytest.importorskip("transformers", reason="transformers' templates are what these are held against")
    tokenizer = transformers.AutoTokenizer.from_pretrained(mlxnb.pocket.path())
    tokenizer.bos_token = "<|im_start|>"
    theirs = tokenizer.apply_chat_template(
        MESSAGES, chat_template=TEMPLATES[name], add_generation_prompt=prompt, tokenize=False
    )
    ours = render(TEMPLATES[name], MESSAGES, prompt=prompt, bos_token="<|im_start|>", eos_token="<|im_end|>")
    assert ours == theirs


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no system here') }}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{% if %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_what_a_template_may_not(template):
    with pytest.raises(jinja2.TemplateError):
        render(template, MESSAGES, prompt=True)
