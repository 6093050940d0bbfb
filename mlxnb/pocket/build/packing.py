"""Turn lessons into batches of token windows, with a mask over what the model must learn to say."""

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from .lessons import Chat, epoch
from .tokenizer import END, PAD, START

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor


class Window(NamedTuple):
    """Token ids, and whether each is learned."""

    ids: list[int]
    learn: list[bool]


class Shape(NamedTuple):
    """Windows of one length, how many make a batch, and the share of the chats that goes there."""

    length: int
    batch: int
    share: float


# Most windows are short because they train faster; the long ones make the declared context of 1,024 hold.
SHAPES = (Shape(256, 8, 0.78), Shape(1024, 2, 0.22))
OPEN_WINDOWS = 40  # windows that are filled at a time
MOST_SEEN = 30_000  # texts: the first epochs hold every answer
FULL = 24  # a window with fewer free places is done


class Encoder:
    """Encode chats in ChatML; text that comes again is looked up."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self.seen: dict[str, list[int]] = {}
        self.pad, self.start, self.end = tokenizer.encode(PAD + START + END, add_special_tokens=False).ids

    def text(self, text: str) -> list[int]:
        """Return the ids of plain text."""
        if text in self.seen:
            return self.seen[text]
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        if len(self.seen) < MOST_SEEN:
            self.seen[text] = ids
        return ids

    def opening(self, role: str) -> list[int]:
        """Return the ids that open a message."""
        return [self.start, *self.text(f"{role}\n")]

    def message(self, role: str, text: str) -> list[int]:
        """Return the ids of a message that is given, with its end."""
        return [*self.opening(role), *self.text(text), self.end, *self.text("\n")]

    def chat(self, chat: Chat) -> Window:
        """Encode a chat; only the answers and their ends are learned."""
        ids = self.message("system", chat.system) if chat.system else []
        learn = [False] * len(ids)
        for question, answer in chat.turns:
            given = self.message("user", question) + self.opening("assistant")
            said = [*self.text(answer), self.end]
            after = self.text("\n")
            ids = ids + given + said + after
            learn += [False] * len(given) + [True] * len(said) + [False] * len(after)
        return Window(ids, learn)

    def page(self, text: str) -> Window:
        """Encode a reference text; all of it is learned."""
        ids = [*self.text(text), self.pad]
        return Window(ids, [True] * len(ids))


def pack(documents: list[Window], length: int) -> list[Window]:
    """Put documents one after another into windows of at most `length` + 1 tokens, as in one long chat."""
    full: list[Window] = []
    filling: list[Window] = []
    for document in documents:
        ids, learn = document.ids[: length + 1], document.learn[: length + 1]
        for i, window in enumerate(filling):
            if len(window.ids) + len(ids) <= length + 1:
                window.ids.extend(ids)
                window.learn.extend(learn)
                if len(window.ids) > length - FULL:
                    full.append(filling.pop(i))
                break
        else:
            filling.append(Window(list(ids), list(learn)))
            if len(filling) > OPEN_WINDOWS:
                full.append(filling.pop(0))
    return full + filling


def batches(tokenizer: "Tokenizer", seed: int) -> Iterator[tuple["Tensor", "Tensor"]]:
    """Yield ids and mask of batch after batch, epoch after epoch, without an end."""
    encoder = Encoder(tokenizer)
    left: dict[Shape, list[Window]] = {shape: [] for shape in SHAPES}
    number = 0
    while True:
        number += 1
        rng = Random(seed * 100_000 + number)
        lessons = epoch(seed * 100_000 + number)
        documents = [encoder.chat(c) for c in lessons.chats] + [encoder.page(t) for t in lessons.texts]
        rng.shuffle(documents)
        ready: list[tuple[list[Window], int]] = []
        for shape in SHAPES:
            count = round(shape.share * len(documents)) if shape is not SHAPES[-1] else len(documents)
            mine, documents = documents[:count], documents[count:]
            windows = left[shape] + pack(mine, shape.length)
            rng.shuffle(windows)
            whole = len(windows) // shape.batch * shape.batch
            ready += [(windows[i : i + shape.batch], shape.length) for i in range(0, whole, shape.batch)]
            left[shape] = windows[whole:]
        rng.shuffle(ready)
        for group, length in ready:
            yield pad(group, length + 1, encoder.pad)


def pad(group: list[Window], length: int, filler: int) -> tuple["Tensor", "Tensor"]:
    """Stack windows, all filled up to one length, so that the compiled model sees few shapes."""
    import torch

    ids = torch.full((len(group), length), filler)
    learn = torch.zeros((len(group), length), dtype=torch.bool)
    for i, window in enumerate(group):
        ids[i, : len(window.ids)] = torch.tensor(window.ids)
        learn[i, : len(window.learn)] = torch.tensor(window.learn)
    return ids, learn
