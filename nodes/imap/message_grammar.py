"""Reading the commands on messages (RFC 3501 6.4, RFC 4315, RFC 6851), but for SEARCH."""

from collections.abc import Callable
from typing import cast, get_args

from nodes.imap import commands
from nodes.imap.commands import Attribute, Command, FetchItem, Section
from nodes.imap.content_grammar import content_item
from nodes.imap.cursor import ITEMS_LIMIT, Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.section_grammar import read_section
from nodes.imap.sync_grammar import fetch_modifiers, store_modifiers


def _expunge(cursor: Cursor) -> Command:
    return commands.Expunge(None)


def _uid_expunge(cursor: Cursor) -> Command:
    cursor.space()
    return commands.Expunge(cursor.sequence_set())


def _store(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        cursor.space()
        since = store_modifiers(cursor)
        mode: commands.Mode = "add" if cursor.accept(b"+") else "remove" if cursor.accept(b"-") else "replace"
        cursor.expect(b"FLAGS")
        silent = cursor.accept(b".SILENT")
        cursor.space()
        if cursor.peek() == b"(":
            return commands.Store(messages, mode, cursor.flag_list(), silent, by_uid, since)
        flags = [cursor.flag()]
        while cursor.accept(b" "):
            flags.append(cursor.flag())
        return commands.Store(messages, mode, tuple(flags), silent, by_uid, since)

    return read


def _copy(move: bool, by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        cursor.space()
        return commands.Copy(messages, cursor.mailbox(), move, by_uid)

    return read


def _fetch(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        cursor.space()
        items = _fetch_items(cursor)
        if by_uid and "UID" not in items:  # RFC 3501 6.4.8
            items = ("UID", *items)
        since = fetch_modifiers(cursor, by_uid)
        if since.modseq is not None and "MODSEQ" not in items:  # RFC 7162 3.1.4.1
            items = (*items, "MODSEQ")
        return commands.Fetch(messages, items, by_uid, since.modseq, since.vanished, since.partial)

    return read


_MACROS: dict[str, tuple[Attribute, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_ATTRIBUTES = frozenset(get_args(Attribute))
_OLD_SECTIONS: dict[str, Section] = {
    "RFC822": Section(b"RFC822", (), "", frozenset(), None, peek=False),
    "RFC822.PEEK": Section(b"RFC822", (), "", frozenset(), None, peek=True),  # RFC 1730, and Outlook to this day
    "RFC822.HEADER": Section(b"RFC822.HEADER", (), "HEADER", frozenset(), None, peek=True),
    "RFC822.TEXT": Section(b"RFC822.TEXT", (), "TEXT", frozenset(), None, peek=False),
}


def _fetch_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    if not cursor.accept(b"("):
        macro = next((name for name in _MACROS if cursor.accept(name.encode())), None)
        return _MACROS[macro] if macro else (fetch_item(cursor),)
    items = [fetch_item(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        items.append(fetch_item(cursor))
        if len(items) > ITEMS_LIMIT:
            raise Refusal("too many items", "LIMIT")
    return tuple(dict.fromkeys(items))


def fetch_item(cursor: Cursor) -> FetchItem:
    """One fetch-att."""
    if cursor.accept(b"BODY.PEEK["):
        return read_section(cursor, peek=True)
    if cursor.accept(b"BODY["):
        return read_section(cursor, peek=False)
    if (content := content_item(cursor)) is not None:
        return content
    name = cursor.keyword()
    if name in _OLD_SECTIONS:
        return _OLD_SECTIONS[name]
    if name not in _ATTRIBUTES:
        raise BadCommand(f"unknown item {name[:40]}")
    return cast(Attribute, name)


COMMANDS: Readers = {
    "CHECK": lambda _: commands.Check(),
    "CLOSE": lambda _: commands.Close(),
    "UNSELECT": lambda _: commands.Unselect(),
    "EXPUNGE": _expunge,
    "FETCH": _fetch(False),
    "STORE": _store(False),
    "COPY": _copy(False, False),
    "MOVE": _copy(True, False),
}
UID_COMMANDS: Readers = {
    "EXPUNGE": _uid_expunge,
    "FETCH": _fetch(True),
    "STORE": _store(True),
    "COPY": _copy(False, True),
    "MOVE": _copy(True, True),
}
