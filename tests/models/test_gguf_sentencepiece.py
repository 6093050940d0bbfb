"""A tokenizer like SentencePiece's, made here, splits text in its GGUF file as the tokenizers library does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlxnb.errors import BackendMissingError, UnsupportedModelError
from mlxnb.models import ModelSource
from tests.tiny import save

pytest.importorskip("gguf", reason="gguf writes GGUF files")
pytest.importorskip("torch", reason="torch makes the model")
tokenizers = pytest.importorskip("tokenizers", reason="the tokenizer is made with it")

from mlxnb.models.gguf import to_gguf  # noqa: E402
from mlxnb.models.gguf_header import read_gguf  # noqa: E402

SPACE = "\u2581"
TEXT = [
    "the quick brown fox jumps over the lazy dog and the other dogs, who were sleeping there all day",
    "def function(argument, other=None): return [x for x in argument if x is not other]",
    "it was the best of times, it was the worst of times, it was the age of wisdom",
    "   four spaces    and more     spaces; tabs\tand lines\nand lines\n\n",
    "Über naïve Straßen, café, Ελλάδα",
] * 3  # fmt: skip


def make(folder: Path, prefix: bool = True) -> Path:
    """A tiny Llama with a tokenizer of bytes, characters and merges, saved as transformers saves such a model."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [tokenizers.normalizers.Prepend(SPACE)] if prefix else []
    tokenizer.normalizer = tokenizers.normalizers.Sequence([*steps, tokenizers.normalizers.Replace(" ", SPACE)])
    decoders = tokenizers.decoders
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [entry for entry in spec["added_tokens"] if entry["id"] < 3]
    spec["model"]["merges"] = all_merges(spec["model"]["vocab"])
    save("LlamaConfig", {"vocab_size": 640, "bos_token_id": 1, "eos_token_id": 2}, folder)
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    words = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def all_merges(vocabulary: dict[str, int]) -> list[list[str]]:
    """Every way to make a token out of two, in the order of the tokens: what a conversion from SentencePiece gives."""
    ways = [
        [token[:i], token[i:]]
        for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])
        for i in range(1, len(token))
        if not token.startswith("<") and token[:i] in vocabulary and token[i:] in vocabulary
    ]
    assert len(ways) > 150
    return ways


@pytest.fixture(scope="module", params=[True, False], ids=["prefix", "no prefix"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    import transformers

    folder = tmp_path_factory.mktemp("sentencepiece")
    path = make(folder / "model", request.param)
    file = to_gguf(ModelSource("llama", path, "path"), folder / "m.gguf", dtype="float32")
    return file, transformers.AutoTokenizer.from_pretrained(path)


def test_the_same_tokens(pair: Any) -> None:
    from mlxnb.models.llama_vocabulary import vocabulary_in

    file, theirs = pair
    with vocabulary_in(file) as ours:

        @settings(max_examples=300)
        @given(st.text(st.sampled_from([*"theqo fxdl\n\t ", "ü", "Ω", "🙂", SPACE]) | st.characters(codec="utf-8")))
        @example("the quick brown fox")
        @example("  the    lazy dog ")
        @example("one</s>two <s> three")
        def holds(text: str) -> None:
            ids = theirs.encode(text, add_special_tokens=False)
            assert ours.encode(text, add_special=False) == ids or not text

        holds()


def test_any_tokens_become_the_same_text(pair: Any) -> None:
    from mlxnb.backends.llamacpp_tokenizer import LlamaTokenizer
    from mlxnb.models.llama_vocabulary import vocabulary_in

    file, theirs = pair
    with vocabulary_in(file) as vocabulary:
        ours = LlamaTokenizer(vocabulary, read_gguf(file).metadata)

        @settings(max_examples=300)
        @given(st.lists(st.integers(0, len(theirs) - 1) | st.integers(130, 260), max_size=20))
        def holds(ids: list[int]) -> None:
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)

        holds()


def test_it_answers_as_torch_does(pair: Any) -> None:
    from mlxnb.runtime import Engine

    file, _ = pair
    engine = Engine(caching=False)
    try:
        asked = {"raw": True, "max_tokens": 20}
        ours = engine.generate("the quick brown", model=str(file), backend="llamacpp", **asked)
        path = str(file.parent / "model")
        theirs = engine.generate("the quick brown", model=path, backend="torch", dtype="float32", **asked)
    finally:
        engine.close()
    assert ours.tokens == theirs.tokens
    assert ours.text == theirs.text
    assert read_gguf(file).metadata["tokenizer.ggml.model"] == "llama"


def test_without_llama_cpp_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "model")
    monkeypatch.setattr("mlxnb.models.gguf_check.installed", lambda: False)
    with pytest.raises(BackendMissingError, match=r"takes llama\.cpp to tell"):
        to_gguf(ModelSource("llama", path, "path"), tmp_path / "m.gguf")


def test_merges_that_scores_cannot_tell_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = make(tmp_path / "model")
    spec = json.loads((path / "tokenizer.json").read_text())
    assert ["t", "h"] in spec["model"]["merges"]
    spec["model"]["merges"].remove(["t", "h"])  # the token stays, and a score could not keep it from being made
    (path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(UnsupportedModelError, match="would split text otherwise"):
        to_gguf(ModelSource("llama", path, "path"), tmp_path / "m.gguf")


def test_other_ways_with_spaces_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "model")
    spec = json.loads((path / "tokenizer.json").read_text())
    spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, *spec["normalizer"]["normalizers"]]}
    (path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(UnsupportedModelError, match="handles spaces"):
        to_gguf(ModelSource("llama", path, "path"), tmp_path / "m.gguf")
