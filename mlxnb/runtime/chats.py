"""The conversations of an engine by name: what `--chat`, Python and panels ask in, and change between two questions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..conversation import Conversation, load, save
from ..errors import ConversationError, OptionError
from ..request import Request
from ..result import Result
from ..schema import Schema
from ..toolbox import Function, as_tool, named
from .exchange import ROUNDS, Exchange, Front, Silent, Terms
from .overflow import ERROR

if TYPE_CHECKING:
    from .engine import Engine


class Chat:
    """A conversation under a name. It grows by whole turns only: what fails or is interrupted leaves it as it was."""

    def __init__(self, chats: Chats, name: str, conversation: Conversation | None = None) -> None:
        self._chats, self.name = chats, name
        self.conversation = conversation or Conversation()
        self.last: Result | None = None
        self._lock = Lock()

    def ask(
        self,
        prompt: str,
        *,
        system: str | None = None,
        tools: Iterable[Function] = (),
        allow: Iterable[Function | str] = (),
        overflow: str = ERROR,
        rounds: int = ROUNDS,
        **options: Any,
    ) -> Result:
        """Ask the next question and wait for the answer.

        Args:
            system: a system message, in the place of an earlier one.
            tools: annotated functions that the model may ask to call, `allow` those of them that are then run.
            overflow: where the context is full: "error", "drop" the oldest turns, or "summarise" them.
            rounds: of calls before the answer, at most.
            **options: as for `Engine.generate`.

        Raises:
            OptionError: an option is wrong, or the model called what was not allowed.
            ConversationError: it is being asked at this moment.
            GenerationError: no answer after so many rounds.
            MlxnbError: what `Engine.generate` raises.
        """
        functions = named(tools)
        allowed = frozenset(each if isinstance(each, str) else as_tool(each).name for each in allow)
        terms = Terms(overflow, functions, allowed, rounds)
        if options.get("schema") is not None and options.pop("schema_in_prompt", False):
            prompt = f"{prompt}\n\n{Schema.of(options['schema']).said()}"  # it is part of what is said, and kept
        talk = self.conversation.asked(prompt, system)
        request = Request.of(talk.given(), tools=functions.values(), **options)
        return self.take(talk, request, terms)

    def take(
        self,
        talk: Conversation,
        request: Request,
        terms: Terms,
        front: Front | None = None,
        instead_of: Conversation | None = None,
    ) -> Result:
        """Ask what `talk` ends with, which is `conversation.asked(…)`, with the options of `request`. For fronts.

        One that goes on from an earlier turn, `conversation.upto(…).asked(…)`, says with `instead_of` which whole
        conversation it takes the place of, once there is an answer.

        Raises:
            ConversationError: it is being asked at this moment, or was changed since `talk` was made of it.
            MlxnbError: what a turn raises.
        """
        with self._alone():
            same = talk.follows(self.conversation) if instead_of is None else instead_of == self.conversation
            if not same:
                raise ConversationError(f"{self.name} has changed meanwhile.", "Ask again.")
            engine = self._chats.engine
            goes_on = instead_of is None and talk.system == self.conversation.system and not terms.tools
            last = self.last if goes_on and self.last is not None and not self.last.tool_calls else None
            keeps = self._chats.holds(self)
            exchange = Exchange(engine, talk, request, terms, front or Silent(engine), last, keeps)
            result = exchange.run()
            # One that was interrupted or is empty leaves the conversation as it was.
            if result.finish_reason != "interrupted" and result.text.strip():
                self.conversation, self.last = exchange.talk.by(request.model), result
            return result

    def undo(self) -> None:
        """Forget the last turn.

        Raises:
            ConversationError: there is none, or it is being asked at this moment.
        """
        with self._alone():
            self.conversation, self.last = self.conversation.undone(), None

    def fork(self, name: str, turn: int | None = None) -> Chat:
        """Another conversation that begins with the first `turn` turns of this one, all of them where that is None.

        Raises:
            ConversationError: there are not so many turns, or there is a conversation of that name.
        """
        whole = self.conversation
        return self._chats.add(name, whole if turn is None else whole.upto(turn))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; where it is now.

        Raises:
            ConversationError: it cannot be written there.
        """
        return save(self.conversation, path)

    def clear(self) -> None:
        """Forget all of it.

        Raises:
            ConversationError: it is being asked at this moment.
        """
        self.become(Conversation())

    def become(self, conversation: Conversation) -> None:
        """Go on with another conversation in the place of this one.

        Raises:
            ConversationError: it is being asked at this moment.
        """
        with self._alone():
            self.conversation, self.last = conversation, None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise ConversationError(f"{self.name} is being answered.", "Wait, or ask in a fork of it.")
        try:
            yield
        finally:
            self._lock.release()

    def __len__(self) -> int:
        """Its turns."""
        return len(self.conversation.turns)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Chat {self.name!r}, {len(self)} turns>"


class Chats:
    """Conversations by name, for as long as the engine lives; those without a turn are not listed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._held: dict[str, Chat] = {}

    def open(self, name: str) -> Chat:
        """The conversation of a name, a new one where there is none.

        Raises:
            OptionError: it is no name.
        """
        if not isinstance(name, str) or not name.strip():
            raise OptionError(f"A conversation's name is {name!r}.", "It takes a word, such as trip.")
        return self._held.setdefault(name, Chat(self, name))

    def holds(self, chat: Chat) -> bool:
        """Whether a conversation is one of these, and not one that nobody can go on with."""
        return self._held.get(chat.name) is chat

    def __getitem__(self, name: str) -> Chat:
        """A conversation that has begun.

        Raises:
            ConversationError: there is none of that name.
        """
        if name in list(self):
            return self._held[name]
        near = difflib.get_close_matches(name, list(self), n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"There are {', '.join(self) or 'none yet'}."
        raise ConversationError(f"There is no conversation {name!r}.", remedy)

    def __iter__(self) -> Iterator[str]:
        held = list(self._held.items())  # another thread may open one meanwhile
        return iter([name for name, chat in held if chat.conversation.messages])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, name: str, conversation: Conversation) -> Chat:
        """A conversation under a new name.

        Raises:
            ConversationError: there is one of that name.
            OptionError: it is no name.
        """
        chat = self.open(name)
        if chat.conversation.messages:
            raise ConversationError(f"There is a conversation {name!r}.", "Take another name, or clear that one.")
        chat.become(conversation)
        return chat

    def load(self, name: str, path: str | Path) -> Chat:
        """A saved conversation under a new name.

        Raises:
            ConversationError: the file is damaged or none, or there is a conversation of that name.
        """
        return self.add(name, load(path))
