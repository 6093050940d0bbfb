"""A tokenizer in llama.cpp's terms: its tokens with their kinds, its merges, and the name of its way to split text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import TokenizerMissingError, UnsupportedModelError
from ..quiet import import_transformers
from .files import read_json
from .gguf_sentencepiece import is_byte, sentencepiece

if TYPE_CHECKING:
    from gguf import GGUFWriter

# What a token is, by the numbers of a GGUF file. Source: gguf's TokenType.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# Keys of ours, which other programs pass over: which tokens end a turn, and how text is normalised before it is split.
ENDS = "mlxnb.end_token_ids"
NORMALIZER = "mlxnb.normalizer"

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The regular expression that splits text, and whether whole words are looked up before merging, to llama.cpp's name.
SPLITS: Mapping[tuple[str, bool], str] = {
    (CONTRACTIONS + WORDS + r"\p{N}" + REST, False): "qwen2",
    (CONTRACTIONS + WORDS + r"\p{N}{1,3}" + REST, True): "llama-bpe",
    (CONTRACTIONS + WORDS + r"\p{N}{1,3}" + REST, False): "dbrx",
}


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """What a GGUF file says of a tokenizer. `model` is "gpt2" for byte-level BPE and "llama" for SentencePiece's."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unknown: int | None = None
    ends: tuple[int, ...] = ()
    adds_bos: bool = False
    adds_eos: bool = False
    space_prefix: bool = False
    normalizer: str = ""
    template: str = ""

    def write(self, writer: GGUFWriter) -> None:
        """Put it into the metadata."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        others = [end for end in self.ends if end != self.eos]
        for value, add in (
            (self.bos, writer.add_bos_token_id),
            (self.eos, writer.add_eos_token_id),
            (others[0] if others else None, writer.add_eot_token_id),
            (self.pad, writer.add_pad_token_id),
            (self.unknown, writer.add_unk_token_id),
        ):
            if value is not None:
                add(value)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(self.adds_eos)
        if self.model == "llama":
            writer.add_add_space_prefix(self.space_prefix)
        if self.ends:
            writer.add_array(ENDS, list(self.ends))
        if self.normalizer:
            writer.add_string(NORMALIZER, self.normalizer)
        if self.template:
            writer.add_chat_template(self.template)


def read_tokenizer(folder: Path) -> Any:
    """The transformers tokenizer of a model's folder; runs no code from there.

    Raises:
        TokenizerMissingError: it cannot be read.
    """
    transformers = import_transformers()
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as err:  # the Rust tokenizers raise plain Exception for a damaged file
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise TokenizerMissingError(
            f"The tokenizer in {folder.name} cannot be loaded: {reason}.", "Fetch the model again with its tokenizer."
        ) from err


def vocabulary_of(tokenizer: Any, folder: Path, size: int, name: str) -> GgufVocabulary:
    """A transformers tokenizer as `size` tokens in llama.cpp's terms, ids that it has none for filled up.

    Raises:
        UnsupportedModelError: it splits text in a way that llama.cpp has no name for.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        _refuse(name, "is not one of the tokenizers library")
    described = json.loads(fast.to_str())
    model = described["model"]
    if model.get("type") != "BPE":
        _refuse(name, f"is of the kind {model.get('type')}, not BPE")
    added = {entry["id"]: entry for entry in described["added_tokens"]}
    tokens, kinds = _tokens(model["vocab"], added, size, name)
    if model.get("byte_fallback"):
        fields = sentencepiece(described, tokens, name)
        kinds = [BYTE if is_byte(token) else kind for token, kind in zip(tokens, kinds, strict=True)]
        if tokenizer.unk_token_id is not None:
            kinds[tokenizer.unk_token_id] = UNKNOWN
    else:
        fields = _byte_level(described, name)
    bare = tokenizer.encode("a")
    return GgufVocabulary(
        tokens=tokens,
        kinds=kinds,
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        unknown=tokenizer.unk_token_id,
        ends=tuple(sorted(end_ids(folder, tokenizer.eos_token_id))),
        adds_bos=tokenizer.bos_token_id is not None and bare[:1] == [tokenizer.bos_token_id],
        adds_eos=len(bare) > 1 and bare[-1] == tokenizer.eos_token_id,
        template=_template(tokenizer.chat_template),
        **fields,
    )


def end_ids(folder: Path, eos: int | None) -> set[int]:
    """Every token that ends a turn: those of the generation config, the model config and the tokenizer."""
    ids = {eos}
    for file in (folder / "generation_config.json", folder / "config.json"):
        value = read_json(file).get("eos_token_id") if file.exists() else None
        ids |= set(value) if isinstance(value, list) else {value}
    return {i for i in ids if type(i) is int}


def _byte_level(described: Mapping[str, Any], name: str) -> dict[str, Any]:
    model = described["model"]
    pre = _split_name(described.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    if not pre:
        _refuse(name, "splits text in a way that llama.cpp has no name for")
    normalizer = (described.get("normalizer") or {}).get("type", "")
    if normalizer not in ("", "NFC"):
        _refuse(name, f"normalises text by {normalizer}")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    return {"model": "gpt2", "pre": pre, "merges": merges, "normalizer": normalizer}


def _split_name(pre: Mapping[str, Any] | None, ignores_merges: bool) -> str:
    """llama.cpp's name of a byte-level pre-tokenizer, "" where it has none."""
    steps = [] if pre is None else pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return ""
    first, by_regex = steps[:-1], steps[-1].get("use_regex", True)
    if not first:
        return "gpt-2" if by_regex and not ignores_merges else ""
    if len(first) > 1:
        return ""
    if first[0]["type"] == "Digits":
        return "smollm" if by_regex and first[0].get("individual_digits") and not ignores_merges else ""
    if first[0]["type"] != "Split" or by_regex or first[0]["behavior"] != "Isolated" or first[0].get("invert"):
        return ""
    return SPLITS.get((first[0]["pattern"].get("Regex", ""), ignores_merges), "")


def _tokens(
    vocabulary: Mapping[str, int], added: Mapping[int, Mapping[str, Any]], size: int, name: str
) -> tuple[list[str], list[int]]:
    tokens: list[str] = [""] * size
    kinds = [UNUSED] * size
    for token, number in vocabulary.items():
        if not 0 <= number < size:
            _refuse(name, f"has the token {number} and the model {size} embeddings")
        tokens[number], kinds[number] = token, NORMAL
    for number, entry in added.items():
        if number >= size:
            _refuse(name, f"has the token {number} and the model {size} embeddings")
        tokens[number], kinds[number] = entry["content"], CONTROL if entry["special"] else USER_DEFINED
    for number, kind in enumerate(kinds):
        if kind == UNUSED:
            tokens[number] = f"[unused {number}]"
    return tokens, kinds


def _template(given: Any) -> str:
    """The chat template; of several the one called default."""
    if isinstance(given, dict):
        given = given.get("default")
    return given if isinstance(given, str) else ""


def _refuse(name: str, problem: str) -> NoReturn:
    raise UnsupportedModelError(f"The tokenizer of {name} {problem}.", "Run the model on the torch or mlx backend.")
