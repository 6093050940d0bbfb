"""How models mark their thinking, family by family, and what splits it from the answer.

Sources: the chat templates and tokenizers of the families (many are in llama.cpp's models/templates), vLLM's list of
reasoning parsers (https://docs.vllm.ai/en/latest/features/reasoning_outputs), and for the formats of several tokens
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
    stands around the answer. `again`: a block may also open where the answer has begun, by tokens that nobody writes
    about; a tag such as <think> stands there for itself. `phrase`: they are plain words, which only a template tells.
    `answers` opens the answer where it is not what follows the block.
    """

    begin: str
    end: str
    tokens: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    again: bool = False
    phrase: bool = False
    answers: str = ""

    @property
    def pair(self) -> tuple[str, str]:
        """Both texts."""
        return self.begin, self.end

    def known_to(self, vocabulary: Collection[str], template: str) -> bool:
        """Whether a model with such tokens, or such a chat template, writes them. A template that only opens the block
        has no more of them than its beginning (Olmo 3).
        """
        if self.phrase:
            return self.end in template
        known = all(token in vocabulary for token in self.tokens or self.pair)
        return known or self.end in template or self.begin in template


HARMONY = Marks(
    f"{CHANNEL}{THINKS_IN}{MESSAGE}",
    f"{END}{START}assistant{CHANNEL}final{MESSAGE}",
    (START, CHANNEL, MESSAGE, END),
    answers=f"{CHANNEL}final{MESSAGE}",
)
FAMILIES = (
    Marks("Here is my thought process:", "Here is my response:", phrase=True),  # Granite 3.2
    Marks(  # Apriel
        "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", dropped=("[END FINAL RESPONSE]",), phrase=True
    ),
    Marks("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax, Nemotron, SmolLM, Phi, Granite and most others
    Marks("<mm:think>", "</mm:think>"),  # MiniMax M3
    Marks("<longcat_think>", "</longcat_think>"),
    Marks("<|think:start|>", "<|think:end|>", again=True),  # Solar Open 2
    Marks("[THINK]", "[/THINK]"),  # Mistral
    Marks("<seed:think>", "</seed:think>"),  # Seed-OSS
    Marks("<thought>", "</thought>"),  # EXAONE Deep
    Marks("◁think▷", "◁/think▷"),  # Kimi k1.5 and Kimi-VL
    Marks("<|START_THINKING|>", "<|END_THINKING|>", again=True),  # Cohere
    Marks("<|inner_prefix|>", "<|inner_suffix|>", again=True),  # Apertus
    Marks("<|channel>thought", "<channel|>", ("<|channel>", "<channel|>"), again=True),  # Gemma 4
    Marks(  # Kimi K3
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"),
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
        again=True,
    ),
    HARMONY,  # gpt-oss
)
# What some families put around the answer once they have thought; their templates take it off earlier turns, or ask
# for it (Granite 3.3, Hunyuan), or it is two of their tokens (Ernie).
WRAPPERS = (("<response>", "</response>"), ("<answer>", "</answer>"))
# Those that are known where they open an answer, whoever wrote it.
THINKING_MARKERS = tuple(marks.pair for marks in FAMILIES if not marks.phrase)
_BY_PAIR: dict[tuple[str, ...], Marks] = {marks.pair: marks for marks in FAMILIES}


def markers_of(vocabulary: Collection[str], template: str = "") -> tuple[str, str] | None:
    """The texts around a model's thinking; None for one that marks none in a way that is known here."""
    return next((marks.pair for marks in FAMILIES if marks.known_to(vocabulary, template)), None)


def wrapping_of(vocabulary: Collection[str], template: str) -> tuple[tuple[str, str], ...]:
    """The pairs of tags around the answers of a model with such tokens, or such a chat template, which are no part of
    them.
    """
    return tuple(pair for pair in WRAPPERS if any(all(tag in held for tag in pair) for held in (vocabulary, template)))


def leads(markers: tuple[str, str]) -> tuple[dict[str, bool], dict[str, bool]]:
    """The texts that may stand before the answer of a model with such markers, at the beginning and after a block of
    thinking, each with whether it opens one. None after a block: the answer follows at once.
    """
    answers = _BY_PAIR[markers].answers if markers in _BY_PAIR else ""
    if not answers:
        return {markers[0]: True}, {}
    turn = f"{START}assistant"
    return {markers[0]: True, answers: False}, {turn + markers[0]: True, turn + answers: False}


def visible(markers: tuple[str, ...], special: Collection[str]) -> set[str]:
    """The special tokens that must stay in the text for what is between `markers` to be told from the answer; the first
    two are those of thinking, where the model marks that.
    """
    pair = markers[:2]
    dropped = _BY_PAIR[pair].dropped if pair in _BY_PAIR else ()
    text = "".join((*markers, *dropped, CONSTRAIN if pair == HARMONY.pair else ""))
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


def splitter(markers: tuple[str, str] | None, inside: bool = False) -> Splitter:
    """What splits the text of a model with such markers; `inside` where its prompt opened the block already."""
    if markers == HARMONY.pair:
        return HarmonySplitter(inside)
    marks = _BY_PAIR.get(markers) if markers is not None else None
    return ThinkingSplitter(markers, inside, marks.dropped if marks else (), again=marks.again if marks else False)


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
