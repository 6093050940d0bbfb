"""`load` on torch: what it gives, what it refuses by name, and when it takes an original in place of a conversion."""

from __future__ import annotations

import json
import shutil

import pytest

import mlxnb
import mlxnb.lm
from mlxnb.errors import ModelNotFoundError, OptionError, UnsupportedModelError
from mlxnb.lm.on_torch.tokenizer import TokenizerWrapper
from tests.adapters import draw_updates, write_mlx
from tests.models.stand_in_hub import Repository, serve

pytest.importorskip("torch")
mlx_lm = pytest.importorskip("mlx_lm")


def test_one_copy_however_often_it_is_loaded(ours, pocket32):
    again = mlxnb.lm.load(str(pocket32), return_config=True)
    assert again[2]["model_type"] == mlx_lm.load(str(pocket32), return_config=True)[2]["model_type"]
    assert [m.name for m in mlxnb.engine().models()].count(str(pocket32)) == 1
    assert mlxnb.lm.load_cached(str(pocket32))[0] is mlxnb.lm.load_cached(str(pocket32))[0]
    assert "on torch" in repr(again[0])
    assert again[0].info.dtype == "float32"


def test_what_was_unloaded_is_loaded_again(ours, pocket32):
    mlxnb.engine().unload(str(pocket32))
    assert mlxnb.lm.generate(*ours, "Hi", max_tokens=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_config": {"rope_scaling": None}}, "model_config is {'rope_scaling': None}"),
        ({"revision": "main"}, "no revisions"),
    ],
)
def test_options_that_torch_does_not_have_are_refused_by_name(options, said, pocket32):
    with pytest.raises(ValueError, match=said):
        mlxnb.lm.load(str(pocket32), **options)


def test_an_adapter_is_merged_on_torch(tmp_path, pocket32):
    """Another model of the same name, which says what mlx-lm says with the same folder."""
    updates = draw_updates(pocket32, ["model.layers.1.mlp.down_proj"], seed=2)
    adapter = write_mlx(tmp_path / "adapter", updates, 20.0)
    model, tokenizer = mlxnb.lm.load(str(pocket32), adapter_path=str(adapter))
    plain, _ = mlxnb.lm.load(str(pocket32))
    theirs = mlx_lm.load(str(pocket32), adapter_path=str(adapter))
    prompt = "<|im_start|>user\nWhat is a list?<|im_end|>\n<|im_start|>assistant\n"
    said = mlxnb.lm.generate(model, tokenizer, prompt, max_tokens=12)
    assert said == mlx_lm.generate(*theirs, prompt, max_tokens=12)
    assert said != mlxnb.lm.generate(plain, tokenizer, prompt, max_tokens=12)


def test_an_adapter_s_mistakes_are_of_mlx_lm_s_types(tmp_path, pocket32):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        mlxnb.lm.load(str(pocket32), adapter_path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no adapter"):
        mlxnb.lm.load(str(pocket32), adapter_path=str(tmp_path))


def test_options_without_an_effect_are_taken(pocket32):
    assert mlxnb.lm.load(str(pocket32), lazy=True, model_config={"quantize_activations": False}, trust_remote_code=True)


def test_errors_are_of_mlx_lm_s_types(tmp_path, pocket32):
    (tmp_path / "empty").mkdir()
    weightless = tmp_path / "weightless"
    weightless.mkdir()
    shutil.copy(pocket32 / "config.json", weightless)
    strange = tmp_path / "strange"
    shutil.copytree(pocket32, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "no_such_type"}))
    for folder, kind in (("empty", FileNotFoundError), ("weightless", FileNotFoundError), ("strange", ValueError)):
        for load in (mlxnb.lm.load, mlx_lm.load):
            with pytest.raises(kind):
                load(str(tmp_path / folder))
    with pytest.raises(ModelNotFoundError):
        mlxnb.lm.load(str(tmp_path / "absent"))
    (strange / "config.json").write_text(json.dumps({**config, "model_file": "model.py"}))
    for load in (mlxnb.lm.load, mlx_lm.load):
        with pytest.raises(ValueError, match=r"model\.py"):
            load(str(strange))


@pytest.fixture
def hub(tmp_path, monkeypatch, pocket32):
    """A hub with an original and a conversion of it that torch cannot read."""
    original = {path.name: path.read_bytes() for path in pocket32.iterdir() if path.name != "README.md"}
    config = json.loads(original["config.json"])
    quantised = {**config, "quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}
    foreign = {**original, "config.json": json.dumps(quantised).encode()}
    repositories = {
        "Qwen/Qwen3-0.1B": Repository(original),
        "mlx-community/Qwen3-0.1B-4bit": Repository(foreign),
        "mlx-community/somebody-4bit": Repository(foreign),
    }
    with serve(repositories) as served:
        for name, value in (("HF_HOME", tmp_path / "hf"), ("HF_ENDPOINT", served.url)):
            monkeypatch.setenv(name, str(value))
        for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield served


def test_a_conversion_that_cannot_be_read_becomes_its_original_with_a_word(hub, ours):
    with pytest.warns(UserWarning, match=r"mode 'mxfp4' .* Taken in its place: Qwen/Qwen3-0\.1B \(mlx-community/"):
        model, tokenizer = mlxnb.lm.load("mlx-community/Qwen3-0.1B-4bit")
    assert model.name == "Qwen/Qwen3-0.1B"
    assert mlxnb.lm.generate(model, tokenizer, "Hi", max_tokens=5) == mlxnb.lm.generate(*ours, "Hi", max_tokens=5)
    with pytest.raises(ValueError, match="mode 'mxfp4'"):  # no certain original: nothing is taken
        mlxnb.lm.load("mlx-community/somebody-4bit")
    assert not any("somebody" in m.name for m in mlxnb.engine().models())


def test_the_engine_itself_never_takes_another(hub):
    with pytest.raises(UnsupportedModelError, match=r"It was converted from Qwen/Qwen3-0\.1B, which torch may run"):
        mlxnb.engine().load("mlx-community/Qwen3-0.1B-4bit", backend="torch")


def test_a_revision_is_loaded_by_its_own_folder(hub):
    model, _ = mlxnb.lm.load("Qwen/Qwen3-0.1B", revision="a" * 40)
    assert "a" * 40 in model.name
    with pytest.raises(Exception, match="no revision 'nowhere'"):
        mlxnb.lm.load("Qwen/Qwen3-0.1B", revision="nowhere")


def test_the_tokenizer_behaves_as_mlx_lm_s(ours, theirs):
    a, b = ours[1], theirs[1]
    messages = [{"role": "user", "content": "café"}]
    for options in ({}, {"add_generation_prompt": True}, {"tokenize": False}, {"enable_thinking": False}):
        assert a.apply_chat_template(messages, **options) == b.apply_chat_template(messages, **options)
    for name in ("eos_token_ids", "eos_token_id", "has_thinking", "think_start", "think_end",
                 "has_chat_template", "has_tool_calling", "tool_call_start", "chat_template", "bos_token", "vocab_size",
                 "think_start_id"):  # fmt: skip
        assert getattr(a, name) == getattr(b, name), name
    assert len(a) == len(b)
    assert a.encode("x = 1") == b.encode("x = 1")
    with pytest.raises(AttributeError):
        a.no_such_thing  # noqa: B018
    a.add_eos_token("5")
    a.pad_token = "<|im_end|>"
    assert 5 in a.eos_token_ids
    assert a._tokenizer.pad_token == "<|im_end|>"
    a.eos_token_ids = [7]
    assert a.eos_token_ids == {7}


@pytest.mark.parametrize("text", [" leading", "café ☃ 🎉", "a\n\n  b", "x<|im_end|>y", "", "tail ☃"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_detokenizer_adds_up_to_mlx_lm_s(ours, theirs, text, cut):
    ids = ours[1].encode(text)
    ids = ids[: len(ids) - cut]  # in the middle of a character, perhaps
    pieces = []
    for wrapper in (ours[1], theirs[1]):
        detokenizer, segments = wrapper.detokenizer, []
        for token in ids:
            detokenizer.add_token(token)
            segments.append(detokenizer.last_segment)
        detokenizer.finalize()
        segments.append(detokenizer.last_segment)
        assert "".join(segments) == detokenizer.text
        assert list(detokenizer.tokens) == ids
        pieces.append(detokenizer.text)
    assert pieces[0] == pieces[1]


def test_thinking_markers_are_found_and_templates_told(tmp_path, pocket32):
    from transformers import AutoTokenizer

    inner = AutoTokenizer.from_pretrained(pocket32)
    inner.add_tokens(["<think>", "</think>"])
    inner.chat_template = "{{ messages[0]['content'] }}|{{ enable_thinking }}"
    wrapped = TokenizerWrapper(inner)
    assert wrapped.has_thinking
    assert (wrapped.think_start, wrapped.think_end) == ("<think>", "</think>")
    assert inner.convert_ids_to_tokens(wrapped.think_end_id) == "</think>"
    said = [wrapped.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, **o)
            for o in ({}, {"enable_thinking": False})]  # fmt: skip
    assert said == ["x|True", "x|False"]


def test_a_template_of_mlx_lm_s_own_is_refused_by_name(tmp_path, pocket32):
    shutil.copytree(pocket32, tmp_path / "m")
    file = tmp_path / "m" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template_type": "deepseek_v32"}))
    with pytest.raises(UnsupportedModelError, match="mlx-lm's own chat template 'deepseek_v32'"):
        mlxnb.lm.load(str(tmp_path / "m"))


def test_convert_refuses_by_name(tmp_path, pocket32):
    for options, said in (
        ({"upload_repo": "me/it"}, "upload_repo is 'me/it'"),
        ({"quantize": True, "q_mode": "mxfp4"}, "q_mode is 'mxfp4'"),
        ({"quantize": True, "quant_predicate": "mixed_9_9"}, "no mixed recipe 'mixed_9_9'"),
        ({"quantize": True, "quant_predicate": lambda path, module: True}, "quant_predicate is set"),
        ({"quantize": True, "dequantize": True}, "both given"),
        ({"dequantize": True}, "dequantize is True"),
        ({"quantize": True, "q_bits": 7}, "q_bits is 7"),
    ):
        with pytest.raises(OptionError, match=said):
            mlxnb.lm.convert(str(pocket32), str(tmp_path / "m"), **options)
    with pytest.raises(ValueError, match="already exists"):
        mlxnb.lm.convert(str(pocket32), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    mlxnb.lm.convert(str(pocket32), str(tmp_path / "m"), quantize=True, quant_predicate="mixed_4_6")
    with pytest.raises(ValueError, match="m is quantised already"):
        mlxnb.lm.convert(str(tmp_path / "m"), str(tmp_path / "again"))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
