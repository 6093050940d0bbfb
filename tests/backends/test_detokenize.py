"""Streamed text is the decoded text, and no character is shown in pieces."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers

import mlxnb.pocket
from mlxnb.backends.detokenize import LONGEST_WAIT, Detokenizer


def byte_level() -> Fast:
    return Fast.from_file(str(mlxnb.pocket.path() / "tokenizer.json"))


def sentencepiece_like() -> Fast:
    """A tokenizer that writes spaces as U+2581 and unknown bytes as <0xNN>, as Llama 2 and Gemma do."""
    words = ["\u2581", "\u2581a", "b", "\u2581\u2581", "c\u2581", "é", "\u2581the"]
    vocabulary = {token: i for i, token in enumerate([*(f"<0x{i:02X}>" for i in range(256)), *words])}
    fast = Fast(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return fast


TOKENIZERS = {"byte-level": byte_level(), "sentencepiece": sentencepiece_like()}


def stream(fast: Fast, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(lambda window: fast.decode(window))
    return [*(detokenizer.feed(i) for i in ids), detokenizer.finish()]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300)
@given(data=st.data())
def test_pieces_of_any_tokens_join_to_the_whole(name, data):
    fast = TOKENIZERS[name]
    # Byte-fallback decoders spoil good bytes that stand next to bad ones, so SentencePiece gets whole words only.
    first = 3 if name == "byte-level" else 256
    ids = data.draw(st.lists(st.integers(first, fast.get_vocab_size() - 1), max_size=30))
    whole = fast.decode(ids)
    assert "".join(stream(fast, ids)).rstrip("\ufffd") == whole.rstrip("\ufffd")


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd\u2581"), max_size=40))
def test_no_piece_of_real_text_has_a_replacement_character(name, text):
    fast = TOKENIZERS[name]
    ids = fast.encode(text, add_special_tokens=False).ids
    pieces = stream(fast, ids)
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) == fast.decode(ids)


def test_tokens_that_begin_and_end_inside_characters():
    """No token boundary falls on a character's, so that some bytes are always waiting."""
    whole = ("日本語の文章を書いています。今日はいい天気です。" * 2).encode()
    tokens = [whole[:2], *(whole[i : i + 3] for i in range(2, len(whole), 3))]
    detokenizer = Detokenizer(lambda window: b"".join(tokens[i] for i in window).decode(errors="replace"))
    pieces = [*(detokenizer.feed(i) for i in range(len(tokens))), detokenizer.finish()]
    assert "".join(pieces) == whole.decode()
    assert sum(map(bool, pieces)) > 40  # and it comes as it goes


def test_a_character_cut_off_at_the_end_is_left_out():
    fast = TOKENIZERS["byte-level"]
    ids = fast.encode("ok \N{COMPASS}", add_special_tokens=False).ids
    assert "".join(stream(fast, ids[:-1])) == "ok "


def test_damaged_bytes_do_not_hold_text_back_for_ever():
    fast = TOKENIZERS["sentencepiece"]
    byte = fast.token_to_id("<0xE2>")
    pieces = stream(fast, [byte] * (LONGEST_WAIT + 2))
    assert any(pieces[:-1])


def test_the_pocket_tokenizer_is_the_one_on_disk():
    vocabulary = json.loads((mlxnb.pocket.path() / "tokenizer.json").read_text())["model"]["vocab"]
    assert TOKENIZERS["byte-level"].get_vocab_size() >= len(vocabulary)
