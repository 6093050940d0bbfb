"""Prompts become the ids a model expects, and its special tokens stay out of the text, thinking markers excepted."""

import json
import shutil

import pytest

import mlxnb.pocket
from mlxnb.backends.row import TextStream
from mlxnb.backends.tokenizer import Tokenizer, check_context
from mlxnb.errors import DamagedModelError, PromptTooLongError, TokenizerMissingError
from mlxnb.request import Request


@pytest.fixture
def folder(tmp_path):
    """A copy of the pocket model's folder that a test may spoil."""
    return shutil.copytree(mlxnb.pocket.path(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


def edit(folder, name, **changes):
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, **changes}))


def test_chat_ids_are_those_of_the_template(folder):
    tokenizer = Tokenizer(folder)
    ids = tokenizer.prompt(Request.of("Where is sqrt?", system="Be brief.")).ids
    assert tokenizer.inner.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere is sqrt?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_every_end_token_counts(folder):
    edit(folder, "generation_config.json", eos_token_id=[0, 7])
    edit(folder, "config.json", eos_token_id=5)
    assert Tokenizer(folder).end_ids == {0, 2, 5, 7}


def test_a_raw_prompt_does_not_get_a_second_bos(folder):
    edit(folder, "tokenizer_config.json", bos_token="<|endoftext|>")
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = Tokenizer(folder)
    with_one, without = (tokenizer.prompt(Request.of(t, raw=True)).ids for t in ("<|endoftext|>hi", "hi"))
    assert with_one == without
    assert with_one.count(0) == 1


@pytest.mark.parametrize("special", [True, False])
def test_thinking_markers_are_found_whether_special_or_not(folder, special):
    tokenizer = Tokenizer(folder)
    tokenizer.inner.add_tokens(["[THINK]", "[/THINK]"], special_tokens=special)
    tokenizer.inner.save_pretrained(folder)
    tokenizer = Tokenizer(folder)
    assert tokenizer.markers == ("[THINK]", "[/THINK]")
    text = TextStream(tokenizer, (), thinking=False)
    said = "[THINK]The user greets me.[/THINK]Hello!<|im_start|>"
    parts = [text.feed(i) for i in tokenizer.inner.encode(said, add_special_tokens=False)] + [text.finish()]
    assert "".join(t for t, _ in parts) == "The user greets me."
    assert "".join(a for _, a in parts) == "Hello!"


def test_damaged_files_are_named(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [')
    with pytest.raises(DamagedModelError, match=r"generation_config\.json is not JSON"):
        Tokenizer(folder)
    (folder / "generation_config.json").unlink()
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"]["merges"] = [["no", "such"]]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(TokenizerMissingError, match="cannot be loaded"):
        Tokenizer(folder)


def test_the_context_must_leave_room_for_a_token():
    check_context(1023, 1024, "m")
    check_context(10**6, None, "m")
    with pytest.raises(PromptTooLongError, match="1024 tokens and m has a context of 1024"):
        check_context(1024, 1024, "m")
