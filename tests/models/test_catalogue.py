"""From an MLX conversion to its original: certain, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.decision import Accepted, Rejected
from mlxnb.models.catalogue import EXCEPTIONS, original
from mlxnb.models.names import is_repository


@pytest.mark.parametrize(
    ("conversion", "first"),
    [
        ("Qwen2.5-0.5B-Instruct-4bit", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("Qwen3-0.6B-bf16", "Qwen/Qwen3-0.6B"),
        ("Qwen3-4B-4bit-DWQ", "Qwen/Qwen3-4B"),
        ("Qwen3-30B-A3B-Instruct-2507-4bit", "Qwen/Qwen3-30B-A3B-Instruct-2507"),
        ("QwQ-32B-8bit", "Qwen/QwQ-32B"),
        ("Llama-3.2-3B-Instruct-4bit", "meta-llama/Llama-3.2-3B-Instruct"),
        ("Meta-Llama-3-8B-Instruct-4bit", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("Llama-3-8B-Instruct-4bit", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("Meta-Llama-3.1-8B-Instruct-8bit", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama-2-7b-chat-hf-4bit", "meta-llama/Llama-2-7b-chat-hf"),
        ("gemma-3-1b-it-4bit", "google/gemma-3-1b-it"),
        ("Mistral-7B-Instruct-v0.3-4bit", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("Phi-3.5-mini-instruct-4bit", "microsoft/Phi-3.5-mini-instruct"),
        ("SmolLM-135M-Instruct-fp16", "HuggingFaceTB/SmolLM-135M-Instruct"),
    ],
)
def test_the_rule_and_the_table(conversion, first):
    decision = original(f"mlx-community/{conversion}")
    assert isinstance(decision, Accepted)
    assert decision.subject == first
    assert f"mlx-community/{conversion}" in decision.reason


@pytest.mark.parametrize(
    "name",
    [
        "mlx-community/Llama-3-8B-MyTune-4bit",  # somebody's own model with a family's name in front
        "mlx-community/Dolphin-2.9-Llama-3-8b-4bit",
        "mlx-community/Qwen3-0.6B",  # nothing says that it is a conversion of that name
        "somebody/Qwen3-0.6B-4bit",
        "pocket",
        "./folder",
        "",
    ],
)
def test_no_answer_where_it_is_not_certain(name):
    decision = original(name)
    assert isinstance(decision, Rejected)
    assert decision.reason
    assert decision.remedy


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,30}-(4bit|8bit|bf16|DWQ)", fullmatch=True))
def test_an_answer_keeps_the_whole_name(rest):
    """Another model is never given: what is left out is the suffix alone, or the name is in the table."""
    decision = original(f"mlx-community/{rest}")
    if decision and decision.subject not in EXCEPTIONS.values():
        assert rest.startswith(decision.subject.rpartition("/")[2] + "-")
        assert is_repository(decision.subject)


def card(folder, head):
    (folder / "README.md").write_text(f"---\n{head}---\n# text\nbase_model: x/y\n")
    return folder


@pytest.mark.parametrize(
    ("name", "head", "first"),
    [
        ("mlx-community/First-4bit", "library_name: mlx\nbase_model: lab/First\n", "lab/First"),
        ("mlx-community/Qwen3-0.6B-4bit", "base_model: lab/Qwen3-0.6B\n", "lab/Qwen3-0.6B"),
        ("me/first-bf16-4bit", "base_model:\n- lab/First-bf16\ntags:\n- mlx\n", "lab/First-bf16"),
        ("./models/First-8bit/", "base_model:\n  - 'lab/First' # where it came from\n", "lab/First"),
        ("me/First-q4", "base_model: [lab/First]\nbase_model_relation: quantized\n", "lab/First"),
        ("mlx-community/Llama-3-8B-4bit", "base_model: meta-llama/Meta-Llama-3-8B\n", "meta-llama/Meta-Llama-3-8B"),
        ("mlx-community/Qwen3-0.6B-4bit", "library_name: mlx\n", "Qwen/Qwen3-0.6B"),
    ],
)
def test_what_the_card_says_comes_first(tmp_path, name, head, first):
    decision = original(name, card(tmp_path, head))
    assert isinstance(decision, Accepted)
    assert decision.subject == first


@pytest.mark.parametrize(
    ("name", "head", "base"),
    [
        # A fine-tune's card, carried along by its conversion: the base is what the fine-tune began with.
        ("mlx-community/Hermes-2-Pro-Llama-3-8B-4bit", "base_model: NousResearch/Meta-Llama-3-8B\n", "NousResearch/"),
        ("me/First-4bit", "base_model: lab/First\nbase_model_relation: finetune\n", "a finetune"),
        ("mlx-community/Qwen3-0.6B-4bit", "base_model:\n- lab/one\n- lab/two\n", "lab/one and lab/two"),
        ("mlx-community/Qwen3-0.6B-4bit", "base_model:\n  - lab/one\n  - lab/two\n", "lab/one and lab/two"),
        ("mlx-community/Qwen3-0.6B-4bit", "base_model: [lab/one, lab/two]\n", "lab/one and lab/two"),
        ("mlx-community/Qwen3-0.6B-4bit", "base_model: ../../etc\n", "../../etc"),
    ],
)
def test_a_base_that_may_be_another_model_is_no_original(tmp_path, name, head, base):
    decision = original(name, card(tmp_path, head))
    assert isinstance(decision, Rejected)
    assert base in decision.reason


def test_a_card_with_another_system_s_line_ends(tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nbase_model: lab/First\r\n---\r\n")
    assert original("me/First-4bit", tmp_path).subject == "lab/First"


def test_a_configuration_speaks_where_no_card_does(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"base_model": "lab/Configured"}))
    assert original("me/Configured-4bit", tmp_path).subject == "lab/Configured"
    assert isinstance(original("me/another-4bit", tmp_path), Rejected)
    (tmp_path / "config.json").write_text(json.dumps({"base_model": 5}))
    assert isinstance(original("anything", tmp_path), Rejected)
