"""How models mark their thinking, family by family, and what splits it from the answer.

Sources: the chat templates and tokenizers of the families, and for the formats of several tokens
https://cookbook.openai.com/articles/openai-harmony (gpt-oss) and
https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4 (Gemma 4).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from .split import ThinkingSplitter, held_length

START, CHANNEL, MESSAGE, END, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>"
THINKS_IN = "analysis"  # the channel of gpt-oss that is not meant for the reader


@dataclass(frozen=True, slots=True)
class Marks:
    """The text that opens a block of thinking, and the text that closes it so that the answer follows.

    `tokens` are those that a vocabulary must have, where they are not the two texts themselves; `dropped` what else
    stands around the answer.
    """

    begin: str
    end: str
    tokens: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """Both texts."""
        return self.begin, self.end

    def known_to(self, vocabulary: Collection[str], template: str) -> bool:
        """Whether a model with such tokens, or such a chat template, writes them."""
        return all(token in vocabulary for token in self.tokens or self.pair) or self.end in template


HARMONY = Marks(
    f"{CHANNEL}{THINKS_IN}{MESSAGE}",
    f"{END}{START}assistant{CHANNEL}final{MESSAGE}",
    (START, CHANNEL, MESSAGE, END),
)
FAMILIES = (
    Marks("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax, Nemotron, SmolLM, Phi, Granite and most others
    Marks("<longcat_think>", "</longcat_think>"),
    Marks("<|think:start|>", "<|think:end|>"),
    Marks("[THINK]", "[/THINK]"),  # Mistral
    Marks("<seed:think>", "</seed:think>"),  # Seed-OSS
    Marks("<thought>", "</thought>"),  # EXAONE Deep
    Marks("◁think▷", "◁/think▷"),  # Kimi k1.5 and Kimi-VL
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    Marks("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Marks("<|channel>thought", "<channel|>", ("<|channel>", "<channel|>")),  # Gemma 4
    Marks(  # Kimi K3
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"),
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
    ),
    HARMONY,  # gpt-oss
)
# What some families put around the answer once they have thought; their templates take it off earlier turns, or ask
# for it (Granite 3.3, Hunyuan).
WRAPPERS = (("<response>", "</response>"), ("<answer>", "</answer>"))
THINKING_MARKERS = tuple(marks.pair for marks in FAMILIES)
_DROPPED: dict[tuple[str, ...], tuple[str, ...]] = {marks.pair: marks.dropped for marks in FAMILIES}


def markers_of(vocabulary: Collection[str], template: str = "") -> tuple[str, str] | None:
    """The texts around a model's thinking; None for one that marks none in a way that is known here."""
    return next((marks.pair for marks in FAMILIES if marks.known_to(vocabulary, template)), None)


def wrapping_of(template: str) -> tuple[str, ...]:
    """The tags around the answers of a model with such a chat template, which are no part of them."""
    return tuple(tag for pair in WRAPPERS if all(tag in template for tag in pair) for tag in pair)


def visible(markers: tuple[str, ...], special: Collection[str]) -> set[str]:
    """The special tokens that must stay in the text for what is between `markers` to be told from the answer; the first
    two are those of thinking, where the model marks that.
    """
    pair = markers[:2]
    text = "".join((*markers, *_DROPPED.get(pair, ()), CONSTRAIN if pair == HARMONY.pair else ""))
    return {token for token in special if token in text}


class Splitter(Protocol):
    """Splits text into thinking and answer; `inside` while what comes is thinking."""

    inside: bool

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that `text` adds."""
        ...

    def finish(self) -> tuple[str, str]:
        """(thinking, answer) that was held back."""
        ...


def splitter(markers: tuple[str, str] | None, inside: bool = False, wrapping: tuple[str, ...] = ()) -> Splitter:
    """What splits the text of a model with such markers; `inside` where its prompt opened the block already. The tags
    in `wrapping` are left out.
    """
    if markers == HARMONY.pair:
        return HarmonySplitter(inside)
    return ThinkingSplitter(markers, inside, (*_DROPPED.get(markers, ()), *wrapping) if markers else ())


class HarmonySplitter:
    """Splits the messages of gpt-oss by their channel: `analysis` is thinking, `final` and `commentary` are for the
    reader. Their headers are left out, but for that of a tool call, which is the whole of what it says.
    """

    _tags = (START, CHANNEL, MESSAGE, END)

    def __init__(self, inside: bool = False) -> None:
        self.inside = inside
        self._held = ""
        self._header: str | None = None

    def feed(self, text: str) -> tuple[str, str]:
        """See Splitter.feed."""
        self._held += text
        parts = {True: "", False: ""}
        while found := [(at, tag) for tag in self._tags if (at := self._held.find(tag)) >= 0]:
            at, tag = min(found)
            before, self._held = self._held[:at], self._held[at + len(tag) :]
            self._say(before, parts)
            self._meet(tag, parts)
        ready = len(self._held) - held_length(self._held, self._tags)
        before, self._held = self._held[:ready], self._held[ready:]
        self._say(before, parts)
        return parts[True], parts[False]

    def finish(self) -> tuple[str, str]:
        """See Splitter.finish. A header that was not finished says nothing."""
        parts = {True: "", False: ""}
        self._say(self._held, parts)
        self._held = ""
        return parts[True], parts[False]

    def _say(self, text: str, parts: dict[bool, str]) -> None:
        if self._header is None:
            parts[self.inside] += text
        else:
            self._header += text

    def _meet(self, tag: str, parts: dict[bool, str]) -> None:
        if tag == START:
            self._header = ""
        elif tag == CHANNEL:
            self._header = (self._header or "") + CHANNEL
        elif tag == END:
            self._header, self.inside = None, False
        elif self._header is not None:
            role, _, channel = self._header.partition(CHANNEL)
            self.inside = channel.split()[:1] == [THINKS_IN]
            if "to=" in self._header:
                parts[self.inside] += f"{role.removeprefix('assistant')}{CHANNEL}{channel}{MESSAGE}"
            self._header = None
