"""The weights that ship: their layout, that two libraries read them alike, that they quantise and that they answer."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

import mlxnb.pocket
from mlxnb.runtime import Engine

FOLDER = mlxnb.pocket.path()
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
ASKED = (
    "What does itertools.chain do?",
    "What is the signature of json.dumps?",
    "Which module provides sqrt?",
    "Show me an example of math.comb.",
    "Hello!",
    "What is the capital of France?",
)
MOST_TOKENS = 80
FLOORS = {"tuning": 0.88, "unseen": 0.62}  # the card's figures are well above; 40 questions scatter by some 0.07


def chat(*contents: str) -> list[dict[str, str]]:
    """Make a chat in which user and assistant take turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


@pytest.fixture(scope="module")
def torch_answer() -> Any:
    """Answers greedily in float32 with transformers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()

    def answer(messages: list[dict[str, str]]) -> str:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = model.generate(**ids, max_new_tokens=MOST_TOKENS, do_sample=False)
        return str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))

    return answer


def test_the_folder_holds_the_hugging_face_layout() -> None:
    assert {path.name for path in FOLDER.iterdir()} >= FILES
    assert (FOLDER / "MODEL_CARD.md").exists()


def test_everything_together_stays_under_ten_megabytes() -> None:
    package = Path(mlxnb.pocket.__file__).parent
    files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files) <= 10_000_000


def test_the_configuration_names_both_ends_and_both_spellings_of_rope() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert config["head_dim"] == 64
    assert config["tie_word_embeddings"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert len(config["eos_token_id"]) == 2
    assert config["num_attention_heads"] > config["num_key_value_heads"]
    settings = json.loads((FOLDER / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_max_length"] == config["max_position_embeddings"]
    assert not (FOLDER / "chat_template.jinja").exists()


def test_every_matrix_ends_in_a_multiple_of_64() -> None:
    safetensors = pytest.importorskip("safetensors")
    pytest.importorskip("torch")
    with safetensors.safe_open(FOLDER / "model.safetensors", framework="pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    assert all(shape[-1] % 64 == 0 for shape in shapes.values() if len(shape) == 2), shapes


def test_the_template_renders_chatml() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    messages = [{"role": "system", "content": "Be brief."}, *chat("Hi", "Hello!", "What is len?")]
    shown = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    assert shown == "".join(parts) + "<|im_start|>assistant\n"
    assert tokenizer.decode(tokenizer(shown)["input_ids"]) == shown


def test_transformers_and_mlx_say_the_same_in_float32(torch_answer: Any) -> None:
    mx = pytest.importorskip("mlx.core")
    mlx_lm = pytest.importorskip("mlx_lm")
    model, tokenizer = mlx_lm.load(str(FOLDER))[:2]
    model.set_dtype(mx.float32)
    for question in ASKED:
        prompt = tokenizer.apply_chat_template(chat(question), add_generation_prompt=True)
        said = mlx_lm.generate(model, tokenizer, prompt=prompt, max_tokens=MOST_TOKENS)
        assert said == torch_answer(chat(question)), question


@pytest.mark.parametrize("bits", [4, 8])
def test_every_matrix_quantises_in_groups_of_64(bits: int) -> None:
    nn = pytest.importorskip("mlx.nn")
    mlx_lm = pytest.importorskip("mlx_lm")
    model, tokenizer = mlx_lm.load(str(FOLDER))[:2]
    nn.quantize(model, group_size=64, bits=bits)
    left = [name for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Embedding))]
    assert not left
    prompt = tokenizer.apply_chat_template(chat("What does math.sqrt do?"), add_generation_prompt=True)
    assert mlx_lm.generate(model, tokenizer, prompt=prompt, max_tokens=MOST_TOKENS).startswith("`math.sqrt` returns")


def test_a_chat_goes_on_about_the_same_name(torch_answer: Any) -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    said = torch_answer([system, *chat("What does json.dumps do?")])
    assert said.startswith("`json.dumps` ")
    said = torch_answer([system, *chat("What does json.dumps do?", said, "And its signature?")])
    assert said.startswith("The signature of `json.dumps` is:\n\n```python\njson.dumps(obj, ")
    assert said.endswith("\n```")


@pytest.mark.parametrize(
    ("question", "beginning"),
    [
        ("Hi!", "Hello!"),
        ("Who are you?", "I am the pocket model of mlxnb"),
        ("How do I join two paths?", "That is `os.path.join`:"),
        ("What is the capital of France?", "Sorry, I only know about Python's standard library"),
        ("What is numpy?", "Sorry, I only know about Python's standard library"),
    ],
)
def test_what_a_person_tries_first(torch_answer: Any, question: str, beginning: str) -> None:
    assert torch_answer(chat(question)).startswith(beginning)


def test_conversations_are_what_the_template_gives_and_the_model_answers() -> None:
    held = mlxnb.pocket.conversations()
    for asked, answer in held:
        assert asked.startswith("<|im_start|>user\n")
        assert asked.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert answer.endswith("<|im_end|>")
    engine = Engine(caching=False)
    try:
        found = [engine.generate(asked, raw=True, max_tokens=160).text for asked, _ in held[::4]]
    finally:
        engine.close()
    right = [text == answer.removesuffix("<|im_end|>") for text, (_, answer) in zip(found, held[::4], strict=True)]
    assert sum(right) / len(right) >= FLOORS["unseen"]


@pytest.mark.parametrize("part", list(FLOORS))
def test_held_out_questions_are_answered(part: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("tomllib")
    from mlxnb.pocket.build.evaluate import score, torch_answers
    from mlxnb.pocket.build.heldout import questions

    asked = Random(1).sample(questions(part, 60), 40)
    result = score(asked, torch_answers(FOLDER)([q.messages for q in asked]))["all"]
    assert result["right"] >= FLOORS[part]
