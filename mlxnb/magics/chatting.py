"""`%mlxnb chat NAME`: shows a conversation, or changes it between two questions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..render import Table
from ..render.cells import Dot
from ..render.chats import WholeChat, chat_table
from ..render.numbers import plural

if TYPE_CHECKING:
    from ..runtime.chats import Chat


def on_chat(options: argparse.Namespace) -> Table | WholeChat:
    """Do what the line says, and what to show of it.

    Raises:
        ConversationError: there is no such conversation or turn, or a file is damaged.
    """
    from .. import engine

    chats = engine().chats
    if options.what == "load":
        return _said(chats.load(options.name, options.last), f"loaded from {options.last}")
    chat = chats[options.name]
    return _DO[options.what](chat, options)


def _undo(chat: Chat, options: argparse.Namespace) -> Table:
    chat.undo()
    return _said(chat, "its last turn forgotten")


def _clear(chat: Chat, options: argparse.Namespace) -> Table:
    chat.clear()
    return _said(chat, "forgotten")


def _fork(chat: Chat, options: argparse.Namespace) -> Table:
    return _said(chat.fork(options.last, options.turn), f"forked from {chat.name}")


def _save(chat: Chat, options: argparse.Namespace) -> Table:
    return _said(chat, f"saved to {chat.save(options.last)}")


_DO: dict[str, Any] = {
    "show": lambda chat, options: WholeChat(chat),
    "undo": _undo,
    "clear": _clear,
    "fork": _fork,
    "save": _save,
}


def _said(chat: Chat, what: str) -> Table:
    row = (chat.name, Dot("success", what), plural(len(chat), "turn"))
    return chat_table(row)
